// SPDX-License-Identifier: Apache-2.0
//
// What a request asks to know of the attention weights: its fields checked against the model, and the shapes
// of the answer.
#ifndef HEADLIGHT_SERVER_REQUEST_WEIGHTS_CHOICE_H_
#define HEADLIGHT_SERVER_REQUEST_WEIGHTS_CHOICE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "core/attention/config.h"
#include "core/model/config.h"
#include "core/tensor/shape.h"
#include "server/batch/batch_input.h"
#include "server/request/request_fields.h"

namespace headlight {

// Largest WeightsFields::top_k.
inline constexpr int64_t kMaxTopK = 1024;

// The request's fields up to its layers. INVALID_ARGUMENT: a mode that is none, top_k, heads, queries, layers
// or cells out of range, heads or layers twice, layers that report different numbers of heads, or any of them
// where the mode has no use for it. That query_end is within a sequence is left to PlanWeights, which knows
// their lengths.
absl::StatusOr<WeightsRequest> CheckWeights(const WeightsFields& asked, const ModelConfig& config,
                                            const FieldNames& names);

// Shapes of the reply's tensors; empty where the mode has none.
struct WeightsShapes {
  Shape weights;
  Shape keys;
  Shape received_mass;
};

// Sets the lengths of `request`; its numbers to make room for are left to whoever has checked the shapes'
// sizes. `q_len` and `kv_len` are those of the longest sequence. INVALID_ARGUMENT if the queries end beyond
// q_len.
absl::StatusOr<WeightsShapes> PlanWeights(const AttentionConfig& config, int64_t batch, int64_t q_len,
                                          int64_t kv_len, const FieldNames& names, WeightsRequest& request);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_REQUEST_WEIGHTS_CHOICE_H_
