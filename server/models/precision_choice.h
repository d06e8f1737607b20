// SPDX-License-Identifier: Apache-2.0
//
// Which precision each model is served in, or has its parameters in.
#ifndef HEADLIGHT_SERVER_MODELS_PRECISION_CHOICE_H_
#define HEADLIGHT_SERVER_MODELS_PRECISION_CHOICE_H_

#include <map>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "core/attention/config.h"

namespace headlight {

struct PrecisionChoice {
  std::optional<Precision> otherwise;  // of all others; none given: f32
  std::map<std::string, Precision> by_model;

  // For the model `name`: what is chosen for that name, else what its config.json asks for, else `otherwise`.
  Precision Of(const std::string& name, std::optional<Precision> asked_by_config = std::nullopt) const;

  // What was given for all models and yet does not hold for `name`, since its config.json asks for another.
  std::optional<Precision> Overruled(const std::string& name, std::optional<Precision> asked_by_config) const;

  // Whether both choose the same for every model.
  bool operator==(const PrecisionChoice& other) const {
    return otherwise.value_or(Precision::kF32) == other.otherwise.value_or(Precision::kF32) &&
           by_model == other.by_model;
  }
};

// "bf16", "f32,bert=int8" or "bert=int8": at most one precision without a name, and it stands first; no name
// twice. INVALID_ARGUMENT saying what it got and what it wanted.
absl::StatusOr<PrecisionChoice> ParsePrecisionChoice(const std::string& text);

// As ParsePrecisionChoice reads it, always with the first.
std::string ToText(const PrecisionChoice& choice);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_MODELS_PRECISION_CHOICE_H_
