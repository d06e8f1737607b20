// SPDX-License-Identifier: Apache-2.0
#include "core/model/row_norm.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace headlight {
namespace {

constexpr double kNormUnit = 0x1p-24;  // what one f32 operation rounds by

std::vector<float> RandomRows(std::mt19937_64& rng, int64_t size, float offset, float amplitude) {
  std::vector<float> values(size);
  for (float& value : values) {
    value = offset + amplitude * (static_cast<float>(rng() >> 40) * 0x1p-23f - 1.0f);
  }
  return values;
}

// Sums go through at most 80 additions in f32 (row_norm.cc: kSumCols), so the mean is off by 80 units of the
// largest element, the variance by 80 + 4 of itself, and each element by the two roundings of its sum and
// four of its own. Whatever moves a row's element moves it by 1 / sigma as much afterwards.
TEST(RowNormTest, IsTheFormulaAtEveryWidth) {
  std::mt19937_64 rng(1);
  for (const int64_t cols : {1, 2, 15, 16, 17, 64, 100, 384, 1025, 5000}) {
    for (const NormKind kind : {NormKind::kLayerNorm, NormKind::kRmsNorm}) {
      for (const float offset : {0.0f, 10.0f}) {
        SCOPED_TRACE(::testing::Message() << cols << " columns, kind " << int(kind) << ", around " << offset);
        const std::vector<float> x = RandomRows(rng, cols, offset, 1), f = RandomRows(rng, cols, 0, 1);
        const std::vector<float> f_bias = RandomRows(rng, cols, 0, 1);
        NormParameters weights{RandomRows(rng, cols, 1, 0.5f), {}};
        if (kind == NormKind::kLayerNorm) weights.bias = RandomRows(rng, cols, 0, 1);
        std::vector<float> sum(cols), out(cols);
        AddAndNorm(RowNorm(kind, 1e-5, weights),
                   {{x.data(), 1, cols, cols}, {f.data(), 1, cols, cols}, f_bias.data()},
                   {sum.data(), 1, cols, cols}, {out.data(), 1, cols, cols});
        std::vector<double> s(cols);
        double mean = 0, variance = 0, largest = 0;
        for (int64_t i = 0; i < cols; ++i) {
          s[i] = static_cast<double>(x[i]) + f[i] + f_bias[i];
          EXPECT_NEAR(sum[i], s[i], 2 * kNormUnit * (std::abs(x[i]) + std::abs(f[i]) + std::abs(f_bias[i])));
          largest = std::max<double>(largest, std::abs(x[i]) + std::abs(f[i]) + std::abs(f_bias[i]));
          if (kind == NormKind::kLayerNorm) mean += s[i] / static_cast<double>(cols);
        }
        for (double v : s) variance += (v - mean) * (v - mean) / static_cast<double>(cols);
        const double sigma = std::sqrt(variance + 1e-5);
        for (int64_t i = 0; i < cols; ++i) {
          const double bias = weights.bias.empty() ? 0.0 : weights.bias[i];
          const double normed = (s[i] - mean) / sigma;
          const double wanted = normed * weights.gain[i] + bias;
          const double moved = (2 + 80 + 4) * kNormUnit * largest / sigma;
          const double scale = moved * std::abs(normed) + (42 + 4) * kNormUnit * std::abs(normed);
          const double tolerance = (moved + scale) * weights.gain[i] + 2 * kNormUnit * std::abs(wanted);
          ASSERT_NEAR(out[i], wanted, tolerance) << "column " << i;
        }
      }
    }
  }
}

TEST(RowNormTest, MayWriteOverWhatItReads) {
  std::mt19937_64 rng(2);
  const int64_t rows = 3, cols = 21;
  const std::vector<float> x = RandomRows(rng, rows * cols, 0, 1), f = RandomRows(rng, rows * cols, 0, 1);
  const NormParameters weights{RandomRows(rng, cols, 1, 0.5f), RandomRows(rng, cols, 0, 1)};
  const RowNorm norm(NormKind::kLayerNorm, 1e-5, weights);
  const Residual residual{{x.data(), rows, cols, cols}, {f.data(), rows, cols, cols}};
  std::vector<float> sum(rows * cols), out(rows * cols);
  AddAndNorm(norm, residual, {sum.data(), rows, cols, cols}, {out.data(), rows, cols, cols});
  std::vector<float> over = x;
  const Residual own{{over.data(), rows, cols, cols}, {f.data(), rows, cols, cols}};
  AddAndNorm(norm, own, {}, {over.data(), rows, cols, cols});
  EXPECT_EQ(over, out);
  over = x;
  AddRows(own, {over.data(), rows, cols, cols});
  EXPECT_EQ(over, sum);
}

// A row alone, at the beginning of a matrix and inside of it.
TEST(RowNormTest, ARowsBitsDependOnThatRowAlone) {
  std::mt19937_64 rng(4);
  const int64_t rows = 4, cols = 45, stride = 50;
  const std::vector<float> x = RandomRows(rng, rows * stride, 3, 1), f = RandomRows(rng, rows * stride, 0, 1);
  const NormParameters weights{RandomRows(rng, cols, 1, 0.5f), RandomRows(rng, cols, 0, 1)};
  const RowNorm norm(NormKind::kLayerNorm, 1e-5, weights);
  std::vector<float> together(rows * stride, -7.0f);
  AddAndNorm(norm, {{x.data(), rows, cols, stride}, {f.data(), rows, cols, stride}}, {},
             {together.data(), rows, cols, stride});
  for (int64_t row = 0; row < rows; ++row) {
    std::vector<float> alone(cols);
    AddAndNorm(norm, {{x.data() + row * stride, 1, cols, stride}, {f.data() + row * stride, 1, cols, stride}},
               {}, {alone.data(), 1, cols, cols});
    EXPECT_TRUE(std::equal(alone.begin(), alone.end(), together.begin() + row * stride)) << row;
    for (int64_t col = cols; col < stride; ++col) EXPECT_EQ(together[row * stride + col], -7.0f);
  }
}

TEST(RowNormTest, ARowOfOneNumberIsItsBias) {
  const std::vector<float> x(33, 5.0f);
  const NormParameters weights{std::vector<float>(33, 2.0f), std::vector<float>(33, 0.75f)};
  std::vector<float> out(33);
  AddAndNorm(RowNorm(NormKind::kLayerNorm, 1e-5, weights), {.x = {x.data(), 1, 33, 33}}, {},
             {out.data(), 1, 33, 33});
  EXPECT_EQ(out, std::vector<float>(33, 0.75f));
}

TEST(AddRowsTest, AddsWhatThereIsAtEveryWidth) {
  for (int64_t cols = 1; cols <= 40; ++cols) {
    std::vector<float> x(2 * cols), f(2 * cols), f_bias(cols);
    for (int64_t i = 0; i < 2 * cols; ++i) {
      x[i] = static_cast<float>(i);
      f[i] = static_cast<float>(100 * i);
      f_bias[i % cols] = static_cast<float>(10000 * (i % cols + 1));
    }
    std::vector<float> one(2 * cols), two(2 * cols), three(2 * cols);
    AddRows({.x = {x.data(), 2, cols, cols}}, {one.data(), 2, cols, cols});
    AddRows({.x = {x.data(), 2, cols, cols}, .f = {f.data(), 2, cols, cols}}, {two.data(), 2, cols, cols});
    AddRows({.x = {x.data(), 2, cols, cols}, .f = {f.data(), 2, cols, cols}, .f_bias = f_bias.data()},
            {three.data(), 2, cols, cols});
    EXPECT_EQ(one, x);
    for (int64_t i = 0; i < 2 * cols; ++i) {
      EXPECT_EQ(two[i], x[i] + f[i]) << i;
      EXPECT_EQ(three[i], x[i] + f[i] + f_bias[i % cols]) << i;
    }
  }
}

}  // namespace
}  // namespace headlight
