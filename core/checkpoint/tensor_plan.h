// SPDX-License-Identifier: Apache-2.0
//
// Which tensors of a checkpoint a model takes and where their numbers go. A format makes the plan; checking
// it against the checkpoint and carrying it out is the same for all formats.
#ifndef HEADLIGHT_CORE_CHECKPOINT_TENSOR_PLAN_H_
#define HEADLIGHT_CORE_CHECKPOINT_TENSOR_PLAN_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/checkpoint/shards.h"
#include "core/model/embedding_table.h"
#include "core/tensor/dtype.h"
#include "core/tensor/shape.h"

namespace headlight {

// How a checkpoint lays out a matrix that maps x [in] to y [out].
enum class Orientation : uint8_t {
  kInOut,  // [in, out]: y = x W, as in this library; also what is no matrix, or a table
  kOutIn,  // [out, in]: y = x W^T, as in torch.nn.Linear
};

// Columns [begin, begin + size) of the outputs, all if size is 0, which become a matrix [in, size] or a
// vector.
struct TensorPart {
  std::vector<float>* destination = nullptr;
  int64_t begin = 0;
  int64_t size = 0;
  int64_t period = 0;  // if not 0, the columns that come a multiple of it later too: fused heads
};

struct WantedTensor {
  std::vector<std::string> names;  // the first is expected; any other one does
  Shape shape;                     // as in the checkpoint
  std::vector<TensorPart> parts;
  Orientation orientation = Orientation::kInOut;
  bool optional = false;  // absent: its destinations stay empty
  float added = 0.0f;     // to every number: gains that are stored as their difference from 1
};

struct TensorPlan {
  std::vector<WantedTensor> wanted;
  // Names that are neither loaded nor a problem: by their beginning or by their end.
  std::vector<std::string> ignored_prefixes;
  std::vector<std::string> ignored_suffixes;
  // Unless empty, tensors whose name does not begin with it are ignored: they belong to something else.
  std::string prefix;
};

// Every missing, surplus and misshapen tensor and every one of a dtype that does not hold weights, in one
// INVALID_ARGUMENT with a line for each.
absl::Status CheckPlan(const TensorPlan& plan, const Shards& checkpoint);

// Every missing and misshapen tensor of `wanted` and every one of a dtype that does not hold weights, in one
// INVALID_ARGUMENT; what else the checkpoint has is somebody else's.
absl::Status CheckWanted(std::span<const WantedTensor> wanted, const Shards& checkpoint);

// The names that the checkpoint has for `wanted`.
std::vector<std::string> NamesIn(std::span<const WantedTensor> wanted, const Shards& checkpoint);

// What the plan leaves aside, in order of names. Requires that CheckPlan was OK.
std::vector<std::string> IgnoredTensors(const TensorPlan& plan, const Shards& checkpoint);

// Number of elements that the plan takes; a tensor that is wanted several times counts once. Requires that
// CheckPlan was OK.
int64_t NumPlannedElements(const TensorPlan& plan, const Shards& checkpoint);

// Fills the destinations of `wanted`, tensors of a plan that CheckPlan was OK for; vectors that are large
// enough keep their memory. INVALID_ARGUMENT: a number is NaN or infinite; the message names tensor and
// place. RESOURCE_EXHAUSTED: memory is short.
absl::Status LoadTensors(std::span<const WantedTensor> wanted, const Shards& checkpoint);

// A wanted tensor that is taken as it is, in the checkpoint's dtype; F64 as f32. Errors as LoadTensors.
absl::StatusOr<EmbeddingTable> LoadTable(const WantedTensor& wanted, const Shards& checkpoint);

// The dtype of what LoadTable makes of it, without reading it.
DType TableDType(const WantedTensor& wanted, const Shards& checkpoint);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_CHECKPOINT_TENSOR_PLAN_H_
