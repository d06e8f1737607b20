// SPDX-License-Identifier: Apache-2.0
//
// What a model computes, in plain loops and double precision. Model is tested against this file; nothing is
// fast in it and nothing is shared with the fast path but the descriptions.
//
//   x = tokens[id] + positions[position] + token_types[type], then norm, as EmbeddingConfig says
//   each layer, with a(x) its attention (attention/reference.h) and f(x) its feed-forward network:
//     kNone  x = a(x)
//     kPost  x = norm1(x + a(x)),   x = norm2(x + f(x))
//     kPre   x = x + a(norm1(x)),   x = x + f(norm2(x));   a(x) where BlockConfig::attention_norm is false
//   x = final_norm(x), where there is one
//
// What attention reads is rounded to f32 on its way into ReferenceAttention.
#ifndef HEADLIGHT_CORE_MODEL_REFERENCE_H_
#define HEADLIGHT_CORE_MODEL_REFERENCE_H_

#include <cstdint>
#include <span>
#include <vector>

#include "core/attention/reference.h"
#include "core/model/config.h"
#include "core/model/model.h"
#include "core/model/parameters.h"

namespace headlight {

struct ModelReferenceResult {
  std::vector<double> hidden;                        // [tokens, embed_dim]
  std::vector<std::vector<ReferenceResult>> layers;  // of each layer, the attention of each sequence
};

// `config` resolved, `batch` valid for it; batch.attention.output and sinks are not used.
ModelReferenceResult ReferenceModel(const ModelConfig& config, const ModelParameters& weights,
                                    const ModelBatch& batch);

// [sequences, pooled_dim]: what pooling.h makes of `hidden`, as config says, and pooled_steps with these
// parameters of that.
std::vector<double> ReferencePooled(const ModelConfig& config, const std::vector<double>& hidden,
                                    std::span<const int64_t> cu_lens,
                                    std::span<const RowStepParameters> steps = {});

double ReferenceActivation(Activation activation, double x);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_MODEL_REFERENCE_H_
