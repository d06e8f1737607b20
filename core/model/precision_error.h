// SPDX-License-Identifier: Apache-2.0
//
// How far a model's arithmetic takes its output from f32, measured on a fixed probe when it is loaded.
#ifndef HEADLIGHT_CORE_MODEL_PRECISION_ERROR_H_
#define HEADLIGHT_CORE_MODEL_PRECISION_ERROR_H_

#include <array>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "core/model/model.h"
#include "core/model/parameter_source.h"
#include "core/product/precision.h"

namespace headlight {

// Of outputs against those in f32. A model that runs in f32 has the default values.
struct PrecisionError {
  double max_abs = 0.0;  // largest difference
  double rms = 0.0;      // square root of the mean squared difference
  double cosine = 1.0;   // of the angle between the two, all outputs taken as one vector
};

// What models are expected to keep of the angle, the cosine of the worst that is well (docs/performance.md).
constexpr double ExpectedCosine(Precision precision) {
  return precision == Precision::kF32 ? 1.0 : precision == Precision::kBf16 ? 0.9995 : 0.998;
}

// A sentence for whoever loads the model where it keeps less than it should with parameters held so; else
// empty.
std::string PrecisionWarning(const PrecisionError& error, Precision parameters);

// The sequences of the probe.
inline constexpr std::array<int64_t, 3> kProbeLens = {1, 17, 64};

// Compares `model` with one of the same parameters in f32 on three sequences of 1, 17 and 64 tokens (shorter
// where the position table ends): random ids where it begins at ids, else rows uniform in [-1, 1). From a
// fixed seed and on one thread; the result is the same every time. Takes the memory of one layer in f32
// meanwhile, plain and packed. Errors as Model::Create and Forward.
absl::StatusOr<PrecisionError> MeasurePrecisionError(const Model& model, const ParameterSource& source);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_MODEL_PRECISION_ERROR_H_
