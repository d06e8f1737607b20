// SPDX-License-Identifier: Apache-2.0
#include "core/product/parameter_panels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/uniform_source.h"
#include "core/product/arithmetic.h"
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

// Whole numbers up to 5, with one of 127 in each column: its operands of int8 are its numbers.
std::vector<float> WholeMatrix(int64_t rows, int64_t cols) {
  std::vector<float> matrix(rows * cols);
  for (int64_t i = 0; i < rows * cols; ++i) matrix[i] = static_cast<float>(i * 37 % 11 - 5);
  for (int64_t col = 0; col < cols; ++col) matrix[col % rows * cols + col] = col % 2 == 0 ? 127.0f : -127.0f;
  return matrix;
}

// Says no after so many questions.
class PatientFor final : public Interruption {
 public:
  explicit PatientFor(int questions) : left_(questions) {}
  bool MayGoOn() const override { return left_-- > 0; }

 private:
  mutable int left_;
};

const PatientFor kPatientForever(1 << 30);

class PanelGemmTest : public ::testing::TestWithParam<std::tuple<const GemmProvider*, Precision>> {
 protected:
  void SetUp() override {
    MatchSimdToOneDnn();
    const absl::Status available = provider().Available(precision());
    if (!available.ok()) GTEST_SKIP() << available;
  }
  static const GemmProvider& provider() { return *std::get<0>(GetParam()); }
  static Precision precision() { return std::get<1>(GetParam()); }
};

INSTANTIATE_TEST_SUITE_P(
    Providers, PanelGemmTest,
    ::testing::Combine(::testing::Values(&kVectorProvider, &kBrgemmProvider, &kMatmulProvider),
                       ::testing::Values(Precision::kF32, Precision::kBf16, Precision::kInt8)),
    [](const auto& info) {
      return absl::StrCat(std::get<0>(info.param)->name, "_", Name(std::get<1>(info.param)));
    });

// A product of whole numbers that are exact in every precision: rows from 0 to 255 have steps of 1.
class WholeProduct {
 public:
  WholeProduct(Precision precision, int64_t rows, int64_t depth, int64_t cols)
      : rows_(rows),
        depth_(depth),
        cols_(cols),
        a_(rows * depth),
        b_(WholeMatrix(depth, cols)),
        storage_(PanelMatrix::StorageBytes(precision, depth, cols)),
        panels_(precision, {b_.data(), depth, cols, cols}, cols, storage_) {
    for (int64_t i = 0; i < rows * depth; ++i) a_[i] = static_cast<float>(i * 13 % 4);
    for (int64_t row = 0; row < rows; ++row) a_[row * depth + row % depth] = 255.0f;
    for (int64_t row = 0; row < rows && depth > 1; ++row) a_[row * depth + (row + 1) % depth] = 0.0f;
    EXPECT_TRUE(operands_.Reserve(precision, {a_.data(), rows, depth, depth}));
    operands_.Convert(0, rows);
  }

  const PanelMatrix& panels() const { return panels_; }
  Operands operands() const { return operands_.view(); }
  float At(int64_t row, int64_t col) const {
    float sum = 0.0f;
    for (int64_t i = 0; i < depth_; ++i) sum += a_[row * depth_ + i] * b_[i * cols_ + col];
    return sum;
  }

 private:
  int64_t rows_, depth_, cols_;
  std::vector<float> a_, b_;
  OperandBuffer operands_;
  PanelStorage storage_;
  PanelMatrix panels_;
};

TEST_P(PanelGemmTest, MultipliesPanelByPanelAndTouchesNothingElse) {
  constexpr float kBefore = -7.0f;
  struct Case {
    int64_t rows, depth, cols;
  };
  // One panel, several, narrow ones, and so deep that rows go in several tiles.
  for (const Case& c : {Case{1, 1, 1}, Case{5, 24, 64}, Case{70, 33, 150}, Case{100, 2000, 66}}) {
    for (const bool has_bias : {false, true}) {
      SCOPED_TRACE(absl::StrCat(c.rows, " x ", c.depth, " x ", c.cols, has_bias ? " with a bias" : ""));
      const WholeProduct product(precision(), c.rows, c.depth, c.cols);
      std::vector<float> bias(c.cols);
      for (int64_t col = 0; col < c.cols; ++col) bias[col] = static_cast<float>(col % 9 - 4);
      const int64_t ldc = c.cols + 3;
      const PanelGemm gemm(provider(), precision(), precision(), c.depth, c.cols, ldc, has_bias);
      const Buffer scratch = Buffer::Allocate(std::max<int64_t>(gemm.scratch_bytes(), 1));
      const int64_t panels = product.panels().num_panels();
      for (const int64_t first : {int64_t{0}, panels - 1}) {
        std::vector<float> out(c.rows * ldc, kBefore);
        provider().BeginWork();
        ASSERT_TRUE(gemm.Run(c.rows, product.operands(), product.panels(), first, panels, out.data(),
                             scratch.bytes(), kPatientForever, has_bias ? bias.data() : nullptr));
        for (int64_t row = 0; row < c.rows; ++row) {
          for (int64_t col = 0; col < ldc; ++col) {
            const bool inside = col >= first * kPanelCols && col < c.cols;
            const float wanted = inside ? product.At(row, col) + (has_bias ? bias[col] : 0.0f) : kBefore;
            ASSERT_EQ(out[row * ldc + col], wanted) << "row " << row << ", column " << col;
          }
        }
      }
    }
  }
}

TEST_P(PanelGemmTest, EndsWhereTheInterruptionSaysSo) {
  const WholeProduct product(precision(), 3, 24, 150);
  const PanelGemm gemm(provider(), precision(), precision(), 24, 150, 150);
  const Buffer scratch = Buffer::Allocate(std::max<int64_t>(gemm.scratch_bytes(), 1));
  std::vector<float> out(3 * 150, -7.0f);
  provider().BeginWork();
  EXPECT_FALSE(gemm.Run(3, product.operands(), product.panels(), out.data(), scratch.bytes(), PatientFor(2)));
  EXPECT_EQ(out[2 * kPanelCols], -7.0f) << "the third panel";
  EXPECT_TRUE(gemm.Run(3, product.operands(), product.panels(), out.data(), scratch.bytes(), PatientFor(3)));
}

}  // namespace
}  // namespace headlight
