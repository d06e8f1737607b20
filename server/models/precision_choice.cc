// SPDX-License-Identifier: Apache-2.0
#include "server/models/precision_choice.h"

#include <cstddef>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/text.h"

namespace headlight {
namespace {

std::optional<Precision> PrecisionNamed(const std::string& name) {
  for (const Precision precision : {Precision::kF32, Precision::kBf16, Precision::kInt8}) {
    if (name == Name(precision)) return precision;
  }
  return std::nullopt;
}

}  // namespace

Precision PrecisionChoice::Of(const std::string& name, std::optional<Precision> asked_by_config) const {
  const auto chosen = by_model.find(name);
  return chosen != by_model.end() ? chosen->second
                                  : asked_by_config.value_or(otherwise.value_or(Precision::kF32));
}

std::optional<Precision> PrecisionChoice::Overruled(const std::string& name,
                                                    std::optional<Precision> asked_by_config) const {
  const bool overruled =
      otherwise && asked_by_config && *otherwise != *asked_by_config && !by_model.contains(name);
  return overruled ? otherwise : std::nullopt;
}

absl::StatusOr<PrecisionChoice> ParsePrecisionChoice(const std::string& text) {
  PrecisionChoice choice;
  const std::vector<std::string> parts = absl::StrSplit(text, ',');
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::vector<std::string> sides = absl::StrSplit(parts[i], absl::MaxSplits('=', 1));
    const std::optional<Precision> precision = PrecisionNamed(sides.back());
    if (!precision || (sides.size() == 2 && sides[0].empty())) {
      return absl::InvalidArgumentError(
          absl::StrCat("got ", Quoted(parts[i]), ", wanted f32|bf16|int8 or NAME=f32|bf16|int8"));
    }
    if (sides.size() == 1) {
      if (i > 0) {
        return absl::InvalidArgumentError(absl::StrCat(
            "got ", parts[i], " in place ", i + 1, ", wanted the one without a name in front of the others"));
      }
      choice.otherwise = *precision;
    } else if (!choice.by_model.emplace(sides[0], *precision).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("got ", Quoted(sides[0]), " twice, wanted each name once"));
    }
  }
  return choice;
}

std::string ToText(const PrecisionChoice& choice) {
  std::string text = Name(choice.otherwise.value_or(Precision::kF32));
  for (const auto& [name, precision] : choice.by_model)
    absl::StrAppend(&text, ",", name, "=", Name(precision));
  return text;
}

}  // namespace headlight
