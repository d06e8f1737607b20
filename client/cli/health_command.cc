// SPDX-License-Identifier: Apache-2.0
//
// `headlight health`: whether the server takes work, for people, scripts and container health checks.
#include <memory>
#include <string>

#include "client/cli/commands.h"
#include "client/cli/flags.h"

namespace headlight::client {
namespace {

using grpc::health::v1::HealthCheckResponse;

constexpr int64_t kHealthTimeoutMs = 5000;

struct HealthFlags {
  ServerFlags server;
  std::string service;
};

int RunHealth(const HealthFlags& flags, const Streams& streams) {
  const absl::StatusOr<Client> client = flags.server.Connect();
  if (!client.ok()) return Fail(streams, kExitUsage, client.status());
  const auto health = client->CheckHealth(flags.service, flags.server.timeout());
  if (!health.ok()) return Fail(streams, kExitFailed, health.status());
  streams.out << HealthCheckResponse::ServingStatus_Name(*health) << std::endl;
  return *health == HealthCheckResponse::SERVING ? kExitOk : kExitFailed;
}

}  // namespace

void AddHealthCommand(CLI::App& app, Command& chosen) {
  auto flags = std::make_shared<HealthFlags>();  // shared with the parser, which fills it, and the command
  CLI::App* command = app.add_subcommand("health", "Ask whether the server takes work");
  AddServerFlags(*command, kHealthTimeoutMs, flags->server);
  command->add_option("--service", flags->service,
                      "Full gRPC name of one service; the whole server if not given");
  command->footer(
      "Prints SERVING and ends with 0, or ends with 1.\nExample: headlight health --server 127.0.0.1:8001");
  command->callback(
      [flags, &chosen] { chosen = [flags](const Streams& streams) { return RunHealth(*flags, streams); }; });
}

}  // namespace headlight::client
