// SPDX-License-Identifier: Apache-2.0
//
// `headlight health`: whether the server takes work, for people, scripts and container health checks.
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "client/cli/commands.h"
#include "client/cli/flags.h"
#include "client/report/text.h"

namespace headlight::client {
namespace {

using grpc::health::v1::HealthCheckResponse;

constexpr int64_t kHealthTimeoutMs = 5000;

struct HealthFlags {
  ServerFlags server;
  std::string service;
  bool json = false;
};

int RunHealth(const HealthFlags& flags, const Streams& streams) {
  const absl::StatusOr<Client> client = flags.server.Connect();
  if (!client.ok()) return Fail(streams, kExitUsage, client.status());
  const auto health = client->CheckHealth(flags.service, flags.server.timeout());
  if (!health.ok()) return Fail(streams, kExitFailed, health.status());
  const bool serving = *health == HealthCheckResponse::SERVING;
  const std::string& status = HealthCheckResponse::ServingStatus_Name(*health);
  if (flags.json) {
    const nlohmann::ordered_json json = {
        {"service", flags.service}, {"status", status}, {"serving", serving}};
    streams.out << FormatJson(json) << std::flush;
  } else {
    streams.out << status << std::endl;
  }
  return serving ? kExitOk : kExitFailed;
}

}  // namespace

void AddHealthCommand(CLI::App& app, Command& chosen) {
  auto flags = std::make_shared<HealthFlags>();  // shared with the parser, which fills it, and the command
  CLI::App* command = app.add_subcommand("health", "Ask whether the server takes work");
  AddServerFlags(*command, kHealthTimeoutMs, flags->server);
  command->add_option("--service", flags->service,
                      "Full gRPC name of one service, or models/NAME; the whole server if not given");
  command->add_flag("--json", flags->json, "Print one JSON object");
  command->footer(
      "Prints SERVING and ends with 0, or another status and ends with 1.\n"
      "--json keys: service, status, serving.\n"
      "Example: headlight health --server 127.0.0.1:8001");
  command->callback(
      [flags, &chosen] { chosen = [flags](const Streams& streams) { return RunHealth(*flags, streams); }; });
}

}  // namespace headlight::client
