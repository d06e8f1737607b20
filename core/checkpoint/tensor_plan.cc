// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/tensor_plan.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <new>
#include <set>
#include <span>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "core/base/status_macros.h"

namespace headlight {
namespace {

constexpr std::array<absl::string_view, 4> kWeightDtypes = {"F32", "F16", "BF16", "F64"};
// A config that speaks of other tensors than the checkpoint makes two lines for each of them: enough is
// enough.
constexpr size_t kMaxListed = 400;

// The name that the checkpoint has for a wanted tensor, or null.
const std::string* NameIn(const Shards& checkpoint, const WantedTensor& wanted) {
  for (const std::string& name : wanted.names) {
    if (checkpoint.Find(name) != nullptr) return &name;
  }
  return nullptr;
}

bool IsIgnored(const TensorPlan& plan, const std::string& name) {
  if (!absl::StartsWith(name, plan.prefix)) return true;
  return std::any_of(plan.ignored_prefixes.begin(), plan.ignored_prefixes.end(),
                     [&](const std::string& prefix) { return absl::StartsWith(name, prefix); }) ||
         std::any_of(plan.ignored_suffixes.begin(), plan.ignored_suffixes.end(),
                     [&](const std::string& suffix) { return absl::EndsWith(name, suffix); });
}

std::set<std::string> TakenNames(const TensorPlan& plan, const Shards& checkpoint) {
  std::set<std::string> taken;
  for (const WantedTensor& wanted : plan.wanted) {
    const std::string* name = NameIn(checkpoint, wanted);
    if (name != nullptr) taken.insert(*name);
  }
  return taken;
}

// What is wrong with one wanted tensor; empty if nothing is.
std::string ProblemOf(const Shards& checkpoint, const WantedTensor& wanted) {
  const std::string* name = NameIn(checkpoint, wanted);
  if (name == nullptr) {
    if (wanted.optional) return "";
    const std::string others =
        wanted.names.size() > 1
            ? absl::StrCat(" (or ", absl::StrJoin(wanted.names.begin() + 1, wanted.names.end(), ", "), ")")
            : "";
    return absl::StrCat("missing: ", wanted.names.front(), others, ", expected ", ToString(wanted.shape));
  }
  const SafetensorsEntry& entry = *checkpoint.Find(*name);
  const bool weights =
      std::find(kWeightDtypes.begin(), kWeightDtypes.end(), entry.dtype) != kWeightDtypes.end();
  std::string problem;
  if (entry.shape != wanted.shape) {
    problem = absl::StrCat("misshapen: ", *name, ", expected ", ToString(wanted.shape), ", found ",
                           ToString(entry.shape));
  }
  if (!weights) {
    absl::StrAppend(&problem, problem.empty() ? "" : "\n  ", "dtype: ", *name, ", expected ",
                    absl::StrJoin(kWeightDtypes, ", "), ", found ", entry.dtype);
  }
  return problem;
}

// source [rows, cols] -> the part of its outputs, as [in, size].
std::vector<float> Extract(const std::vector<float>& source, const WantedTensor& wanted,
                           const TensorPart& part) {
  const int64_t cols = wanted.shape.empty() ? 1 : wanted.shape.back();
  const int64_t rows = cols == 0 ? 0 : static_cast<int64_t>(source.size()) / cols;
  if (wanted.orientation == Orientation::kInOut) {
    const int64_t size = part.size == 0 ? cols : part.size;
    std::vector<float> out(rows * size);
    for (int64_t r = 0; r < rows; ++r) {
      std::copy_n(source.data() + r * cols + part.begin, size, out.data() + r * size);
    }
    return out;
  }
  const int64_t size = part.size == 0 ? rows : part.size;
  std::vector<float> out(cols * size);
  constexpr int64_t kTile = 32;  // reads and writes of a tile stay in L1
  for (int64_t first = 0; first < size; first += kTile) {
    for (int64_t col = 0; col < cols; col += kTile) {
      for (int64_t r = first; r < std::min(first + kTile, size); ++r) {
        for (int64_t c = col; c < std::min(col + kTile, cols); ++c) {
          out[c * size + r] = source[(part.begin + r) * cols + c];
        }
      }
    }
  }
  return out;
}

// INVALID_ARGUMENT naming the tensor and the place of its first number that is NaN or infinite: one of them
// makes all outputs NaN, or worse, in int8, numbers like any others.
absl::Status CheckFinite(const std::string& name, const Shape& shape, std::span<const float> values) {
  const auto found = std::find_if(values.begin(), values.end(), [](float x) { return !std::isfinite(x); });
  if (found == values.end()) return absl::OkStatus();
  int64_t place = found - values.begin();
  std::vector<int64_t> index(shape.size());
  for (size_t i = shape.size(); i-- > 0; place /= shape[i]) index[i] = place % shape[i];
  return absl::InvalidArgumentError(
      absl::StrCat(name, "[", absl::StrJoin(index, ", "), "]: got ", *found, ", wanted finite numbers"));
}

absl::Status LoadTensor(const Shards& checkpoint, const WantedTensor& wanted) {
  const std::string* name = NameIn(checkpoint, wanted);
  if (name == nullptr) return absl::OkStatus();
  HEADLIGHT_ASSIGN_OR_RETURN(std::vector<float> values, checkpoint.ReadF32(*name));
  HEADLIGHT_RETURN_IF_ERROR(CheckFinite(*name, wanted.shape, values));
  const bool as_it_is =
      wanted.parts.size() == 1 && wanted.parts[0].size == 0 && wanted.orientation == Orientation::kInOut;
  if (as_it_is) {
    *wanted.parts[0].destination = std::move(values);
    return absl::OkStatus();
  }
  for (const TensorPart& part : wanted.parts) *part.destination = Extract(values, wanted, part);
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckPlan(const TensorPlan& plan, const Shards& checkpoint) {
  std::vector<std::string> problems;
  for (const WantedTensor& wanted : plan.wanted) {
    std::string problem = ProblemOf(checkpoint, wanted);
    if (!problem.empty()) problems.push_back(std::move(problem));
  }
  const std::set<std::string> taken = TakenNames(plan, checkpoint);
  for (const auto& [name, entry] : checkpoint.entries()) {
    if (taken.contains(name) || IsIgnored(plan, name)) continue;
    problems.push_back(absl::StrCat("surplus: ", name, ", found ", ToString(entry.shape), " ", entry.dtype));
  }
  if (problems.empty()) return absl::OkStatus();
  const size_t count = problems.size();
  if (count > kMaxListed) {
    problems.resize(kMaxListed);
    problems.push_back(absl::StrCat("and ", count - kMaxListed, " more"));
  }
  return absl::InvalidArgumentError(absl::StrCat(count, count == 1 ? " tensor does" : " tensors do",
                                                 " not fit:\n  ", absl::StrJoin(problems, "\n  ")));
}

std::vector<std::string> IgnoredTensors(const TensorPlan& plan, const Shards& checkpoint) {
  const std::set<std::string> taken = TakenNames(plan, checkpoint);
  std::vector<std::string> ignored;
  for (const auto& [name, entry] : checkpoint.entries()) {
    if (!taken.contains(name)) ignored.push_back(name);
  }
  return ignored;
}

int64_t NumPlannedElements(const TensorPlan& plan, const Shards& checkpoint) {
  int64_t elements = 0;
  for (const WantedTensor& wanted : plan.wanted) {
    if (NameIn(checkpoint, wanted) != nullptr) elements += NumElements(wanted.shape).value_or(0);
  }
  return elements;
}

absl::Status LoadPlan(const TensorPlan& plan, const Shards& checkpoint) {
  try {
    for (const WantedTensor& wanted : plan.wanted) {
      HEADLIGHT_RETURN_IF_ERROR(LoadTensor(checkpoint, wanted));
    }
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("not enough memory for the weights");
  }
  return absl::OkStatus();
}

}  // namespace headlight
