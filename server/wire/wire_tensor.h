// SPDX-License-Identifier: Apache-2.0
//
// One tensor of a request, whatever the protocol: what it says of itself checked against what the field wants
// and against its payload's bytes.
#ifndef HEADLIGHT_SERVER_WIRE_WIRE_TENSOR_H_
#define HEADLIGHT_SERVER_WIRE_WIRE_TENSOR_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "core/tensor/dtype.h"
#include "core/tensor/shape.h"
#include "server/wire/byte_segments.h"

namespace headlight {

// What a protocol calls things, for messages to its callers.
struct WireNames {
  const char* payloads;         // the field that holds the tensors' bytes
  const char* dtype_field;      // the one that holds a tensor's element type
  std::string (*dtype)(DType);  // "DTYPE_F32"
};

// An element type as it came.
struct WireDType {
  std::optional<DType> dtype;
  std::string unknown;  // if there is none: what stands there in its place, in words

  std::string Describe(const WireNames& names) const { return dtype ? names.dtype(*dtype) : unknown; }
};

// A tensor as a request has it, unchecked. Views only: the message must live on.
struct NamedTensor {
  const char* field = "";  // what its caller calls it
  WireDType dtype;
  std::span<const int64_t> shape;
  const ByteSegments* payload = nullptr;  // null: only described, as for an estimate of what it would cost
};

// A tensor that is what it says: every dimension at least 1 and, unless it is only described, bytes =
// product(shape) * SizeOf(dtype).
struct WireTensor {
  DType dtype = DType::kF32;
  Shape shape;
  ByteSegments bytes;
};

// What a field accepts.
struct TensorRule {
  std::span<const size_t> ranks;                  // numbers of dimensions
  std::span<const DType> dtypes;                  // element types
  absl::FunctionRef<std::string()> wanted_shape;  // in words; asked for a message only
};

// The element types in which numbers travel.
inline constexpr DType kFloatTypes[] = {DType::kF32, DType::kBf16, DType::kF16};

// INVALID_ARGUMENT: unknown or unwanted dtype, wrong rank, a dimension below 1, more elements than fit, wrong
// number of bytes.
absl::StatusOr<WireTensor> CheckTensor(const NamedTensor& tensor, const TensorRule& rule,
                                       const WireNames& names);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_WIRE_WIRE_TENSOR_H_
