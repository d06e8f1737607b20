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
  kF16,   // IEEE 754 binary16
  kBf16,  // the upper half of a binary32
  kBool,  // one byte, 0 is false
  kI32,   // two's complement
  kI64,   // two's complement
};

// Bytes of one element.
constexpr int64_t SizeOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kF16:
    case DType::kBf16:
      return 2;
    case DType::kBool:
      return 1;
    case DType::kI64:
      return 8;
  }
  return 1;
}

// "f32", "bool", ...; for messages.
inline std::string Name(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "f32";
    case DType::kF16:
      return "f16";
    case DType::kBf16:
      return "bf16";
    case DType::kBool:
      return "bool";
    case DType::kI32:
      return "i32";
    case DType::kI64:
      return "i64";
  }
  return "unknown";
}

}  // namespace headlight

#endif  // HEADLIGHT_CORE_TENSOR_DTYPE_H_
