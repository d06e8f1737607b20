// SPDX-License-Identifier: Apache-2.0
//
// What the matrix products compute in.
#ifndef HEADLIGHT_CORE_PRODUCT_PRECISION_H_
#define HEADLIGHT_CORE_PRODUCT_PRECISION_H_

#include <cstdint>

namespace headlight {

// Arithmetic of the matrix products. Scores, sums and accumulators are f32 in each of them.
enum class Precision : uint8_t {
  kF32,
  kBf16,  // operands rounded to bf16
  kInt8,  // projections: u8 activations with a scale per token, s8 weights with a scale per column; the rest
          // as kBf16, or as kF32 on CPUs that are faster in it
};

// "f32", "bf16", "int8".
const char* Name(Precision precision);

// Bytes that a packed parameter takes.
int64_t BytesPerWeight(Precision precision);

// Bytes of an operand of a product.
constexpr int64_t OperandBytes(Precision operands) {
  return operands == Precision::kF32 ? 4 : operands == Precision::kBf16 ? 2 : 1;
}

// Rows of a right-hand matrix that are interleaved, so that a 32-bit word holds what one lane multiplies at once.
constexpr int64_t InterleavedRows(Precision operands) { return 4 / OperandBytes(operands); }

}  // namespace headlight

#endif  // HEADLIGHT_CORE_PRODUCT_PRECISION_H_
