// SPDX-License-Identifier: Apache-2.0
#include "core/product/parameter_panels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <tuple>
#include <vector>

#include "core/base/uniform_source.h"
#include "core/tensor/bf16.h"

namespace headlight {
namespace {

struct PanelShape {
  int64_t rows;
  int64_t cols;         // of the matrix
  int64_t padded_cols;  // of the panels
};

// What the header says of an element, one at a time.
struct Wanted {
  explicit Wanted(const std::vector<float>& matrix, PanelShape shape) : matrix(matrix), shape(shape) {}

  float At(int64_t row, int64_t col) const {
    return row < shape.rows && col < shape.cols ? matrix[row * shape.cols + col] : 0.0f;
  }
  float Scale(int64_t col) const {
    float largest = 0.0f;
    for (int64_t row = 0; row < shape.rows; ++row) largest = std::max(largest, std::abs(At(row, col)));
    return largest / 127.0f;
  }
  int8_t Quantised(int64_t row, int64_t col) const {
    const float scale = Scale(col);
    return scale == 0.0f ? int8_t{0} : static_cast<int8_t>(std::nearbyint(At(row, col) / scale));
  }

  const std::vector<float>& matrix;
  PanelShape shape;
};

class PanelMatrixTest : public ::testing::TestWithParam<std::tuple<Precision, PanelShape>> {};

TEST_P(PanelMatrixTest, HoldsEachElementWhereProductsReadIt) {
  const auto [precision, shape] = GetParam();
  UniformSource source(/*seed=*/11);
  std::vector<float> matrix = source.Draw(shape.rows * shape.cols, 2.0f);
  for (int64_t row = 0; row < shape.rows; ++row) matrix[row * shape.cols] = 0.0f;  // a column of zeros
  PanelStorage storage(PanelMatrix::StorageBytes(precision, shape.rows, shape.padded_cols));
  const PanelMatrix panels(precision, {matrix.data(), shape.rows, shape.cols, shape.cols}, shape.padded_cols,
                           storage);
  const Wanted wanted(matrix, shape);
  const int64_t depth = OperandCols(precision, shape.rows);
  const int64_t interleaved = InterleavedRows(precision);
  for (int64_t col = 0; col < shape.padded_cols; ++col) {
    const std::byte* const panel = panels.Panel(col / kPanelCols);
    const int64_t width = panels.PanelWidth(col / kPanelCols);
    double sum = 0;
    for (int64_t row = 0; row < depth; ++row) {
      const int64_t place = (row / interleaved * width + col % kPanelCols) * interleaved + row % interleaved;
      SCOPED_TRACE("row " + std::to_string(row) + ", column " + std::to_string(col));
      if (precision == Precision::kF32) {
        ASSERT_EQ(reinterpret_cast<const float*>(panel)[place], wanted.At(row, col));
      } else if (precision == Precision::kBf16) {
        ASSERT_EQ(reinterpret_cast<const Bf16*>(panel)[place].bits, ToBf16(wanted.At(row, col)).bits);
      } else {
        const int8_t operand = reinterpret_cast<const int8_t*>(panel)[place];
        ASSERT_EQ(operand, wanted.Quantised(row, col));
        sum += operand;
      }
    }
    if (precision != Precision::kInt8) continue;
    ASSERT_EQ(panels.col_scale()[col], wanted.Scale(col));
    ASSERT_EQ(panels.col_sum()[col], sum);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, PanelMatrixTest,
    ::testing::Combine(::testing::Values(Precision::kF32, Precision::kBf16, Precision::kInt8),
                       ::testing::Values(PanelShape{1, 1, 1}, PanelShape{65, 64, 64},
                                         PanelShape{63, 130, 130}, PanelShape{12, 26, 32},
                                         PanelShape{5, 60, 96}, PanelShape{128, 192, 192})),
    [](const auto& info) {
      const PanelShape& shape = std::get<1>(info.param);
      return std::string(Name(std::get<0>(info.param))) + "_" + std::to_string(shape.rows) + "x" +
             std::to_string(shape.cols) + "_as_" + std::to_string(shape.padded_cols);
    });

// A sum of f32 numbers would be off from 2^24 / 127 rows on, an integer is right wherever int8 is computed.
TEST(PanelSumsTest, AreExactAtTheGreatestDepth) {
  std::vector<float> matrix(kMaxInt8Depth, 1.0f);
  matrix[0] = 0.5f;
  PanelStorage storage(PanelMatrix::StorageBytes(Precision::kInt8, kMaxInt8Depth, 1));
  const PanelMatrix panels(Precision::kInt8, {matrix.data(), kMaxInt8Depth, 1, 1}, 1, storage);
  EXPECT_EQ(panels.col_sum()[0], static_cast<float>((kMaxInt8Depth - 1) * 127 + 64));
}

}  // namespace
}  // namespace headlight
