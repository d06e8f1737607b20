// SPDX-License-Identifier: Apache-2.0
//
// `headlight models`: what the server holds.
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"
#include "client/cli/flags.h"
#include "client/cli/text.h"

namespace headlight::client {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kModelsTimeoutMs = 5000;

struct ModelsFlags {
  ServerFlags server;
  bool json = false;
};

// The fields of the Model message under their own names.
Json ToJson(const v1::Model& model) {
  return {
      {"name", model.name()},
      {"version", model.version()},
      {"embed_dim", model.embed_dim()},
      {"num_heads", model.num_heads()},
      {"num_kv_heads", model.num_kv_heads()},
      {"head_dim", model.head_dim()},
      {"kdim", model.kdim()},
      {"vdim", model.vdim()},
      {"scale", model.scale()},
      {"num_parameters", model.num_parameters()},
      {"precision", model.precision()},
      {"kernel", model.kernel()},
      {"max_message_bytes", model.max_message_bytes()},
  };
}

std::string ToTable(const v1::ListModelsResponse& response) {
  std::vector<std::vector<std::string>> rows = {{"model", "version", "embed_dim", "heads", "kv_heads",
                                                 "head_dim", "parameters", "precision", "kernel",
                                                 "max_message"}};
  for (const v1::Model& model : response.models()) {
    rows.push_back({model.name(), model.version(), absl::StrCat(model.embed_dim()),
                    absl::StrCat(model.num_heads()), absl::StrCat(model.num_kv_heads()),
                    absl::StrCat(model.head_dim()), absl::StrCat(model.num_parameters()), model.precision(),
                    model.kernel(), FormatBytes(model.max_message_bytes())});
  }
  return FormatTable(rows);
}

int RunModels(const ModelsFlags& flags, const Streams& streams) {
  const absl::StatusOr<Client> client = flags.server.Connect();
  if (!client.ok()) return Fail(streams, kExitUsage, client.status());
  const absl::StatusOr<v1::ListModelsResponse> response = client->ListModels(flags.server.timeout());
  if (!response.ok()) return Fail(streams, kExitFailed, response.status());
  if (flags.json) {
    Json models = Json::array();
    for (const v1::Model& model : response->models()) models.push_back(ToJson(model));
    streams.out << Json{{"models", models}}.dump(2) << std::endl;
  } else {
    streams.out << ToTable(*response) << std::flush;
  }
  return kExitOk;
}

}  // namespace

void AddModelsCommand(CLI::App& app, Command& chosen) {
  auto flags = std::make_shared<ModelsFlags>();  // shared with the parser, which fills it, and the command
  CLI::App* command = app.add_subcommand("models", "List the models that the server holds");
  AddServerFlags(*command, kModelsTimeoutMs, flags->server);
  command->add_flag("--json", flags->json, "Print one JSON object");
  command->footer("Example: headlight models --server 127.0.0.1:8001");
  command->callback(
      [flags, &chosen] { chosen = [flags](const Streams& streams) { return RunModels(*flags, streams); }; });
}

}  // namespace headlight::client
