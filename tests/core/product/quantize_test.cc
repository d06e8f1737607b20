// SPDX-License-Identifier: Apache-2.0
#include "core/product/quantize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "core/simd/targets.h"
#include "tests/core/testing/effort.h"

namespace headlight {
namespace {

constexpr uint8_t kNoOperand = 0xa5;
constexpr float kNoNumber = -7.0f;
constexpr int64_t kColumnCounts[] = {1, 3, 15, 16, 17, 33, 64, 100};

// Rows of operands, `stride` apart, and what turns them back.
struct QuantizedRows {
  QuantizedRows(const std::vector<float>& in, int64_t rows, int64_t stride)
      : cols(std::ssize(in) / rows),
        stride(stride),
        operands(rows * stride, kNoOperand),
        scale(rows),
        zero(rows) {
    MatchSimdToOneDnn();
    QuantizeRows({in.data(), rows, cols, cols}, operands.data(), stride, scale.data(), zero.data());
  }
  uint8_t Operand(int64_t row, int64_t col) const { return operands[row * stride + col]; }
  double Number(int64_t row, int64_t col) const {
    return static_cast<double>(scale[row]) * (Operand(row, col) - static_cast<double>(zero[row]));
  }

  int64_t cols;
  int64_t stride;
  std::vector<uint8_t> operands;
  std::vector<float> scale;
  std::vector<float> zero;
};

// Half a step of the 255, and what comes from f32: the number of steps, up to 256, is the result of three
// roundings of 2^-24 at most, as is the step itself.
double AllowedError(double scale) { return std::abs(scale) * (0.5 + 2 * 3 * 256 * 0x1p-24); }

TEST(QuantizeRowsTest, ComeBackWithinHalfAStep) {
  testing::Rng rng = testing::MakeRng(0);
  for (const int64_t cols : kColumnCounts) {
    for (const auto& [low, high] : {std::pair(-1.0f, 1.0f), std::pair(-3.0f, 0.5f), std::pair(2.0f, 9.0f),
                                    std::pair(-1e-5f, -1e-6f), std::pair(-1e30f, 1e30f)}) {
      std::uniform_real_distribution<float> distribution(low, high);
      std::vector<float> in(3 * cols);
      for (float& x : in) x = distribution(rng);
      const QuantizedRows got(in, 3, cols);
      for (int64_t row = 0; row < 3; ++row) {
        ASSERT_GT(got.scale[row], 0.0f);
        for (int64_t col = 0; col < cols; ++col) {
          ASSERT_NEAR(got.Number(row, col), in[row * cols + col], AllowedError(got.scale[row]))
              << "column " << col << " of " << cols;
        }
      }
    }
  }
}

TEST(QuantizeRowsTest, TheRangeIsWidenedToHoldZero) {
  const QuantizedRows got({3.0f, 4.0f, 5.0f, -3.0f, -4.0f, -5.0f}, 2, 3);
  EXPECT_EQ(got.zero[0], 0.0f);
  EXPECT_EQ(got.Operand(0, 2), 255);
  EXPECT_FLOAT_EQ(got.scale[0], 5.0f / 255.0f);
  EXPECT_EQ(got.zero[1], 255.0f);
  EXPECT_EQ(got.Operand(1, 2), 0);
  EXPECT_FLOAT_EQ(got.scale[1], 5.0f / 255.0f);
}

TEST(QuantizeRowsTest, ZeroComesBackAsZero) {
  for (const int64_t cols : kColumnCounts) {
    std::vector<float> in(cols, 0.7f);
    in[0] = -0.3f;
    in[cols - 1] = 0.0f;
    const QuantizedRows got(in, 1, cols);
    EXPECT_EQ(got.Number(0, cols - 1), 0.0) << cols << " columns";
  }
}

TEST(QuantizeRowsTest, ARowOfZerosIsZeros) {
  const QuantizedRows got(std::vector<float>(35, 0.0f), 1, 35);
  EXPECT_TRUE(std::isfinite(got.scale[0]));
  for (int64_t col = 0; col < 35; ++col) EXPECT_EQ(got.Number(0, col), 0.0);
}

TEST(QuantizeRowsTest, WholeNumbersUpTo255AreExact) {
  std::vector<float> in(256);
  for (int64_t col = 0; col < 256; ++col) in[col] = static_cast<float>(col);
  const QuantizedRows got(in, 1, 256);
  EXPECT_EQ(got.scale[0], 1.0f);
  EXPECT_EQ(got.zero[0], 0.0f);
  for (int64_t col = 0; col < 256; ++col) EXPECT_EQ(got.Operand(0, col), col);
}

TEST(QuantizeRowsTest, TheWidestRangeDoesNotOverflow) {
  constexpr float kMax = std::numeric_limits<float>::max();
  const QuantizedRows got({-kMax, kMax, 1.0f}, 1, 3);
  ASSERT_TRUE(std::isfinite(got.scale[0]));
  EXPECT_NEAR(got.Number(0, 0), -kMax, AllowedError(got.scale[0]));
  EXPECT_NEAR(got.Number(0, 1), kMax, AllowedError(got.scale[0]));
}

TEST(QuantizeRowsTest, ARowWithANumberThatIsNotFiniteGetsScaleNan) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const int64_t cols : kColumnCounts) {
    for (const float sick : {std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity}) {
      for (int64_t place = 0; place < cols; ++place) {
        std::vector<float> in(3 * cols, 0.5f);
        in[cols + place] = sick;
        const QuantizedRows got(in, 3, cols);
        ASSERT_TRUE(std::isnan(got.scale[1])) << sick << " in column " << place << " of " << cols;
        ASSERT_EQ(got.zero[1], 0.0f);
        for (int64_t col = 0; col < cols; ++col) ASSERT_EQ(got.Operand(1, col), 0);
        ASSERT_NEAR(got.Number(0, 0), 0.5, AllowedError(got.scale[0]));
        ASSERT_NEAR(got.Number(2, cols - 1), 0.5, AllowedError(got.scale[2]));
      }
    }
  }
}

TEST(QuantizeRowsTest, PaddingColumnsBecomeZero) {
  for (const float value : {-1.5f, std::numeric_limits<float>::quiet_NaN()}) {
    const QuantizedRows got(std::vector<float>(2 * 17, value), 2, 64);
    for (int64_t row = 0; row < 2; ++row) {
      for (int64_t col = 17; col < 64; ++col) EXPECT_EQ(got.Operand(row, col), 0) << row << ", " << col;
    }
  }
}

TEST(QuantizeRowsTest, ARowsOperandsDependOnThatRowAlone) {
  testing::Rng rng = testing::MakeRng(1);
  std::uniform_real_distribution<float> distribution(-2.0f, 1.0f);
  std::vector<float> in(5 * 37);
  for (float& x : in) x = distribution(rng);
  const QuantizedRows together(in, 5, 64);
  for (int64_t row = 0; row < 5; ++row) {
    const QuantizedRows alone({in.begin() + row * 37, in.begin() + (row + 1) * 37}, 1, 64);
    EXPECT_EQ(alone.scale[0], together.scale[row]);
    EXPECT_EQ(alone.zero[0], together.zero[row]);
    for (int64_t col = 0; col < 64; ++col) EXPECT_EQ(alone.Operand(0, col), together.Operand(row, col));
  }
}

// Scales are powers of two and all else is whole, so that every step is exact.
TEST(DequantizeTest, IsTheFormulaAtEveryWidth) {
  MatchSimdToOneDnn();
  constexpr int64_t kRows = 3;
  for (const int64_t cols : kColumnCounts) {
    for (const bool has_bias : {false, true}) {
      const int64_t in_stride = cols + 2, out_stride = cols + 5;
      std::vector<int32_t> in(kRows * in_stride);
      for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<int32_t>(i * 7919 % 20011) - 10000;
      const std::vector<float> row_scale = {0.25f, 2.0f, 1.0f}, row_zero = {3.0f, 255.0f, 0.0f};
      std::vector<float> col_scale(cols), col_sum(cols), bias(cols);
      for (int64_t col = 0; col < cols; ++col) {
        col_scale[col] = std::ldexp(1.0f, static_cast<int>(col % 5) - 2);
        col_sum[col] = static_cast<float>(col * 31 % 200 - 100);
        bias[col] = static_cast<float>(col % 7 - 3);
      }
      std::vector<float> out(kRows * out_stride, kNoNumber);
      Dequantize(in.data(), in_stride,
                 {row_scale.data(), row_zero.data(), col_scale.data(), col_sum.data(),
                  has_bias ? bias.data() : nullptr},
                 {out.data(), kRows, cols, out_stride});
      for (int64_t row = 0; row < kRows; ++row) {
        for (int64_t col = 0; col < out_stride; ++col) {
          const float wanted =
              col >= cols
                  ? kNoNumber
                  : row_scale[row] * col_scale[col] *
                            (static_cast<float>(in[row * in_stride + col]) - row_zero[row] * col_sum[col]) +
                        (has_bias ? bias[col] : 0.0f);
          ASSERT_EQ(out[row * out_stride + col], wanted) << "row " << row << ", column " << col;
        }
      }
    }
  }
}

TEST(DequantizeTest, AScaleOfNanMakesItsRowNan) {
  MatchSimdToOneDnn();
  const std::vector<int32_t> in(2 * 17, 5);
  const std::vector<float> row_scale = {std::numeric_limits<float>::quiet_NaN(), 1.0f},
                           row_zero = {0.0f, 0.0f};
  const std::vector<float> ones(17, 1.0f);
  std::vector<float> out(2 * 17);
  Dequantize(in.data(), 17, {row_scale.data(), row_zero.data(), ones.data(), ones.data()},
             {out.data(), 2, 17, 17});
  for (int64_t col = 0; col < 17; ++col) {
    EXPECT_TRUE(std::isnan(out[col])) << col;
    EXPECT_EQ(out[17 + col], 5.0f) << col;
  }
}

// Every column of widths around a vector, with ties both ways, and zeros behind.
TEST(RoundRowsTest, RoundsToNearestWithZerosBehind) {
  for (const int64_t cols : {int64_t{1}, int64_t{15}, int64_t{16}, int64_t{33}}) {
    const int64_t stride = cols + 3, out_stride = 64;
    std::vector<float> in(2 * stride);
    for (size_t i = 0; i < in.size(); ++i) {
      in[i] =
          (i % 2 == 0 ? 1.0f : -3.0f) * (1.0f + static_cast<float>(i) * 0x1p-8f);  // every second one a tie
    }
    std::vector<Bf16> out(2 * out_stride, ToBf16(7.0f));
    RoundRows({in.data(), 2, cols, stride}, out.data(), out_stride);
    for (int64_t row = 0; row < 2; ++row) {
      for (int64_t col = 0; col < out_stride; ++col) {
        const Bf16 wanted = col < cols ? ToBf16(in[row * stride + col]) : Bf16{};
        EXPECT_EQ(out[row * out_stride + col].bits, wanted.bits) << row << ", " << col;
      }
    }
  }
}

}  // namespace
}  // namespace headlight
