// SPDX-License-Identifier: Apache-2.0
//
// Where a model's learned parameters come from, a part at a time: who packs them needs one layer in plain
// layout, never all of them.
#ifndef HEADLIGHT_CORE_MODEL_PARAMETER_SOURCE_H_
#define HEADLIGHT_CORE_MODEL_PARAMETER_SOURCE_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/model/block_parameters.h"
#include "core/model/config.h"
#include "core/model/embedding_table.h"
#include "core/model/heads/head_parameters.h"

namespace headlight {

// Parts may be asked for in any order and again, and different ones by different threads at once. Each fits
// the config that Validate was OK for, or is an error: INVALID_ARGUMENT names the tensor.
class ParameterSource {
 public:
  virtual ~ParameterSource() = default;

  // INVALID_ARGUMENT naming what is known not to fit `config` (resolved) before any part is asked for.
  virtual absl::Status Validate(const ModelConfig& config) const = 0;

  virtual int64_t NumParameters() const = 0;

  // With ModelConfig::embedding.
  virtual absl::StatusOr<EmbeddingTables> Embedding() const = 0;

  // A layer where it is, or read into `memory`, which a caller keeps from layer to layer. Valid until
  // `memory` is used again or the source changes.
  virtual absl::StatusOr<const BlockParameters*> Layer(int64_t layer, BlockParameters& memory) const = 0;

  // With ModelConfig::final_norm.
  virtual absl::StatusOr<NormParameters> FinalNorm() const = 0;

  // Of ModelConfig::pooled_steps.
  virtual absl::StatusOr<std::vector<RowStepParameters>> PooledSteps() const = 0;

  // Of ModelConfig::heads, by place.
  virtual absl::StatusOr<HeadTables> Head(int64_t place) const = 0;
};

}  // namespace headlight

#endif  // HEADLIGHT_CORE_MODEL_PARAMETER_SOURCE_H_
