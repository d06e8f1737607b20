// SPDX-License-Identifier: Apache-2.0
//
// How far a layer's arithmetic takes its output from f32, measured on a fixed probe when a model is loaded.
#ifndef HEADLIGHT_CORE_ATTENTION_PRECISION_ERROR_H_
#define HEADLIGHT_CORE_ATTENTION_PRECISION_ERROR_H_

#include <span>

#include "absl/status/statusor.h"
#include "core/attention/multi_head_attention.h"
#include "core/attention/weights.h"

namespace headlight {

// Of outputs against those in f32. A layer that runs in f32 has the default values.
struct PrecisionError {
  double max_abs = 0.0;  // largest difference
  double rms = 0.0;      // square root of the mean squared difference
  double cosine = 1.0;   // of the angle between the two, all outputs taken as one vector
};

// Of `got` against `wanted`, which are equally many.
PrecisionError ComparePrecision(std::span<const float> got, std::span<const float> wanted);

// Compares `attention` with a layer of the same `weights` in f32 on three sequences of 1, 17 and 64 tokens,
// uniform in
// [-1, 1) from a fixed seed, on one thread; the result is the same every time. Takes the memory of a second
// packed layer meanwhile. Errors as MultiHeadAttention::Create and Forward.
absl::StatusOr<PrecisionError> MeasurePrecisionError(const MultiHeadAttention& attention,
                                                     const AttentionWeights& weights);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_PRECISION_ERROR_H_
