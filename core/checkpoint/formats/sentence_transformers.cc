// SPDX-License-Identifier: Apache-2.0
//
// Folders of sentence-transformers: modules.json lists what comes after the encoder. Whatever in them is not
// served leaves hidden states served, and pooled vectors refused with the reason.
#include <algorithm>
#include <memory>
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
#include "core/checkpoint/formats/heads.h"
#include "core/model/heads/head_config.h"

namespace headlight {
namespace {

using nlohmann::json;

struct Module {
  std::string kind;  // "Pooling", whatever package it comes from
  std::string path;
};

// The encoder, with or without its head for masked tokens.
bool IsTransformer(const Module& module) {
  return module.kind == "Transformer" || module.kind == "MLMTransformer";
}

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
    if (module.kind == "Dense") return AddDense(module.path);
    if (module.kind == "SpladePooling") return AddSpladePooling(module.path);
    if (module.kind == "Dropout") return absl::OkStatus();  // of training
    Refuse(absl::StrCat("modules.json: got a module ", Quoted(module.kind),
                        ", served are Transformer, Pooling, Dense, Normalize"));
    return absl::OkStatus();
  }

  // What the folder says of itself as a whole.
  absl::Status Finish() {
    AddTokenVectors();
    if (config().pooling.empty()) Refuse("modules.json: got no module Pooling");
    std::vector<RowStep>& steps = config().pooled_steps;
    if (!steps.empty() &&
        steps.back().kind == RowStep::Kind::kNormalize) {  // what is cut is normalised again
      config().normalize_pooled = true;
      steps.pop_back();
      format_.pooled_steps.pop_back();
    }
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
      fields->WithoutEffect({"activation_fn"});  // of scores, which have read it
      // Of ColBERT's texts, and which of their tokens are compared.
      fields->WithoutEffect({"query_prefix", "document_prefix", "query_length", "document_length",
                             "attend_to_expansion_tokens", "do_query_expansion", "skiplist_words"});
      HEADLIGHT_RETURN_IF_ERROR(Close("config_sentence_transformers.json", *fields, format_));
    }
    if (config().no_pooling.empty()) return absl::OkStatus();
    config().pooling.clear();
    steps.clear();
    format_.pooled_steps.clear();
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
    if (!token_steps_.empty()) Refuse("modules.json: got Dense before Pooling, served is behind it");
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
    AddStep({.kind = RowStep::Kind::kNormalize, .bias = false}, {});
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

  // Width of what the next step reads: of tokens before Pooling, of pooled vectors behind it.
  int64_t width() {
    const ModelConfig& now = config();
    return now.pooling.empty() ? OutDim(token_steps_, now.block.attention.embed_dim) : now.pooled_dim();
  }

  void AddStep(RowStep step, PlannedStep planned) {
    step.in_dim = width();
    if (step.kind != RowStep::Kind::kDense) step.out_dim = step.in_dim;
    const bool pooled = !config().pooling.empty();
    (pooled ? config().pooled_steps : token_steps_).push_back(step);
    (pooled ? format_.pooled_steps : planned_).push_back(std::move(planned));
  }

  // y = activation(x W + b), of pooled vectors or, before Pooling, of tokens.
  absl::Status AddDense(const std::string& path) {
    const std::string file = ConfigIn(path);
    HEADLIGHT_ASSIGN_OR_RETURN(std::optional<ConfigFields> fields, OpenIn(folder_, file));
    if (!fields)
      return absl::NotFoundError(absl::StrCat(file, ": modules.json lists it, and there is no such file"));
    RowStep step;
    step.in_dim = fields->Int("in_features", 1, kMaxDimension);
    step.out_dim = fields->Int("out_features", 1, kMaxDimension);
    step.bias = fields->Bool("bias", true);
    const absl::StatusOr<RowActivation> activation = TorchActivation(fields->Text("activation_function"));
    for (const char* key : {"module_input_name", "module_output_name"}) {
      fields->Only(key, {"\"sentence_embedding\"", "\"token_embeddings\""});
    }
    fields->Only("use_residual", {"false"});
    const absl::Status closed = Close(file, *fields, format_);
    if (!activation.ok()) {
      RefuseStep(absl::StrCat(file, ": activation_function: ", activation.status().message()));
    } else if (!closed.ok()) {
      RefuseStep(std::string(closed.message()));
    } else if (step.in_dim != width()) {
      RefuseStep(absl::StrCat(file, ": in_features: got ", step.in_dim, ", wanted ", width(),
                              ", the width of what comes before"));
    } else {
      step.activation = *activation;
      ReadDense(path, step);
    }
    return absl::OkStatus();
  }

  // The tensors of a Dense, which are in a checkpoint of its own.
  void ReadDense(const std::string& path, const RowStep& step) {
    constexpr char kLinear[] = "linear";
    absl::StatusOr<Shards> files = Shards::Open(absl::StrCat(folder_, "/", path));
    if (absl::IsNotFound(files.status())) {
      return RefuseStep(absl::StrCat(
          path,
          ": got no model.safetensors, wanted one; pytorch_model.bin, files of pickled objects, are not "
          "read: SentenceTransformer(folder).save(folder, safe_serialization=True) writes it"));
    }
    if (!files.ok()) return RefuseStep(std::string(files.status().message()));
    RowStepParameters nowhere;
    TensorPlan plan;
    WantStep(step, kLinear, nowhere, plan);
    if (const absl::Status status = CheckWanted(plan.wanted, *files); !status.ok()) {
      return RefuseStep(absl::StrCat(path, ": ", status.message()));
    }
    AddStep(step, {std::make_shared<const Shards>(*std::move(files)), kLinear});
  }

  // Of pooled vectors, or of tokens before there are any.
  void RefuseStep(const std::string& why) {
    if (config().pooling.empty() && token_problem_.empty()) token_problem_ = why;
    Refuse(why);
  }

  // Dense alone, and no Pooling at all, is what ColBERT models are.
  void AddTokenVectors() {
    HeadsConfig& heads = config().heads;
    if (!config().pooling.empty() || heads.Find(OutputKind::kTokenVectors) != nullptr) return;
    if (!token_problem_.empty()) {
      heads.refused.push_back({OutputKind::kTokenVectors, token_problem_});
    } else if (!token_steps_.empty()) {
      heads.heads.push_back({.kind = HeadKind::kTokenVectors, .steps = token_steps_, .silent_ids = {}});
      format_.heads.push_back({.steps = planned_, .vocab = {}, .vocab_bias = {}});
    }
  }

  // SPLADE by name. What else it could be is not what the output of that kind is.
  absl::Status AddSpladePooling(const std::string& path) {
    const std::string file = ConfigIn(path);
    HEADLIGHT_ASSIGN_OR_RETURN(std::optional<ConfigFields> fields, OpenIn(folder_, file));
    Refuse("modules.json: got SpladePooling, whose vectors are the output of kind sparse");
    if (!fields) return absl::OkStatus();
    fields->Only("pooling_strategy", {"\"max\""});
    fields->Only("activation_function", {"\"relu\""});
    fields->WithoutEffect({"word_embedding_dimension", "embedding_dimension", "chunk_size"});
    if (const absl::Status status = Close(file, *fields, format_); !status.ok()) {
      config().heads.refused.push_back({OutputKind::kSparse, std::string(status.message())});
    }
    return absl::OkStatus();
  }

  const std::string folder_;
  Format& format_;
  std::vector<RowStep> token_steps_;  // before Pooling
  std::vector<PlannedStep> planned_;  // of them
  std::string token_problem_;
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
  // The others are the encoder with its head for masked tokens, or as a cross-encoder.
  fields->Only("transformer_task",
               {"\"feature-extraction\"", "\"fill-mask\"", "\"sequence-classification\""});
  fields->Only("module_output_name", {"\"token_embeddings\"", "\"scores\""});
  ConfigFields text = fields->Object("modality_config").Object("text");
  text.Only("method", {"\"forward\""});
  text.Only("method_output_name", {"\"last_hidden_state\"", "\"logits\""});
  // Of texts and their tokens, and how many of those are computed at once.
  fields->WithoutEffect({"do_lower_case", "unpad_inputs"});
  return Close(kFile, *fields, format);
}

// The activation of a cross-encoder's scores, which goes before that of config.json.
absl::Status ReadScoreActivation(const std::string& folder, Format& format) {
  constexpr char kFile[] = "config_sentence_transformers.json";
  HEADLIGHT_ASSIGN_OR_RETURN(std::optional<ConfigFields> fields, OpenIn(folder, kFile));
  if (fields && fields->Has("activation_fn"))
    SetScoreActivation(fields->Text("activation_fn"), kFile, format);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> SentenceTransformersEncoder(const std::string& folder) {
  HEADLIGHT_ASSIGN_OR_RETURN(const auto modules, ReadModules(folder));
  if (!modules) return "";
  for (const Module& module : *modules) {
    if (IsTransformer(module)) return module.path;
  }
  return absl::UnimplementedError("modules.json: got no module Transformer, wanted one");
}

absl::Status ReadSentenceTransformers(const std::string& folder, const std::string& encoder, Format& format) {
  HEADLIGHT_ASSIGN_OR_RETURN(const auto modules, ReadModules(folder));
  HEADLIGHT_RETURN_IF_ERROR(ReadTransformerModule(encoder, format));
  HEADLIGHT_RETURN_IF_ERROR(ReadScoreActivation(folder, format));
  // Our own key goes before their files.
  if (format.says_pooling) return absl::OkStatus();
  std::vector<Module> tail;
  if (modules) {
    for (const Module& module : *modules) {
      if (!IsTransformer(module)) tail.push_back(module);
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
