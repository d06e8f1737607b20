// SPDX-License-Identifier: Apache-2.0
//
// Tensors whose elements come one by one, as InferTensorContents. Floats that were packed are raw bytes
// already and stay where they are; integers are decoded.
#ifndef HEADLIGHT_SERVER_OIP_TYPED_CONTENTS_H_
#define HEADLIGHT_SERVER_OIP_TYPED_CONTENTS_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"
#include "core/tensor/dtype.h"
#include "server/wire/byte_segments.h"

namespace headlight {

// An InferTensorContents seen inside of its message, which must live on.
struct TypedContents {
  int64_t num_elements = 0;
  ByteSegments packed;    // of all elements where they lie as raw contents would
  bool in_place = false;  // they do, in `packed`
};

// Finds the elements in the field of `dtype`. INVALID_ARGUMENT: none has its type (BF16, FP16), bytes that
// are no InferTensorContents, elements in other fields. `field` names the contents for messages.
absl::StatusOr<TypedContents> FindContents(const std::string& field, const ByteSegments& contents,
                                           DType dtype);

// Writes the elements that FindContents has found: num_elements of SizeOf(dtype) bytes, little-endian.
void DecodeContents(const ByteSegments& contents, DType dtype, std::byte* to);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OIP_TYPED_CONTENTS_H_
