// SPDX-License-Identifier: Apache-2.0
//
// `headlight models`: what the server holds.
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/commands.h"
#include "client/cli/flags.h"
#include "client/report/text.h"

namespace headlight::client {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kModelsTimeoutMs = 5000;
constexpr int64_t kLoadTimeoutMs = 600'000;  // a large model from a cold disk takes minutes

struct ModelsFlags {
  ServerFlags server;
  bool json = false;
  std::string load;    // model to load; empty: none
  std::string unload;  // likewise
};

Json RopeJson(const v1::Rope& rope) {
  return {
      {"theta", rope.theta()},
      {"rotary_dim", rope.rotary_dim()},
      {"interleaved", rope.interleaved()},
      {"scaling", v1::Rope::Scaling_Name(rope.scaling())},
      {"factor", rope.factor()},
      {"low_freq_factor", rope.low_freq_factor()},
      {"high_freq_factor", rope.high_freq_factor()},
      {"original_max_len", rope.original_max_len()},
      {"magnitude", rope.magnitude()},
  };
}

Json Outputs(const v1::Model& model) {
  Json kinds = Json::array();
  for (const int kind : model.outputs()) {
    kinds.push_back(v1::OutputKind_Name(static_cast<v1::OutputKind>(kind)));
  }
  return kinds;
}

Json RefusedOutputs(const v1::Model& model) {
  Json refused = Json::array();
  for (const v1::RefusedOutput& output : model.refused_outputs()) {
    refused.push_back({{"kind", v1::OutputKind_Name(output.kind())}, {"reason", output.reason()}});
  }
  return refused;
}

Json PoolingParts(const v1::Model& model) {
  Json modes = Json::array();
  for (const int mode : model.pooling_parts()) {
    modes.push_back(v1::PoolingMode_Name(static_cast<v1::PoolingMode>(mode)));
  }
  return modes;
}

// The fields of the Model message under their own names; null what is absent.
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
      {"precision_asked", model.precision_asked()},
      {"precision_note", model.precision_note()},
      {"parameters_precision", model.parameters_precision()},
      {"precision_error",
       {{"max_abs", model.precision_error().max_abs()},
        {"rms", model.precision_error().rms()},
        {"cosine", model.precision_error().cosine()}}},
      {"rope", model.has_rope() ? RopeJson(model.rope()) : Json()},
      {"alibi", model.alibi()},
      {"logit_softcap", model.logit_softcap()},
      {"window_left", model.has_window_left() ? Json(model.window_left()) : Json()},
      {"window_right", model.has_window_right() ? Json(model.window_right()) : Json()},
      {"add_bias_kv", model.add_bias_kv()},
      {"add_zero_attn", model.add_zero_attn()},
      {"num_appended_keys", model.num_appended_keys()},
      {"load_error", model.load_error()},
      {"num_layers", model.num_layers()},
      {"hidden_dim", model.hidden_dim()},
      {"causal", model.causal()},
      {"takes_key", model.takes_key()},
      {"takes_token_ids", model.takes_token_ids()},
      {"vocab_size", model.vocab_size()},
      {"num_token_types", model.num_token_types()},
      {"max_seq_len", model.max_seq_len()},
      {"pooling", v1::PoolingMode_Name(model.pooling())},
      {"normalize_pooled", model.normalize_pooled()},
      {"pooling_parts", PoolingParts(model)},
      {"pooled_dim", model.pooled_dim()},
      {"no_pooling", model.no_pooling()},
      {"outputs", Outputs(model)},
      {"num_labels", model.num_labels()},
      {"labels", std::vector<std::string>(model.labels().begin(), model.labels().end())},
      {"token_vector_dim", model.token_vector_dim()},
      {"refused_outputs", RefusedOutputs(model)},
      {"layout", model.layout()},
  };
}

// "bf16", or "f32 (asked: bf16)" where the server could not do so; "f32, parameters int8".
std::string PrecisionText(const v1::Model& model) {
  std::string text = model.precision();
  if (!model.precision_asked().empty() && model.precision_asked() != model.precision()) {
    absl::StrAppend(&text, " (asked: ", model.precision_asked(), ")");
  }
  if (!model.parameters_precision().empty()) {
    absl::StrAppend(&text, ", parameters ", model.parameters_precision());
  }
  return text;
}

// "rope, window 255 before", or "-" for a plain model.
std::string ScoresText(const v1::Model& model) {
  std::vector<std::string> parts;
  if (model.has_rope()) parts.push_back("rope");
  if (model.alibi()) parts.push_back("alibi");
  if (model.logit_softcap() != 0) parts.push_back(absl::StrCat("softcap ", model.logit_softcap()));
  if (model.has_window_left()) parts.push_back(absl::StrCat("window ", model.window_left(), " before"));
  if (model.has_window_right()) parts.push_back(absl::StrCat("window ", model.window_right(), " after"));
  if (model.causal()) parts.push_back("causal");
  if (model.num_appended_keys() > 0)
    parts.push_back(absl::StrCat("appended keys ", model.num_appended_keys()));
  return parts.empty() ? "-" : absl::StrJoin(parts, ", ");
}

// "ids below 30522", or "embeddings"; with the longest sequence where there is one.
std::string InputText(const v1::Model& model) {
  std::string text = model.takes_token_ids() ? absl::StrCat("ids below ", model.vocab_size()) : "embeddings";
  if (model.max_seq_len() > 0) absl::StrAppend(&text, ", at most ", model.max_seq_len());
  return text;
}

// "mean", "mean+cls, normalized", or "-".
std::string PoolingText(const v1::Model& model) {
  std::string modes;
  for (const int mode : model.pooling_parts()) {
    absl::StrAppend(&modes, modes.empty() ? "" : "+", PoolingName(static_cast<v1::PoolingMode>(mode)));
  }
  if (modes.empty()) modes = PoolingName(model.pooling());  // a server that knows one mode alone
  return absl::StrCat(modes, model.normalize_pooled() ? ", normalized" : "");
}

// "scores 3, sparse", or "-" where there is nothing but hidden states and pooled vectors.
std::string HeadsText(const v1::Model& model) {
  std::vector<std::string> parts;
  for (const int kind : model.outputs()) {
    const std::string name = OutputKindName(static_cast<v1::OutputKind>(kind));
    if (kind == v1::OUTPUT_KIND_SCORES || kind == v1::OUTPUT_KIND_TOKEN_SCORES) {
      parts.push_back(absl::StrCat(name, " ", model.num_labels()));
    } else if (kind == v1::OUTPUT_KIND_TOKEN_VECTORS) {
      parts.push_back(absl::StrCat(name, " ", model.token_vector_dim()));
    } else if (kind != v1::OUTPUT_KIND_HIDDEN_STATES && kind != v1::OUTPUT_KIND_POOLED) {
      parts.push_back(name);
    }
  }
  return parts.empty() ? "-" : absl::StrJoin(parts, ", ");
}

std::string ToTable(const v1::ListModelsResponse& response) {
  std::vector<std::vector<std::string>> rows = {
      {"model", "version", "layers", "input", "pooling", "outputs", "embed_dim", "heads", "kv_heads",
       "head_dim", "parameters", "precision", "rms_error", "kernel", "max_message", "scores"}};
  for (const v1::Model& model : response.models()) {
    if (model.version().empty()) continue;  // nothing of it serves; LoadErrorsText says why
    rows.push_back({model.name(), model.version(), absl::StrCat(model.num_layers()), InputText(model),
                    PoolingText(model), HeadsText(model), absl::StrCat(model.embed_dim()),
                    absl::StrCat(model.num_heads()), absl::StrCat(model.num_kv_heads()),
                    absl::StrCat(model.head_dim()), absl::StrCat(model.num_parameters()),
                    PrecisionText(model), absl::StrFormat("%.2g", model.precision_error().rms()),
                    model.kernel(), FormatBytes(model.max_message_bytes()), ScoresText(model)});
  }
  return FormatTable(rows);
}

// Why models, or their newest versions, are not what serves; a line for each.
std::string LoadErrorsText(const v1::ListModelsResponse& response) {
  std::string text;
  for (const v1::Model& model : response.models()) {
    if (model.load_error().empty()) continue;
    absl::StrAppend(
        &text, model.name(), ": ", model.load_error(), "; ",
        model.version().empty() ? "nothing serves" : absl::StrCat("version ", model.version(), " serves"),
        "\n");
  }
  return text;
}

int RunLoad(const ModelsFlags& flags, const Client& client, const Streams& streams) {
  const absl::StatusOr<v1::Model> model = client.LoadModel(flags.load, flags.server.timeout());
  if (!model.ok()) return Fail(streams, kExitFailed, model.status());
  if (flags.json) {
    streams.out << FormatJson(Json{{"loaded", ToJson(*model)}}) << std::flush;
  } else {
    streams.out << model->name() << " version " << model->version() << " serves" << std::endl;
  }
  return kExitOk;
}

int RunUnload(const ModelsFlags& flags, const Client& client, const Streams& streams) {
  const absl::Status status = client.UnloadModel(flags.unload, flags.server.timeout());
  if (!status.ok()) return Fail(streams, kExitFailed, status);
  if (flags.json) {
    streams.out << FormatJson(Json{{"unloaded", flags.unload}}) << std::flush;
  } else {
    streams.out << flags.unload << " is unloaded" << std::endl;
  }
  return kExitOk;
}

int RunModels(const ModelsFlags& flags, const Streams& streams) {
  const absl::StatusOr<Client> client = flags.server.Connect();
  if (!client.ok()) return Fail(streams, kExitUsage, client.status());
  if (!flags.load.empty()) return RunLoad(flags, *client, streams);
  if (!flags.unload.empty()) return RunUnload(flags, *client, streams);
  const absl::StatusOr<v1::ListModelsResponse> response = client->ListModels(flags.server.timeout());
  if (!response.ok()) return Fail(streams, kExitFailed, response.status());
  if (flags.json) {
    Json models = Json::array();
    for (const v1::Model& model : response->models()) models.push_back(ToJson(model));
    streams.out << FormatJson(Json{{"models", models}}) << std::flush;
  } else {
    streams.out << ToTable(*response) << LoadErrorsText(*response) << std::flush;
  }
  return kExitOk;
}

}  // namespace

void AddModelsCommand(CLI::App& app, Command& chosen) {
  auto flags = std::make_shared<ModelsFlags>();  // shared with the parser, which fills it, and the command
  CLI::App* command = app.add_subcommand("models", "List the models that the server holds");
  AddServerFlags(*command, kModelsTimeoutMs, flags->server);
  command->add_flag("--json", flags->json, "Print one JSON object");
  CLI::Option* load = command->add_option(
      "--load", flags->load, "Load the newest version of this model from the repository instead");
  CLI::Option* unload = command->add_option("--unload", flags->unload, "Take this model out instead");
  for (CLI::Option* option : {load, unload}) option->type_name("NAME");
  load->excludes(unload);
  command->footer(
      "input: what requests begin with, and the longest sequence if there is one; pooling: what --pooled "
      "gets;\n"
      "outputs: what --output-kind has beside hidden states and pooled vectors.\n"
      "rms_error: of the model's outputs on a fixed probe against the same model in f32; scores: what "
      "changes them\n"
      "beside the weights.\n"
      "--json keys: models[], every field of the Model message under its name; with --load the one that "
      "serves\n"
      "now as loaded, with --unload its name as unloaded.\n"
      "Example: headlight models --server 127.0.0.1:8001");
  command->callback([command, flags, &chosen] {
    const bool controls = !flags->load.empty() || !flags->unload.empty();
    if (controls && command->count("--timeout-ms") == 0) flags->server.timeout_ms = kLoadTimeoutMs;
    chosen = [flags](const Streams& streams) { return RunModels(*flags, streams); };
  });
}

}  // namespace headlight::client
