// SPDX-License-Identifier: Apache-2.0
//
// Families of checkpoints: what their config.json says and how their tensors are called.
#ifndef HEADLIGHT_CORE_CHECKPOINT_FORMATS_FORMAT_H_
#define HEADLIGHT_CORE_CHECKPOINT_FORMATS_FORMAT_H_

#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/checkpoint/config_fields.h"
#include "core/checkpoint/shards.h"
#include "core/checkpoint/tensor_plan.h"
#include "core/model/config.h"
#include "core/model/parameters.h"

namespace headlight {

// Where the tensors of a step behind the hidden states are: "<name>.weight", "<name>.bias".
struct PlannedStep {
  std::shared_ptr<const Shards> files;  // null: the model's own checkpoint
  std::string name;
};

struct PlannedHead {
  std::vector<PlannedStep> steps;       // one for each of the head's
  std::string vocab;                    // the name of a table of its own
  std::vector<std::string> vocab_bias;  // of which the checkpoint has one
};

// What a format makes of config.json and the checkpoint's names and shapes.
struct Format {
  std::string name;
  ModelConfig config;  // not yet resolved or validated
  std::optional<Precision> precision;
  std::optional<Precision> parameters_precision;
  bool says_pooling = false;  // in our own words, which go before those of sentence-transformers
  bool knows_code = false;    // that comes with the model ("auto_map"): it computes what is computed here
  std::vector<std::string> not_understood;  // keys of config.json that nobody knows
  std::vector<std::string> assumed;         // what stands for keys that are not there
  std::vector<PlannedStep> pooled_steps;    // of config.pooled_steps
  std::vector<PlannedHead> heads;           // of config.heads
  std::vector<int32_t> special_ids;         // of tokens that are no text, as far as the family says
  // The wanted tensors, into `weights`, whose layers are there but empty. `config` is valid and resolved.
  std::function<TensorPlan(const ModelConfig& config, ModelParameters& weights)> plan;
};

// Each reads the keys that it knows; problems are left in `fields`, and the format is then incomplete.
using FormatReader = Format (*)(ConfigFields& fields, const Shards& checkpoint);

Format ReadNative(ConfigFields& fields, const Shards& checkpoint);
Format ReadTorchAttention(ConfigFields& fields, const Shards& checkpoint);
Format ReadTorchEncoder(ConfigFields& fields, const Shards& checkpoint);  // also a single layer
Format ReadBert(ConfigFields& fields, const Shards& checkpoint);          // also Jina's
Format ReadJinaBert(ConfigFields& fields, const Shards& checkpoint);
Format ReadRoberta(ConfigFields& fields, const Shards& checkpoint);
Format ReadDistilBert(ConfigFields& fields, const Shards& checkpoint);
Format ReadMpnet(ConfigFields& fields, const Shards& checkpoint);
Format ReadElectra(ConfigFields& fields, const Shards& checkpoint);
Format ReadAlbert(ConfigFields& fields, const Shards& checkpoint);
Format ReadModernBert(ConfigFields& fields, const Shards& checkpoint);
Format ReadNomicBert(ConfigFields& fields, const Shards& checkpoint);
Format ReadGte(ConfigFields& fields, const Shards& checkpoint);
Format ReadNew(ConfigFields& fields, const Shards& checkpoint);  // GTE as its makers' code calls it
Format ReadDeberta(ConfigFields& fields, const Shards& checkpoint);
Format ReadDebertaV2(ConfigFields& fields, const Shards& checkpoint);
Format ReadGpt2(ConfigFields& fields, const Shards& checkpoint);
Format ReadLlama(ConfigFields& fields, const Shards& checkpoint);
Format ReadMistral(ConfigFields& fields, const Shards& checkpoint);
Format ReadQwen2(ConfigFields& fields, const Shards& checkpoint);
Format ReadQwen3(ConfigFields& fields, const Shards& checkpoint);
Format ReadOlmo2(ConfigFields& fields, const Shards& checkpoint);
Format ReadPhi3(ConfigFields& fields, const Shards& checkpoint);
Format ReadGemma3Text(ConfigFields& fields, const Shards& checkpoint);
Format ReadGptNeoX(ConfigFields& fields, const Shards& checkpoint);

// The format that config.json names: by "layout" if "format" is "headlight", else by "model_type". All
// problems of the config in one status, with the names that are served.
absl::StatusOr<Format> ReadFormat(ConfigFields& fields, const Shards& checkpoint);

// Larger than any width or table; ModelConfig::Validate has the exact limits.
inline constexpr int64_t kMaxDimension = int64_t{1} << 31;

// A Linear layer of PyTorch, "<name>.weight" [out, in] and, if `bias`, "<name>.bias" [out].
void WantLinear(const std::string& name, int64_t in, int64_t out, bool bias, std::vector<float>& weight,
                std::vector<float>& bias_vector, TensorPlan& plan);

// Some Linear layers of one input as a single module, their outputs side by side in this order.
struct FusedLinear {
  int64_t out;
  std::vector<float>* weight;
  std::vector<float>* bias;
};
void WantFusedLinear(const std::string& name, int64_t in, bool bias,
                     std::initializer_list<FusedLinear> layers, TensorPlan& plan);

// A LayerNorm or RMSNorm, "<name>.weight" or, from old TensorFlow checkpoints, "<name>.gamma"; "<name>.bias"
// or "<name>.beta" if `bias`.
void WantNorm(const std::string& name, int64_t width, bool bias, NormParameters& norm, TensorPlan& plan);

// A matrix or vector that is taken as it is.
void WantAsIs(const std::string& name, Shape shape, std::vector<float>& destination, TensorPlan& plan);

// The path of the encoder's own files in a folder of sentence-transformers, "0_Transformer" say; empty if
// they are in the folder itself, or it is of another kind. Errors name the file.
absl::StatusOr<std::string> SentenceTransformersEncoder(const std::string& folder);

// What the files of sentence-transformers in `folder`, whose encoder lies in the folder `encoder`, say of
// pooling, unless it says so itself. Errors name the file.
absl::Status ReadSentenceTransformers(const std::string& folder, const std::string& encoder, Format& format);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_CHECKPOINT_FORMATS_FORMAT_H_
