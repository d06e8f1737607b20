// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/tensor_plan.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <new>
#include <set>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "core/base/status_macros.h"
#include "core/base/text.h"
#include "core/checkpoint/tensor_reader.h"

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

// One sentence instead of two lines for each tensor, where every name has something before it. A few of the
// wanted ones tell.
absl::Status CheckPrefix(const TensorPlan& plan, const Shards& checkpoint) {
  constexpr size_t kTried = 4;
  for (const WantedTensor& wanted : plan.wanted) {
    if (NameIn(checkpoint, wanted) != nullptr) return absl::OkStatus();
  }
  for (size_t i = 0; i < std::min(kTried, plan.wanted.size()); ++i) {
    const std::string& wanted = plan.wanted[i].names.front();
    for (const auto& [name, entry] : checkpoint.entries()) {
      if (entry.shape != plan.wanted[i].shape || !absl::EndsWith(name, "." + wanted)) continue;
      return absl::InvalidArgumentError(absl::StrCat(
          "names: got ", Quoted(name), ", wanted ", Quoted(wanted), ": nobody here knows the prefix ",
          Quoted(name.substr(0, name.size() - wanted.size())), "; save the model without it"));
    }
  }
  return absl::OkStatus();
}

absl::Status LoadTensor(const Shards& checkpoint, const WantedTensor& wanted) {
  const std::string* name = NameIn(checkpoint, wanted);
  if (name == nullptr) {
    for (const TensorPart& part : wanted.parts) part.destination->clear();
    return absl::OkStatus();
  }
  const TensorReader reader(*name, *checkpoint.Find(*name));
  for (const TensorPart& part : wanted.parts) {
    std::vector<float>& to = *part.destination;
    if (wanted.orientation == Orientation::kInOut) {
      HEADLIGHT_RETURN_IF_ERROR(reader.ReadCols(part.begin, part.size, to, part.period));
    } else {
      HEADLIGHT_RETURN_IF_ERROR(reader.ReadRowsTransposed(part.begin, part.size, to, part.period));
    }
    if (wanted.added != 0.0f) {
      for (float& number : to) number += wanted.added;
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckPlan(const TensorPlan& plan, const Shards& checkpoint) {
  HEADLIGHT_RETURN_IF_ERROR(CheckPrefix(plan, checkpoint));
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

absl::Status CheckWanted(std::span<const WantedTensor> wanted, const Shards& checkpoint) {
  std::vector<std::string> problems;
  for (const WantedTensor& tensor : wanted) {
    std::string problem = ProblemOf(checkpoint, tensor);
    if (!problem.empty()) problems.push_back(std::move(problem));
  }
  return problems.empty() ? absl::OkStatus() : absl::InvalidArgumentError(absl::StrJoin(problems, "; "));
}

std::vector<std::string> NamesIn(std::span<const WantedTensor> wanted, const Shards& checkpoint) {
  std::vector<std::string> names;
  for (const WantedTensor& tensor : wanted) {
    const std::string* const name = NameIn(checkpoint, tensor);
    if (name != nullptr) names.push_back(*name);
  }
  return names;
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
  std::set<std::string> counted;
  int64_t elements = 0;
  for (const WantedTensor& wanted : plan.wanted) {
    const std::string* name = NameIn(checkpoint, wanted);
    if (name == nullptr || !counted.insert(*name).second) continue;
    elements += NumElements(wanted.shape).value_or(0);
  }
  return elements;
}

absl::Status LoadTensors(std::span<const WantedTensor> wanted, const Shards& checkpoint) {
  try {
    for (const WantedTensor& tensor : wanted) HEADLIGHT_RETURN_IF_ERROR(LoadTensor(checkpoint, tensor));
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("not enough memory for the weights");
  }
  return absl::OkStatus();
}

absl::StatusOr<EmbeddingTable> LoadTable(const WantedTensor& wanted, const Shards& checkpoint) {
  const std::string* name = NameIn(checkpoint, wanted);
  if (name == nullptr) return EmbeddingTable();
  return TensorReader(*name, *checkpoint.Find(*name)).ReadTable();
}

DType TableDType(const WantedTensor& wanted, const Shards& checkpoint) {
  const std::string* name = NameIn(checkpoint, wanted);
  return name == nullptr ? DType::kF32 : TensorReader(*name, *checkpoint.Find(*name)).table_dtype();
}

}  // namespace headlight
