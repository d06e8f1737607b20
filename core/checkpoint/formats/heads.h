// SPDX-License-Identifier: Apache-2.0
//
// Heads by the names of their tensors. A family adds those that it has to its Format in a few lines; a head
// is there if the checkpoint has its tensors, and one that is incomplete, or that two readings fit, leaves
// the encoder served and is refused with the reason.
#ifndef HEADLIGHT_CORE_CHECKPOINT_FORMATS_HEADS_H_
#define HEADLIGHT_CORE_CHECKPOINT_FORMATS_HEADS_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/checkpoint/config_fields.h"
#include "core/checkpoint/formats/format.h"
#include "core/checkpoint/shards.h"
#include "core/checkpoint/tensor_plan.h"
#include "core/model/config.h"
#include "core/model/heads/head_config.h"
#include "core/model/heads/head_parameters.h"

namespace headlight {

// A step by the name before ".weight" and ".bias".
struct HeadStep {
  RowStep::Kind kind = RowStep::Kind::kDense;
  std::string name;
  RowActivation activation = RowActivation::kIdentity;
  double eps = 0.0;                         // of kLayerNorm
  std::optional<bool> bias = std::nullopt;  // whether there is one; absent: the checkpoint says
};
HeadStep HeadDense(const std::string& name, RowActivation activation = RowActivation::kIdentity);
HeadStep HeadNorm(const std::string& name, double eps);

struct HeadNames {
  HeadKind kind = HeadKind::kScores;
  // What an entry of "architectures" ends with, "ForTokenClassification" say, where the tensors alone do not
  // tell; empty where they do.
  std::string task;
  // The first one of kLanguageModel, the last one of other kinds tells that it is there.
  std::vector<HeadStep> steps;
  ScoresOf scores_of = ScoresOf::kFirstToken;
  // kLanguageModel: the table of its own, unless `tied`, and the names that its bias may have. Without steps
  // the table tells that it is there or, where there is none, `task`.
  std::string vocab;
  std::vector<std::string> vocab_bias;
  std::optional<bool> has_vocab_bias = std::nullopt;  // absent: the checkpoint says
  bool tied = true;
  std::optional<double> logit_cap = std::nullopt;
  // Not empty: why the head is refused if it is there.
  std::string refusal;
};

// Adds the head to `format`, whose sizes are known, if the checkpoint has it.
void AddHead(const HeadNames& names, ConfigFields& fields, const Shards& checkpoint, Format& format);

// The shapes that families have in common, under the names of transformers.

// "classifier" [labels, width], which scores tokens or, behind `before`, sequences.
void AddClassifiers(const std::vector<HeadStep>& before, ConfigFields& fields, const Shards& checkpoint,
                    Format& format);
// "classifier.dense" and "classifier.out_proj" of sequences, "classifier" of tokens.
void AddDenseClassifiers(RowActivation activation, ConfigFields& fields, const Shards& checkpoint,
                         Format& format);

// A masked language model's dense layer and norm, and the table with its bias in `base`.
struct MaskedLmNames {
  std::string base;       // of ".decoder.weight" and ".bias" or ".decoder.bias"
  std::string transform;  // of ".dense" and ".<norm>"
  std::string norm = "LayerNorm";
};
inline const MaskedLmNames kBertLm = {.base = "cls.predictions", .transform = "cls.predictions.transform"};
inline const MaskedLmNames kRobertaLm = {.base = "lm_head", .transform = "lm_head", .norm = "layer_norm"};
void AddMaskedLm(const MaskedLmNames& names, RowActivation activation, bool tied, ConfigFields& fields,
                 const Shards& checkpoint, Format& format);

// What stands behind a stack that reads from left to right: "score" of the last token, "score" or
// "classifier" of each, and the products with the table `vocab` that draw the next token. An architecture's
// end, `task`, tells that there are such products where the table is tied.
struct DecoderHeads {
  std::string vocab = "lm_head";
  std::string task = "ForCausalLM";
  bool tied = false;
  std::optional<double> logit_cap = std::nullopt;
};
void AddDecoderHeads(const DecoderHeads& heads, ConfigFields& fields, const Shards& checkpoint,
                     Format& format);

// The activation of a head alone that `key` names as transformers does; where it is not served, `refusal`
// says so.
RowActivation ReadHeadActivation(ConfigFields& fields, const std::string& key, const std::string& fallback,
                                 std::string& refusal);

// Refuses the outputs of a head for this reason.
void RefuseHead(HeadKind kind, const std::string& why, Format& format);

// What config.json says of heads whatever the family: the names of labels, and the activation that
// sentence-transformers applies to scores.
void ReadHeadKeys(ConfigFields& fields, Format& format);

// Has the model's scores pass through an activation, "torch.nn.modules.activation.Sigmoid", that `where`
// names; one that is not served refuses them.
void SetScoreActivation(const std::string& name, const std::string& where, Format& format);

// The heads of BGE-M3 beside the model, sparse_linear and colbert_linear (Chen et al. 2024,
// arXiv:2402.03216). Errors name the file.
void AddFilesOfHeads(const std::string& folder, Format& format);

// The activation that a PyTorch class computes, by its full name: "torch.nn.modules.activation.Tanh".
// UNIMPLEMENTED: one that is not served; the message says which are.
absl::StatusOr<RowActivation> TorchActivation(const std::string& name);

RowActivation ToRowActivation(Activation activation);

// The tensors of a step called `name`, into `to`.
void WantStep(const RowStep& step, const std::string& name, RowStepParameters& to, TensorPlan& plan);
// Those of a whole head but for a table of its own, and that table, whose plan's destination is never
// written.
void WantVocabBias(const HeadConfig& head, const PlannedHead& names, std::vector<float>& to,
                   TensorPlan& plan);
WantedTensor WantedVocab(const HeadConfig& head, int64_t embed_dim, const PlannedHead& names);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_CHECKPOINT_FORMATS_HEADS_H_
