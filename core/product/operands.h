// SPDX-License-Identifier: Apache-2.0
//
// Operands in the form that a precision's products read: f32 as they are, bf16 rounded, int8 quantised
// token by token.
#ifndef HEADLIGHT_CORE_PRODUCT_OPERANDS_H_
#define HEADLIGHT_CORE_PRODUCT_OPERANDS_H_

#include <cstddef>
#include <cstdint>

#include "absl/functional/function_ref.h"
#include "core/product/precision.h"
#include "core/simd/targets.h"
#include "core/tensor/buffer.h"
#include "core/tensor/matrix_view.h"

namespace headlight {

// Elements of a row of operands: `cols`, rounded up to 64 bytes where rows are converted anyway. The surplus
// is zero, as are the surplus rows of the weights that meet it.
constexpr int64_t OperandCols(Precision precision, int64_t cols) {
  return precision == Precision::kF32 ? cols : RoundUp(cols, 64 / OperandBytes(precision));
}

// The deepest product in int8: sums of 32 bits hold 66311 products of 255 * 127.
inline constexpr int64_t kMaxInt8Depth = int64_t{1} << 16;

// Non-owning view of [rows, OperandCols] operands.
struct Operands {
  const std::byte* rows = nullptr;
  int64_t row_bytes = 0;
  const float* scale = nullptr;  // kInt8 only, [rows]: an activation is scale * (operand - zero)
  const float* zero = nullptr;

  Operands From(int64_t row) const {
    if (scale == nullptr) return {rows + row * row_bytes, row_bytes};
    return {rows + row * row_bytes, row_bytes, scale + row, zero + row};
  }
};

// The operands of one matrix [rows, cols] of a batch; the memory is kept between batches.
class OperandBuffer {
 public:
  // Makes room for the operands of `matrix`, which must outlive their use: f32 is not copied. False when
  // memory is short.
  bool Reserve(Precision precision, MatrixView matrix);

  // Converts rows [first_row, first_row + rows). Thread-safe for different rows.
  void Convert(int64_t first_row, int64_t rows) const;

  Operands view() const;

  // What Reserve takes for a matrix [rows, cols] more than is held.
  int64_t GrowthFor(Precision precision, int64_t rows, int64_t cols) const;
  void ForEachBuffer(absl::FunctionRef<void(Buffer&)> visit);

 private:
  Precision precision_ = Precision::kF32;
  MatrixView matrix_;
  Buffer operands_;
  Buffer scale_;
  Buffer zero_;
};

}  // namespace headlight

#endif  // HEADLIGHT_CORE_PRODUCT_OPERANDS_H_
