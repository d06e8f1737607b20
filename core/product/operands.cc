// SPDX-License-Identifier: Apache-2.0
#include "core/product/operands.h"

#include "core/product/quantize.h"
#include "core/tensor/bf16.h"

namespace headlight {

bool OperandBuffer::Reserve(Precision precision, MatrixView matrix) {
  precision_ = precision;
  matrix_ = matrix;
  if (precision == Precision::kF32) return true;
  const int64_t row_bytes = OperandCols(precision, matrix.cols) * OperandBytes(precision);
  if (!operands_.Reserve(matrix.rows * row_bytes)) return false;
  if (precision == Precision::kBf16) return true;
  const int64_t scale_bytes = matrix.rows * int64_t{sizeof(float)};
  return scale_.Reserve(scale_bytes) && zero_.Reserve(scale_bytes);
}

void OperandBuffer::Convert(int64_t first_row, int64_t rows) const {
  const int64_t cols = OperandCols(precision_, matrix_.cols);
  const MatrixView part = {matrix_.Row(first_row), rows, matrix_.cols, matrix_.stride};
  switch (precision_) {
    case Precision::kF32:
      return;
    case Precision::kBf16:
      return RoundRows(part, reinterpret_cast<Bf16*>(operands_.bytes()) + first_row * cols, cols);
    case Precision::kInt8:
      return QuantizeRows(part, reinterpret_cast<uint8_t*>(operands_.bytes()) + first_row * cols, cols,
                          scale_.floats() + first_row, zero_.floats() + first_row);
  }
}

Operands OperandBuffer::view() const {
  const int64_t row_bytes = OperandCols(precision_, matrix_.cols) * OperandBytes(precision_);
  switch (precision_) {
    case Precision::kF32:
      return {reinterpret_cast<const std::byte*>(matrix_.data), matrix_.stride * int64_t{sizeof(float)}};
    case Precision::kBf16:
      return {operands_.bytes(), row_bytes};
    case Precision::kInt8:
      return {operands_.bytes(), row_bytes, scale_.floats(), zero_.floats()};
  }
  return {};
}

int64_t OperandBuffer::GrowthFor(Precision precision, int64_t rows, int64_t cols) const {
  if (precision == Precision::kF32) return 0;
  const int64_t bytes = operands_.GrowthFor(rows * OperandCols(precision, cols) * OperandBytes(precision));
  if (precision == Precision::kBf16) return bytes;
  const int64_t scale_bytes = rows * int64_t{sizeof(float)};
  return bytes + scale_.GrowthFor(scale_bytes) + zero_.GrowthFor(scale_bytes);
}

void OperandBuffer::ForEachBuffer(absl::FunctionRef<void(Buffer&)> visit) {
  for (Buffer* buffer : {&operands_, &scale_, &zero_}) visit(*buffer);
}

}  // namespace headlight
