// SPDX-License-Identifier: Apache-2.0
//
// One tensor of a request: its TensorSpec checked against what the field wants and against its payload's
// bytes.
#ifndef HEADLIGHT_SERVER_WIRE_WIRE_TENSOR_H_
#define HEADLIGHT_SERVER_WIRE_WIRE_TENSOR_H_

#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/tensor/dtype.h"
#include "core/tensor/shape.h"
#include "headlight/v1/attention.pb.h"
#include "server/wire/byte_segments.h"

namespace headlight {

// A tensor that is what it says: bytes = product(shape) * SizeOf(dtype), every dimension at least 1.
struct WireTensor {
  DType dtype = DType::kF32;
  Shape shape;
  ByteSegments bytes;
};

// What a field accepts.
struct TensorRule {
  std::string field;          // its name, for messages
  std::string wanted_shape;   // in words, for messages
  std::vector<size_t> ranks;  // accepted numbers of dimensions
  std::vector<DType> dtypes;  // accepted element types
};

// The element types in which numbers travel.
inline std::vector<DType> FloatTypes() { return {DType::kF32, DType::kBf16, DType::kF16}; }

// The DTYPE_ of the wire.
v1::DType ToProto(DType dtype);

// INVALID_ARGUMENT: unknown or unwanted dtype, wrong rank, a dimension below 1, more elements than fit, wrong
// number of bytes.
absl::StatusOr<WireTensor> CheckTensor(const TensorRule& rule, const v1::TensorSpec& spec,
                                       const ByteSegments& payload);

// The DTYPE_ name of `dtype`, or "17, which is no DType" for a number that is none.
std::string DescribeDType(v1::DType dtype);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_WIRE_WIRE_TENSOR_H_
