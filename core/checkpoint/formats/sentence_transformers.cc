// SPDX-License-Identifier: Apache-2.0
//
// Folders of sentence-transformers: modules.json lists what comes after the encoder. Whatever in them is not
// served leaves hidden states served, and pooled vectors refused with the reason.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "core/base/status_macros.h"
#include "core/base/text.h"
#include "core/checkpoint/bounded_json.h"
#include "core/checkpoint/config_fields.h"
#include "core/checkpoint/formats/format.h"

namespace headlight {
namespace {

using nlohmann::json;

struct Module {
  std::string kind;  // "Pooling", whatever package it comes from
  std::string path;
};

// The list; nothing if there is none.
absl::StatusOr<std::optional<std::vector<Module>>> ReadModules(const std::string& folder) {
  const absl::StatusOr<json> list = ReadJsonFile(absl::StrCat(folder, "/modules.json"), {});
  if (absl::IsNotFound(list.status())) return std::nullopt;
  HEADLIGHT_RETURN_IF_ERROR(list.status());
  if (!list->is_array()) return absl::InvalidArgumentError("modules.json: wanted a JSON array of modules");
  std::vector<Module> modules;
  for (const json& entry : *list) {
    const auto member = [&](const char* key) {
      const auto found = entry.is_object() ? entry.find(key) : entry.end();
      return found != entry.end() && found->is_string() ? found->get<std::string>() : std::string();
    };
    const std::string type = member("type");
    Module module = {.kind = type.substr(type.rfind('.') + 1), .path = member("path")};
    const std::vector<absl::string_view> steps = absl::StrSplit(module.path, '/');
    if (absl::StartsWith(module.path, "/") || std::find(steps.begin(), steps.end(), "..") != steps.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat("modules.json: the path of ", Quoted(type), " leaves the folder"));
    }
    modules.push_back(std::move(module));
  }
  return modules;
}

// A file of a folder; nothing if there is none.
absl::StatusOr<std::optional<ConfigFields>> OpenIn(const std::string& folder, const std::string& file) {
  absl::StatusOr<ConfigFields> fields = ConfigFields::Read(absl::StrCat(folder, "/", file));
  if (absl::IsNotFound(fields.status())) return std::nullopt;
  HEADLIGHT_RETURN_IF_ERROR(fields.status());
  return *std::move(fields);
}

// What was wrong in a file, and what nobody asked for.
absl::Status Close(const std::string& file, const ConfigFields& fields, Format& format) {
  const absl::Status status = fields.status();
  if (!status.ok()) return absl::Status(status.code(), absl::StrCat(file, ": ", status.message()));
  for (const std::string& key : fields.UnknownKeys()) {
    format.not_understood.push_back(absl::StrCat(file, ": ", key));
  }
  return absl::OkStatus();
}

// The names of a pooling module, old and new, in the order in which vectors stand side by side.
struct PoolingSpelling {
  const char* name;
  const char* old_switch;
  Pooling pooling;
};
constexpr PoolingSpelling kModulePoolings[] = {
    {"cls", "pooling_mode_cls_token", Pooling::kCls},
    {"max", "pooling_mode_max_tokens", Pooling::kMax},
    {"mean", "pooling_mode_mean_tokens", Pooling::kMean},
    {"mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens", Pooling::kMeanSqrtLen},
    {"weightedmean", "pooling_mode_weightedmean_tokens", Pooling::kWeightedMean},
    {"lasttoken", "pooling_mode_lasttoken", Pooling::kLast}};

// What follows the encoder.
class Tail {
 public:
  Tail(std::string folder, Format& format) : folder_(std::move(folder)), format_(format) {
    config().pooling.clear();
  }

  absl::Status Add(const Module& module) {
    if (module.kind == "Pooling") return AddPooling(module.path);
    if (module.kind == "Normalize") return AddNormalize(module.path);
    Refuse(absl::StrCat("modules.json: got a module ", Quoted(module.kind),
                        ", served are Transformer, Pooling, Normalize"));
    return absl::OkStatus();
  }

  // What the folder says of itself as a whole.
  absl::Status Finish() {
    if (config().pooling.empty()) Refuse("modules.json: got no module Pooling");
    HEADLIGHT_ASSIGN_OR_RETURN(std::optional<ConfigFields> fields,
                               OpenIn(folder_, "config_sentence_transformers.json"));
    if (fields) {
      if (fields->Has("truncate_dim")) {
        Refuse(
            "config_sentence_transformers.json: truncate_dim: vectors are cut where a request asks for it");
      }
      // Of the text that is tokenized, and of how vectors are compared.
      fields->WithoutEffect(
          {"__version__", "model_type", "prompts", "default_prompt_name", "similarity_fn_name"});
      HEADLIGHT_RETURN_IF_ERROR(Close("config_sentence_transformers.json", *fields, format_));
    }
    if (config().no_pooling.empty()) return absl::OkStatus();
    config().pooling.clear();
    return absl::OkStatus();
  }

 private:
  ModelConfig& config() { return format_.config; }

  // The first reason counts.
  void Refuse(const std::string& why) {
    if (config().no_pooling.empty()) config().no_pooling = why;
  }

  static std::string ConfigIn(const std::string& path) {
    return path.empty() ? "config.json" : absl::StrCat(path, "/config.json");
  }

  absl::Status AddPooling(const std::string& path) {
    const std::string file = ConfigIn(path);
    HEADLIGHT_ASSIGN_OR_RETURN(std::optional<ConfigFields> fields, OpenIn(folder_, file));
    if (!fields)
      return absl::NotFoundError(absl::StrCat(file, ": modules.json lists it, and there is no such file"));
    if (!config().pooling.empty()) Refuse("modules.json: got several modules Pooling, served is one");
    config().pooling = PoolingsOf(*fields, file);
    if (!fields->Bool("include_prompt", true)) {
      Refuse(absl::StrCat(file, ": include_prompt: got false, and nobody here knows how long prompts are"));
    }
    fields->WithoutEffect({"word_embedding_dimension", "embedding_dimension"});
    return Close(file, *fields, format_);
  }

  std::vector<Pooling> PoolingsOf(ConfigFields& fields, const std::string& file) {
    std::vector<Pooling> poolings;
    const std::vector<std::string> names = fields.StringOrStrings("pooling_mode");
    for (const PoolingSpelling& spelling : kModulePoolings) {
      if (fields.Has(spelling.old_switch) && fields.Bool(spelling.old_switch, false) && names.empty()) {
        poolings.push_back(spelling.pooling);
      }
    }
    for (const std::string& name : names) {
      const auto* const known =
          std::find_if(std::begin(kModulePoolings), std::end(kModulePoolings),
                       [&](const PoolingSpelling& spelling) { return name == spelling.name; });
      if (known == std::end(kModulePoolings)) {
        Refuse(absl::StrCat(file, ": pooling_mode: got ", Quoted(name), ", which is not served"));
        return {Pooling::kMean};
      }
      poolings.push_back(known->pooling);
    }
    if (poolings.empty()) poolings = {Pooling::kMean};  // the module's own default
    return poolings;
  }

  absl::Status AddNormalize(const std::string& path) {
    if (config().pooling.empty()) Refuse("modules.json: got Normalize before Pooling, served is behind it");
    config().normalize_pooled = true;
    if (path.empty()) return absl::OkStatus();
    const std::string file = ConfigIn(path);
    HEADLIGHT_ASSIGN_OR_RETURN(std::optional<ConfigFields> fields, OpenIn(folder_, file));
    if (!fields) return absl::OkStatus();  // older versions wrote none
    for (const char* key : {"module_input_name", "module_output_name"}) {
      fields->Only(key, {"\"sentence_embedding\""});
    }
    if (!fields->status().ok()) Refuse(absl::StrCat(file, ": ", fields->status().message()));
    return absl::OkStatus();
  }

  const std::string folder_;
  Format& format_;
};

// What the module Transformer says beside the encoder's own files.
absl::Status ReadTransformerModule(const std::string& encoder, Format& format) {
  constexpr char kFile[] = "sentence_bert_config.json";
  HEADLIGHT_ASSIGN_OR_RETURN(std::optional<ConfigFields> fields, OpenIn(encoder, kFile));
  if (!fields) return absl::OkStatus();
  if (const auto len = fields->OptionalInt("max_seq_length", 1, kMaxDimension)) {
    format.assumed.push_back(
        absl::StrCat(kFile, ": texts are cut to ", *len, " tokens where they are tokenized"));
  }
  fields->Only("transformer_task", {"\"feature-extraction\""});
  fields->Only("module_output_name", {"\"token_embeddings\""});
  // Of texts and their tokens, and how many of those are computed at once.
  fields->WithoutEffect({"do_lower_case", "unpad_inputs"});
  return Close(kFile, *fields, format);
}

}  // namespace

absl::StatusOr<std::string> SentenceTransformersEncoder(const std::string& folder) {
  HEADLIGHT_ASSIGN_OR_RETURN(const auto modules, ReadModules(folder));
  if (!modules) return "";
  for (const Module& module : *modules) {
    if (module.kind == "Transformer") return module.path;
  }
  return absl::UnimplementedError("modules.json: got no module Transformer, wanted one");
}

absl::Status ReadSentenceTransformers(const std::string& folder, const std::string& encoder, Format& format) {
  HEADLIGHT_ASSIGN_OR_RETURN(const auto modules, ReadModules(folder));
  HEADLIGHT_RETURN_IF_ERROR(ReadTransformerModule(encoder, format));
  // Our own key goes before their files.
  if (format.says_pooling) return absl::OkStatus();
  std::vector<Module> tail;
  if (modules) {
    for (const Module& module : *modules) {
      if (module.kind != "Transformer") tail.push_back(module);
    }
  } else {
    // Without the list, a pooling module in its usual place.
    tail = {{"Pooling", "1_Pooling"}};
    if (absl::IsNotFound(ConfigFields::Read(folder + "/1_Pooling/config.json").status()))
      return absl::OkStatus();
  }
  Tail read(folder, format);
  format.config.no_pooling.clear();
  for (const Module& module : tail) HEADLIGHT_RETURN_IF_ERROR(read.Add(module));
  return read.Finish();
}

}  // namespace headlight
