// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/formats/heads.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "core/base/status_macros.h"
#include "core/base/text.h"
#include "core/checkpoint/formats/huggingface.h"

namespace headlight {
namespace {

// The unknown token of XLM-RoBERTa's one vocabulary, which no config.json names.
constexpr int32_t kXlmRobertaUnknownId = 3;

std::vector<OutputKind> OutputsOf(HeadKind kind) {
  switch (kind) {
    case HeadKind::kScores:
      return {OutputKind::kScores};
    case HeadKind::kTokenScores:
      return {OutputKind::kTokenScores};
    case HeadKind::kLanguageModel:
      return {OutputKind::kTokenLogits, OutputKind::kSparse};
    case HeadKind::kTokenWeights:
      return {OutputKind::kSparse};
    case HeadKind::kTokenVectors:
      return {OutputKind::kTokenVectors};
  }
  return {};
}

bool HasTensor(const Shards& checkpoint, const std::string& name) { return checkpoint.Find(name) != nullptr; }

// Rows of a matrix in the checkpoint; 0 if it is none.
int64_t NumRows(const Shards& checkpoint, const std::string& name) {
  const SafetensorsEntry* const entry = checkpoint.Find(name);
  return entry != nullptr && entry->shape.size() == 2 ? entry->shape[0] : 0;
}

// "weight" of a file with one layer, "name.weight" of others.
std::string TensorOf(const std::string& name, const char* part) {
  return name.empty() ? part : absl::StrCat(name, ".", part);
}

// The step as the checkpoint has it, behind rows of `in_dim`.
absl::StatusOr<RowStep> StepIn(const HeadStep& named, int64_t in_dim, const Shards& checkpoint) {
  RowStep step{.kind = named.kind,
               .in_dim = in_dim,
               .out_dim = in_dim,
               .bias = named.bias.value_or(HasTensor(checkpoint, TensorOf(named.name, "bias")) ||
                                           HasTensor(checkpoint, TensorOf(named.name, "beta"))),
               .activation = named.activation,
               .eps = named.eps};
  if (step.kind == RowStep::Kind::kDense) {
    step.out_dim = std::max<int64_t>(NumRows(checkpoint, TensorOf(named.name, "weight")), 1);
  }
  RowStepParameters nowhere;
  TensorPlan plan;
  WantStep(step, named.name, nowhere, plan);
  HEADLIGHT_RETURN_IF_ERROR(CheckWanted(plan.wanted, checkpoint));
  return step;
}

absl::Status ReadVocab(const HeadNames& names, const Shards& checkpoint, const ModelConfig& config,
                       HeadConfig& head, PlannedHead& planned) {
  const int64_t embed_dim = config.block.attention.embed_dim;
  const int64_t table_dim = config.embedding->dim > 0 ? config.embedding->dim : embed_dim;
  const int64_t width = OutDim(head.steps, embed_dim);
  head.tied = names.tied;
  // A stack that is causal was trained to draw the next token.
  head.causal = config.causal;
  if (names.logit_cap) {
    head.logit_cap = *names.logit_cap;
    if (!(head.logit_cap > 0)) {
      return absl::InvalidArgumentError(
          absl::StrCat("the cap of logits: got ", head.logit_cap, ", wanted a number above 0"));
    }
  }
  planned.vocab = names.vocab + ".weight";
  planned.vocab_bias = names.vocab_bias;
  head.vocab_bias = names.has_vocab_bias.value_or(
      std::any_of(names.vocab_bias.begin(), names.vocab_bias.end(),
                  [&](const std::string& name) { return HasTensor(checkpoint, name); }));
  std::vector<float> nowhere;
  TensorPlan plan;
  if (head.tied) {
    head.vocab_size = config.embedding->vocab_size;
    if (width != table_dim) {
      return absl::InvalidArgumentError(
          absl::StrCat(names.steps.empty() ? names.vocab : names.steps.front().name, ": got ", width,
                       " columns, wanted ", table_dim, ", those of the table it is tied to"));
    }
  } else {
    head.vocab_size = std::max<int64_t>(NumRows(checkpoint, planned.vocab), 1);
    plan.wanted.push_back(WantedVocab(head, embed_dim, planned));
  }
  WantVocabBias(head, planned, nowhere, plan);
  return CheckWanted(plan.wanted, checkpoint);
}

absl::Status TryAddHead(const HeadNames& names, const Shards& checkpoint, Format& format) {
  if (!names.refusal.empty()) return absl::UnimplementedError(names.refusal);
  HeadConfig head{.kind = names.kind, .steps = {}, .scores_of = names.scores_of, .silent_ids = {}};
  PlannedHead planned;
  int64_t width = format.config.block.attention.embed_dim;
  for (const HeadStep& step : names.steps) {
    HEADLIGHT_ASSIGN_OR_RETURN(const RowStep read, StepIn(step, width, checkpoint));
    width = read.out_dim;
    head.steps.push_back(read);
    planned.steps.push_back({nullptr, step.name});
  }
  if (head.kind == HeadKind::kLanguageModel) {
    HEADLIGHT_RETURN_IF_ERROR(ReadVocab(names, checkpoint, format.config, head, planned));
  }
  format.config.heads.heads.push_back(std::move(head));
  format.heads.push_back(std::move(planned));
  return absl::OkStatus();
}

// The linear layer of a file beside the model, tensors "weight" and "bias"; nothing if it is not there.
absl::StatusOr<std::shared_ptr<const Shards>> OpenLinear(const std::string& folder, const std::string& name) {
  std::error_code ignored;  // what cannot be asked for is not there
  const std::string path = absl::StrCat(folder, "/", name);
  if (!std::filesystem::exists(path + ".safetensors", ignored)) {
    if (!std::filesystem::exists(path + ".pt", ignored)) return nullptr;
    return absl::UnimplementedError(
        absl::StrCat(name, ".pt: files of pickled objects are not read; save it as ", name,
                     ".safetensors: safetensors.torch.save_file(torch.load('", name,
                     ".pt', weights_only=True), '", name, ".safetensors')"));
  }
  HEADLIGHT_ASSIGN_OR_RETURN(Shards file, Shards::OpenFile(folder, name + ".safetensors"));
  return std::make_shared<const Shards>(std::move(file));
}

// A head of one linear layer in a file of its own.
absl::Status AddLinearFile(const std::string& folder, const std::string& name, HeadConfig head,
                           RowActivation activation, Format& format) {
  HEADLIGHT_ASSIGN_OR_RETURN(std::shared_ptr<const Shards> file, OpenLinear(folder, name));
  if (file == nullptr) return absl::OkStatus();
  if (format.name != "xlm-roberta") {
    return absl::UnimplementedError(absl::StrCat(name, ".safetensors: got a model_type ", format.name,
                                                 ", served with it is xlm-roberta"));
  }
  const absl::StatusOr<RowStep> step =
      StepIn({.name = "", .activation = activation}, format.config.block.attention.embed_dim, *file);
  if (!step.ok()) {
    return absl::Status(step.status().code(), absl::StrCat(name, ".safetensors: ", step.status().message()));
  }
  if (head.kind == HeadKind::kTokenWeights && step->out_dim != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ".safetensors: weight: got ", step->out_dim, " rows, wanted 1"));
  }
  head.steps = {*step};
  format.config.heads.heads.push_back(std::move(head));
  format.heads.push_back({.steps = {{std::move(file), ""}}, .vocab = {}, .vocab_bias = {}});
  return absl::OkStatus();
}

}  // namespace

void RefuseHead(HeadKind kind, const std::string& why, Format& format) {
  for (const OutputKind output : OutputsOf(kind)) format.config.heads.refused.push_back({output, why});
}

HeadStep HeadDense(const std::string& name, RowActivation activation) {
  return {.name = name, .activation = activation};
}

HeadStep HeadNorm(const std::string& name, double eps) {
  return {.kind = RowStep::Kind::kLayerNorm, .name = name, .eps = eps};
}

void AddHead(const HeadNames& names, ConfigFields& fields, const Shards& checkpoint, Format& format) {
  if (!fields.status().ok()) return;
  const bool of_vocab = names.kind == HeadKind::kLanguageModel;
  const bool table_alone = of_vocab && names.steps.empty();
  const std::string telling = table_alone ? names.vocab
                              : of_vocab  ? names.steps.front().name
                                          : names.steps.back().name;
  const bool there = HasTensor(checkpoint, telling + ".weight");
  if (!there && !table_alone) return;
  const std::vector<std::string> architectures = fields.StringOrStrings("architectures");
  const bool said = std::any_of(architectures.begin(), architectures.end(),
                                [&](const std::string& name) { return absl::EndsWith(name, names.task); });
  if (!there && !said) return;
  if (!said && !table_alone && !names.task.empty()) {
    // A task of transformers that has another name is another one; it is not as if this head were in doubt.
    const bool is_other = std::any_of(architectures.begin(), architectures.end(),
                                      [](const std::string& name) { return absl::StrContains(name, "For"); });
    if (is_other) return;
    RefuseHead(names.kind,
               absl::StrCat("config.json: architectures: got ",
                            architectures.empty() ? "none" : Listed(architectures), ", wanted ...",
                            names.task, " for ", telling, ".weight to be it"),
               format);
    return;
  }
  const absl::Status added = TryAddHead(names, checkpoint, format);
  if (!added.ok()) RefuseHead(names.kind, std::string(added.message()), format);
}

void AddClassifiers(const std::vector<HeadStep>& before, ConfigFields& fields, const Shards& checkpoint,
                    Format& format) {
  std::vector<HeadStep> steps = before;
  steps.push_back(HeadDense("classifier"));
  AddHead({.kind = HeadKind::kScores, .task = "ForSequenceClassification", .steps = steps}, fields,
          checkpoint, format);
  AddHead(
      {.kind = HeadKind::kTokenScores, .task = "ForTokenClassification", .steps = {HeadDense("classifier")}},
      fields, checkpoint, format);
}

void AddDenseClassifiers(RowActivation activation, ConfigFields& fields, const Shards& checkpoint,
                         Format& format) {
  AddHead({.kind = HeadKind::kScores,
           .steps = {HeadDense("classifier.dense", activation), HeadDense("classifier.out_proj")}},
          fields, checkpoint, format);
  AddHead(
      {.kind = HeadKind::kTokenScores, .task = "ForTokenClassification", .steps = {HeadDense("classifier")}},
      fields, checkpoint, format);
}

void AddMaskedLm(const MaskedLmNames& names, RowActivation activation, bool tied, ConfigFields& fields,
                 const Shards& checkpoint, Format& format) {
  AddHead({.kind = HeadKind::kLanguageModel,
           .steps = {HeadDense(names.transform + ".dense", activation),
                     HeadNorm(absl::StrCat(names.transform, ".", names.norm), format.config.block.norm_eps)},
           .vocab = names.base + ".decoder",
           .vocab_bias = {names.base + ".bias", names.base + ".decoder.bias"},
           .tied = tied},
          fields, checkpoint, format);
}

void AddDecoderHeads(const DecoderHeads& heads, ConfigFields& fields, const Shards& checkpoint,
                     Format& format) {
  AddHead({.kind = HeadKind::kScores,
           .task = "ForSequenceClassification",
           .steps = {HeadDense("score")},
           .scores_of = ScoresOf::kLastToken},
          fields, checkpoint, format);
  AddHead({.kind = HeadKind::kTokenScores, .task = "ForTokenClassification", .steps = {HeadDense("score")}},
          fields, checkpoint, format);
  AddHead(
      {.kind = HeadKind::kTokenScores, .task = "ForTokenClassification", .steps = {HeadDense("classifier")}},
      fields, checkpoint, format);
  AddHead({.kind = HeadKind::kLanguageModel,
           .task = heads.task,
           .steps = {},
           .vocab = heads.vocab,
           .tied = heads.tied,
           .logit_cap = heads.logit_cap},
          fields, checkpoint, format);
}

RowActivation ReadHeadActivation(ConfigFields& fields, const std::string& key, const std::string& fallback,
                                 std::string& refusal) {
  const std::string name = fields.String(key, fallback);
  if (name == "tanh") return RowActivation::kTanh;
  if (name == "sigmoid") return RowActivation::kSigmoid;
  if (name == "linear") return RowActivation::kIdentity;
  if (const std::optional<Activation> known = HuggingFaceActivation(name)) return ToRowActivation(*known);
  refusal = absl::StrCat("config.json: ", key, ": got ", Quoted(name),
                         ", served are those of feed-forward networks, tanh, sigmoid and linear");
  return RowActivation::kIdentity;
}

void ReadHeadKeys(ConfigFields& fields, Format& format) {
  std::optional<std::string> activation;
  ConfigFields transformers = fields.Object("sentence_transformers");
  if (transformers.Has("activation_fn")) activation = transformers.Text("activation_fn");
  if (fields.Has("sbert_ce_default_activation_function")) {
    const std::string old = fields.Text("sbert_ce_default_activation_function");
    if (!activation) activation = old;
  }
  transformers.WithoutEffect({"version"});
  ConfigFields names = fields.Object("id2label");
  const std::vector<std::string> ids = names.keys();
  std::vector<std::string> labels;
  for (const std::string& id : ids) names.WithoutEffect({id.c_str()});
  for (size_t i = 0; i < ids.size(); ++i) {
    const std::string key = absl::StrCat(i);
    if (!names.Has(key)) break;
    labels.push_back(names.Text(key));
  }
  HeadsConfig& heads = format.config.heads;
  const int64_t embed_dim = format.config.block.attention.embed_dim;
  for (size_t i = 0; i < heads.heads.size(); ++i) {
    const HeadConfig& head = heads.heads[i];
    if (head.kind != HeadKind::kScores && head.kind != HeadKind::kTokenScores) continue;
    if (static_cast<int64_t>(labels.size()) == OutDim(head.steps, embed_dim)) heads.labels = labels;
  }
  if (activation) SetScoreActivation(*activation, "config.json", format);
}

void SetScoreActivation(const std::string& name, const std::string& where, Format& format) {
  for (HeadConfig& head : format.config.heads.heads) {
    if (head.kind != HeadKind::kScores) continue;
    const absl::StatusOr<RowActivation> read = TorchActivation(name);
    if (read.ok()) {
      head.steps.back().activation = *read;
    } else {
      RefuseHead(HeadKind::kScores, absl::StrCat(where, ": activation_fn: ", read.status().message()),
                 format);
    }
  }
}

void AddFilesOfHeads(const std::string& folder, Format& format) {
  HeadConfig sparse{.kind = HeadKind::kTokenWeights, .steps = {}, .silent_ids = format.special_ids};
  sparse.silent_ids.push_back(kXlmRobertaUnknownId);
  std::sort(sparse.silent_ids.begin(), sparse.silent_ids.end());
  absl::Status status =
      AddLinearFile(folder, "sparse_linear", std::move(sparse), RowActivation::kRelu, format);
  if (!status.ok()) RefuseHead(HeadKind::kTokenWeights, std::string(status.message()), format);
  HeadConfig vectors{.kind = HeadKind::kTokenVectors, .steps = {}, .silent_ids = {}, .skipped_tokens = 1};
  status = AddLinearFile(folder, "colbert_linear", std::move(vectors), RowActivation::kIdentity, format);
  if (!status.ok()) RefuseHead(HeadKind::kTokenVectors, std::string(status.message()), format);
}

absl::StatusOr<RowActivation> TorchActivation(const std::string& name) {
  static constexpr std::pair<absl::string_view, RowActivation> kNames[] = {
      {"Identity", RowActivation::kIdentity}, {"Tanh", RowActivation::kTanh},
      {"Sigmoid", RowActivation::kSigmoid},   {"ReLU", RowActivation::kRelu},
      {"GELU", RowActivation::kGeluErf},      {"SiLU", RowActivation::kSilu}};
  std::vector<absl::string_view> served;
  for (const auto& [known, activation] : kNames) {
    if (name == known ||
        (absl::StartsWith(name, "torch.nn.") && absl::EndsWith(name, absl::StrCat(".", known)))) {
      return activation;
    }
    served.push_back(known);
  }
  return absl::UnimplementedError(
      absl::StrCat("got ", Quoted(name), ", served are torch.nn's ", absl::StrJoin(served, ", ")));
}

RowActivation ToRowActivation(Activation activation) {
  switch (activation) {
    case Activation::kRelu:
      return RowActivation::kRelu;
    case Activation::kGeluErf:
      return RowActivation::kGeluErf;
    case Activation::kGeluTanh:
      return RowActivation::kGeluTanh;
    case Activation::kSilu:
      return RowActivation::kSilu;
  }
  return RowActivation::kIdentity;
}

void WantStep(const RowStep& step, const std::string& name, RowStepParameters& to, TensorPlan& plan) {
  if (step.kind == RowStep::Kind::kNormalize) return;
  if (step.kind == RowStep::Kind::kLayerNorm) {
    plan.wanted.push_back(
        {.names = {name + ".weight", name + ".gamma"}, .shape = {step.in_dim}, .parts = {{&to.weight}}});
    if (!step.bias) return;
    plan.wanted.push_back(
        {.names = {name + ".bias", name + ".beta"}, .shape = {step.in_dim}, .parts = {{&to.bias}}});
    return;
  }
  plan.wanted.push_back({.names = {TensorOf(name, "weight")},
                         .shape = {step.out_dim, step.in_dim},
                         .parts = {{&to.weight}},
                         .orientation = Orientation::kOutIn});
  if (step.bias) WantAsIs(TensorOf(name, "bias"), {step.out_dim}, to.bias, plan);
}

void WantVocabBias(const HeadConfig& head, const PlannedHead& names, std::vector<float>& to,
                   TensorPlan& plan) {
  if (head.kind != HeadKind::kLanguageModel || !head.vocab_bias) return;
  plan.wanted.push_back({.names = names.vocab_bias, .shape = {head.vocab_size}, .parts = {{&to}}});
}

WantedTensor WantedVocab(const HeadConfig& head, int64_t embed_dim, const PlannedHead& names) {
  return {.names = {names.vocab}, .shape = {head.vocab_size, OutDim(head.steps, embed_dim)}, .parts = {}};
}

}  // namespace headlight
