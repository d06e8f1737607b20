// SPDX-License-Identifier: Apache-2.0
//
// Element types of tensors.
#ifndef HEADLIGHT_CORE_TENSOR_DTYPE_H_
#define HEADLIGHT_CORE_TENSOR_DTYPE_H_

#include <cstdint>
#include <string>

namespace headlight {

enum class DType : uint8_t {
  kF32,   // IEEE 754 binary32
  kBool,  // one byte, 0 is false
};

// Bytes of one element.
constexpr int64_t SizeOf(DType dtype) { return dtype == DType::kF32 ? 4 : 1; }

// "f32", "bool"; for messages.
inline std::string Name(DType dtype) { return dtype == DType::kF32 ? "f32" : "bool"; }

}  // namespace headlight

#endif  // HEADLIGHT_CORE_TENSOR_DTYPE_H_
