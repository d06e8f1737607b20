// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/folder.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/atomic_file.h"
#include "core/base/status_macros.h"
#include "core/base/text.h"
#include "core/checkpoint/config_fields.h"
#include "core/checkpoint/formats/format.h"
#include "core/checkpoint/formats/heads.h"
#include "core/checkpoint/formats/huggingface.h"
#include "core/checkpoint/formats/native.h"
#include "core/checkpoint/formats/native_config.h"
#include "core/checkpoint/safetensors_writer.h"
#include "core/checkpoint/shards.h"
#include "core/checkpoint/tensor_plan.h"

namespace headlight {
namespace {

// Errors begin with the folder, once.
absl::Status InFolder(const std::string& folder, const std::string& file, const absl::Status& status) {
  if (status.ok() || absl::StartsWith(status.message(), folder)) return status;
  return absl::Status(status.code(),
                      absl::StrCat(folder, file.empty() ? "" : "/", file, ": ", status.message()));
}

absl::StatusOr<Format> MakeFormat(ConfigFields fields, const Shards& checkpoint) {
  HEADLIGHT_ASSIGN_OR_RETURN(Format format, ReadFormat(fields, checkpoint));
  if (format.precision) format.config.SetPrecision(*format.precision);
  if (format.parameters_precision) format.config.SetParametersPrecision(*format.parameters_precision);
  HEADLIGHT_RETURN_IF_ERROR(format.config.Validate());
  format.config = format.config.Resolved();
  return format;
}

bool Exists(const std::string& path) {
  std::error_code ignored;  // what cannot be asked for is not there
  return std::filesystem::exists(path, ignored);
}

absl::Status RefuseAdapter(const std::string& folder) {
  if (!Exists(folder + "/adapter_config.json")) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat(
      folder,
      "/adapter_config.json: got an adapter, which would not be applied; merge it into the "
      "model first: PeftModel.from_pretrained(base, folder).merge_and_unload().save_pretrained(...)"));
}

// Where the encoder's files are: in the folder, or where sentence-transformers' list of modules has them.
// UNIMPLEMENTED: beside them lies something that changes what the model computes. NOT_FOUND: they are
// elsewhere.
absl::StatusOr<std::string> EncoderFolder(const std::string& folder) {
  HEADLIGHT_RETURN_IF_ERROR(RefuseAdapter(folder));
  if (Exists(folder + "/config.json")) return folder;
  const absl::StatusOr<std::string> path = SentenceTransformersEncoder(folder);
  if (!path.ok()) return InFolder(folder, "", path.status());
  if (!path->empty()) {
    const std::string encoder = absl::StrCat(folder, "/", *path);
    HEADLIGHT_RETURN_IF_ERROR(RefuseAdapter(encoder));
    return encoder;
  }
  if (Exists(folder + "/snapshots") && Exists(folder + "/refs")) {
    return absl::NotFoundError(absl::StrCat(
        folder,
        "/config.json: there is none; this is a repository of Hugging Face's cache, whose models are the "
        "folders in snapshots/"));
  }
  return folder;
}

// A plan by the parts of a model, which are read at different times.
struct PlanParts {
  std::vector<std::vector<WantedTensor>> layers;
  const WantedTensor* tokens = nullptr;  // in `rest`; null: none is wanted
  const WantedTensor* positions = nullptr;
  const WantedTensor* token_types = nullptr;
  std::vector<WantedTensor> rest;  // what is in no layer
};

// By where the numbers go: into which member of `parameters`.
PlanParts Divide(std::vector<WantedTensor> wanted, const ModelParameters& parameters) {
  PlanParts parts;
  parts.layers.resize(parameters.layers.size());
  const auto first = reinterpret_cast<uintptr_t>(parameters.layers.data());
  for (WantedTensor& tensor : wanted) {
    const uintptr_t layer =
        (reinterpret_cast<uintptr_t>(tensor.parts.front().destination) - first) / sizeof(BlockParameters);
    (layer < parts.layers.size() ? parts.layers[layer] : parts.rest).push_back(std::move(tensor));
  }
  for (const WantedTensor& tensor : parts.rest) {
    const std::vector<float>* const to = tensor.parts.front().destination;
    if (to == &parameters.embedding.tokens) parts.tokens = &tensor;
    if (to == &parameters.embedding.positions) parts.positions = &tensor;
    if (to == &parameters.embedding.token_types) parts.token_types = &tensor;
  }
  return parts;
}

class OpenFolder final : public ModelFolder {
 public:
  // The files that are there agree with each other from here on, or it is an error.
  static absl::StatusOr<std::unique_ptr<const OpenFolder>> Open(const std::string& folder);

  const ModelSummary& summary() const override { return summary_; }
  absl::Status Validate(const ModelConfig& config) const override;
  int64_t NumParameters() const override { return summary_.num_parameters; }
  absl::StatusOr<EmbeddingTables> Embedding() const override;
  absl::StatusOr<const BlockParameters*> Layer(int64_t layer, BlockParameters& memory) const override;
  absl::StatusOr<NormParameters> FinalNorm() const override;
  absl::StatusOr<std::vector<RowStepParameters>> PooledSteps() const override;
  absl::StatusOr<HeadTables> Head(int64_t place) const override;

  absl::StatusOr<ModelParameters> ReadAll() const;

 private:
  OpenFolder(const std::string& folder, Shards checkpoint)
      : folder_(folder), checkpoint_(std::move(checkpoint)) {}

  absl::Status Read(std::span<const WantedTensor> wanted) const {
    return InFolder(folder_, "", LoadTensors(wanted, checkpoint_));
  }
  absl::Status ReadNorm(const std::string& name, NormKind kind, int64_t width, NormParameters& from,
                        NormParameters& to) const;
  absl::Status ReadRest(std::initializer_list<const std::vector<float>*> destinations) const;
  DType WidestTable() const;
  // Counts what is read behind the hidden states, and takes it off the tensors that are ignored.
  void AccountForHeads();
  absl::Status ReadStep(const RowStep& config, const PlannedStep& step, RowStepParameters& to) const;

  const std::string folder_;
  const Shards checkpoint_;
  ModelSummary summary_;
  // What the plan's tensors point into: empty but for the part that is being read, which then moves on.
  const std::unique_ptr<ModelParameters> reading_ = std::make_unique<ModelParameters>();
  PlanParts plan_;
  std::vector<PlannedStep> pooled_steps_;  // of summary_.config, and so are heads
  std::vector<PlannedHead> heads_;
};

absl::StatusOr<std::unique_ptr<const OpenFolder>> OpenFolder::Open(const std::string& folder) {
  // The config first: without it the folder is no model, whatever else lies in it.
  HEADLIGHT_ASSIGN_OR_RETURN(const std::string encoder, EncoderFolder(folder));
  HEADLIGHT_ASSIGN_OR_RETURN(ConfigFields fields, ConfigFields::Read(encoder + "/config.json"));
  absl::StatusOr<Shards> checkpoint = Shards::Open(encoder);
  if (!checkpoint.ok()) return InFolder(folder, "", checkpoint.status());
  absl::StatusOr<Format> format = MakeFormat(std::move(fields), *checkpoint);
  if (!format.ok()) return InFolder(folder, "config.json", format.status());
  const bool own = format->name == "native" || absl::StartsWith(format->name, "torch.");
  if (!own) {
    HEADLIGHT_RETURN_IF_ERROR(InFolder(folder, "", ReadSentenceTransformers(folder, encoder, *format)));
    AddFilesOfHeads(folder, *format);
    HEADLIGHT_RETURN_IF_ERROR(InFolder(folder, "", format->config.Validate()));
  }

  std::unique_ptr<OpenFolder> open(new OpenFolder(folder, *std::move(checkpoint)));
  open->reading_->layers.resize(format->config.num_layers);
  TensorPlan plan = format->plan(format->config, *open->reading_);
  HEADLIGHT_RETURN_IF_ERROR(InFolder(folder, "", CheckPlan(plan, open->checkpoint_)));
  open->summary_ = {.format = format->name,
                    .config = format->config,
                    .precision = format->precision,
                    .parameters_precision = format->parameters_precision,
                    .num_parameters = NumPlannedElements(plan, open->checkpoint_),
                    .ignored_tensors = IgnoredTensors(plan, open->checkpoint_),
                    .not_understood = format->not_understood,
                    .assumed = format->assumed};
  open->plan_ = Divide(std::move(plan.wanted), *open->reading_);
  open->summary_.table_dtype = open->WidestTable();
  open->pooled_steps_ = std::move(format->pooled_steps);
  open->heads_ = std::move(format->heads);
  open->AccountForHeads();
  return open;
}

void OpenFolder::AccountForHeads() {
  std::set<std::string> taken;
  const auto add = [&](const std::vector<WantedTensor>& wanted, const Shards& files) {
    summary_.num_parameters += NumPlannedElements({.wanted = wanted}, files);
    if (&files != &checkpoint_) return;
    const std::vector<std::string> names = NamesIn(wanted, files);
    taken.insert(names.begin(), names.end());
  };
  const auto add_step = [&](const RowStep& config, const PlannedStep& step) {
    RowStepParameters nowhere;
    TensorPlan plan;
    WantStep(config, step.name, nowhere, plan);
    add(plan.wanted, step.files == nullptr ? checkpoint_ : *step.files);
  };
  const ModelConfig& config = summary_.config;
  for (size_t i = 0; i < pooled_steps_.size(); ++i) add_step(config.pooled_steps[i], pooled_steps_[i]);
  for (size_t i = 0; i < heads_.size(); ++i) {
    const HeadConfig& head = config.heads.heads[i];
    for (size_t step = 0; step < head.steps.size(); ++step) add_step(head.steps[step], heads_[i].steps[step]);
    if (head.kind != HeadKind::kLanguageModel) continue;
    std::vector<float> nowhere;
    TensorPlan plan;
    WantVocabBias(head, heads_[i], nowhere, plan);
    if (!head.tied) plan.wanted.push_back(WantedVocab(head, config.block.attention.embed_dim, heads_[i]));
    add(plan.wanted, checkpoint_);
  }
  std::erase_if(summary_.ignored_tensors, [&](const std::string& name) { return taken.contains(name); });
}

DType OpenFolder::WidestTable() const {
  DType widest = DType::kF32;
  bool any = false;
  for (const WantedTensor* table : {plan_.tokens, plan_.positions, plan_.token_types}) {
    if (table == nullptr) continue;
    const DType dtype = TableDType(*table, checkpoint_);
    if (!any || SizeOf(dtype) > SizeOf(widest)) widest = dtype;
    any = true;
  }
  return widest;
}

// A caller may have changed how the model computes, but not what it is.
absl::Status OpenFolder::Validate(const ModelConfig& config) const {
  const auto layers = static_cast<int64_t>(plan_.layers.size());
  if (config.num_layers == layers) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(folder_, ": layers: got ", layers, ", wanted num_layers ", config.num_layers));
}

absl::StatusOr<EmbeddingTables> OpenFolder::Embedding() const {
  EmbeddingTables tables;
  for (const auto& [from, to] :
       {std::pair(plan_.tokens, &tables.tokens), std::pair(plan_.positions, &tables.positions),
        std::pair(plan_.token_types, &tables.token_types)}) {
    if (from == nullptr) continue;
    absl::StatusOr<EmbeddingTable> table = LoadTable(*from, checkpoint_);
    if (!table.ok()) return InFolder(folder_, "", table.status());
    *to = *std::move(table);
  }
  if (summary_.config.embedding->norm) {
    HEADLIGHT_RETURN_IF_ERROR(ReadNorm("embedding.norm", NormKind::kLayerNorm, summary_.config.embedding->dim,
                                       reading_->embedding.norm, tables.norm));
  }
  EmbeddingParameters& reading = reading_->embedding;
  HEADLIGHT_RETURN_IF_ERROR(ReadRest({&reading.projection, &reading.projection_bias}));
  tables.projection = std::exchange(reading.projection, {});
  tables.projection_bias = std::exchange(reading.projection_bias, {});
  return tables;
}

absl::StatusOr<const BlockParameters*> OpenFolder::Layer(int64_t layer, BlockParameters& memory) const {
  BlockParameters& reading = reading_->layers[layer];
  std::swap(reading, memory);
  absl::Status status = Read(plan_.layers[layer]);
  std::swap(reading, memory);
  if (status.ok()) status = InFolder(folder_, "", ValidateLayer(summary_.config, layer, memory));
  HEADLIGHT_RETURN_IF_ERROR(status);
  return &memory;
}

// Those tensors outside of the layers that go to `destinations`.
absl::Status OpenFolder::ReadRest(std::initializer_list<const std::vector<float>*> destinations) const {
  for (const WantedTensor& tensor : plan_.rest) {
    const std::vector<float>* const to = tensor.parts.front().destination;
    if (std::find(destinations.begin(), destinations.end(), to) == destinations.end()) continue;
    HEADLIGHT_RETURN_IF_ERROR(Read({&tensor, 1}));
  }
  return absl::OkStatus();
}

absl::Status OpenFolder::ReadNorm(const std::string& name, NormKind kind, int64_t width, NormParameters& from,
                                  NormParameters& to) const {
  HEADLIGHT_RETURN_IF_ERROR(ReadRest({&from.gain, &from.bias}));
  to = std::exchange(from, {});
  return InFolder(folder_, "", ValidateNorm(name, to, kind, width));
}

absl::StatusOr<NormParameters> OpenFolder::FinalNorm() const {
  NormParameters norm;
  HEADLIGHT_RETURN_IF_ERROR(ReadNorm("final_norm", *summary_.config.final_norm_kind,
                                     summary_.config.block.attention.embed_dim, reading_->final_norm, norm));
  return norm;
}

absl::Status OpenFolder::ReadStep(const RowStep& config, const PlannedStep& step,
                                  RowStepParameters& to) const {
  TensorPlan plan;
  WantStep(config, step.name, to, plan);
  return InFolder(folder_, "", LoadTensors(plan.wanted, step.files == nullptr ? checkpoint_ : *step.files));
}

absl::StatusOr<std::vector<RowStepParameters>> OpenFolder::PooledSteps() const {
  std::vector<RowStepParameters> steps(pooled_steps_.size());
  for (size_t i = 0; i < steps.size(); ++i) {
    HEADLIGHT_RETURN_IF_ERROR(ReadStep(summary_.config.pooled_steps[i], pooled_steps_[i], steps[i]));
  }
  return steps;
}

absl::StatusOr<HeadTables> OpenFolder::Head(int64_t place) const {
  const HeadConfig& head = summary_.config.heads.heads[place];
  const PlannedHead& planned = heads_[place];
  HeadTables tables;
  tables.steps.resize(head.steps.size());
  for (size_t i = 0; i < head.steps.size(); ++i) {
    HEADLIGHT_RETURN_IF_ERROR(ReadStep(head.steps[i], planned.steps[i], tables.steps[i]));
  }
  if (head.kind != HeadKind::kLanguageModel) return tables;
  TensorPlan plan;
  WantVocabBias(head, planned, tables.vocab_bias, plan);
  HEADLIGHT_RETURN_IF_ERROR(InFolder(folder_, "", LoadTensors(plan.wanted, checkpoint_)));
  if (head.tied) return tables;
  absl::StatusOr<EmbeddingTable> table =
      LoadTable(WantedVocab(head, summary_.config.block.attention.embed_dim, planned), checkpoint_);
  if (!table.ok()) return InFolder(folder_, "", table.status());
  tables.vocab = *std::move(table);
  return tables;
}

absl::StatusOr<ModelParameters> OpenFolder::ReadAll() const {
  HEADLIGHT_RETURN_IF_ERROR(Read(plan_.rest));
  for (const std::vector<WantedTensor>& layer : plan_.layers) HEADLIGHT_RETURN_IF_ERROR(Read(layer));
  HEADLIGHT_ASSIGN_OR_RETURN(reading_->pooled_steps, PooledSteps());
  for (int64_t i = 0; i < std::ssize(heads_); ++i) {
    HEADLIGHT_ASSIGN_OR_RETURN(HeadTables tables, Head(i));
    HeadParameters& head = reading_->heads.emplace_back();
    head.steps = std::move(tables.steps);
    head.vocab_bias = std::move(tables.vocab_bias);
    head.vocab.resize(tables.vocab.elements());
    tables.vocab.ReadRow(0, tables.vocab.elements(), head.vocab.data());
  }
  HEADLIGHT_RETURN_IF_ERROR(InFolder(folder_, "", reading_->Validate(summary_.config)));
  return std::move(*reading_);
}

}  // namespace

absl::StatusOr<std::unique_ptr<const ModelFolder>> ModelFolder::Open(const std::string& folder) {
  return OpenFolder::Open(folder);
}

absl::Status CheckUnderstood(const ModelSummary& summary) {
  if (summary.not_understood.empty()) return absl::OkStatus();
  return absl::UnimplementedError(
      absl::StrCat("config.json: not understood: ", Listed(summary.not_understood)));
}

absl::StatusOr<ModelSummary> InspectModelFolder(const std::string& folder) {
  HEADLIGHT_ASSIGN_OR_RETURN(const auto open, OpenFolder::Open(folder));
  return open->summary();
}

absl::StatusOr<LoadedModelFolder> LoadModelFolder(const std::string& folder) {
  HEADLIGHT_ASSIGN_OR_RETURN(const auto open, OpenFolder::Open(folder));
  HEADLIGHT_ASSIGN_OR_RETURN(ModelParameters parameters, open->ReadAll());
  return LoadedModelFolder{.summary = open->summary(), .weights = std::move(parameters)};
}

absl::Status SaveModelFolder(const std::string& folder, const ModelConfig& config,
                             const ModelParameters& weights, bool with_precision) {
  HEADLIGHT_RETURN_IF_ERROR(config.Validate());
  const AttentionConfig& attention = config.block.attention;
  if (!config.other_blocks.empty() || !config.block.attention_norm || !config.layer_parameters.empty()) {
    return absl::UnimplementedError(
        "other_blocks, attention_norm, layer_parameters: the native format has layers that are alike, with "
        "all "
        "norms and parameters of their own");
  }
  if (attention.qk_norm != QkNorm::kNone || attention.relative_bias || attention.disentangled ||
      attention.sinks) {
    return absl::UnimplementedError(
        "qk_norm, relative_bias, disentangled, sinks: the native format has no tensors for them");
  }
  if (!config.pooled_steps.empty() || !config.heads.heads.empty()) {
    return absl::UnimplementedError("pooled_steps, heads: the native format ends at hidden states");
  }
  const ModelConfig resolved = config.Resolved();
  HEADLIGHT_RETURN_IF_ERROR(weights.Validate(resolved));
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return absl::InternalError(absl::StrCat(folder, ": cannot be made: ", error.message()));
  const std::string config_path = folder + "/config.json";
  if (std::filesystem::exists(config_path, error)) {
    return absl::AlreadyExistsError(absl::StrCat(config_path, ": there is a model already"));
  }
  // The config last: a folder that has it is complete.
  HEADLIGHT_RETURN_IF_ERROR(
      WriteSafetensors(folder + "/model.safetensors", NativeTensors(resolved, weights), {{"format", "pt"}}));
  return WriteFileAtomically(config_path, NativeConfigText(resolved, with_precision));
}

}  // namespace headlight
