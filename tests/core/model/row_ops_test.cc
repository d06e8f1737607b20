// SPDX-License-Identifier: Apache-2.0
//
// The row operations between two attentions: row_norm.h and activation.h.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "core/model/activation.h"
#include "core/model/reference.h"
#include "core/model/row_norm.h"
#include "core/product/parameter_panels.h"

namespace headlight {
namespace {

constexpr double kUnit = 0x1p-24;  // what one f32 operation rounds by

std::vector<float> Random(std::mt19937_64& rng, int64_t size, float offset, float amplitude) {
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
        const std::vector<float> x = Random(rng, cols, offset, 1), f = Random(rng, cols, 0, 1);
        const std::vector<float> f_bias = Random(rng, cols, 0, 1);
        NormParameters weights{Random(rng, cols, 1, 0.5f), {}};
        if (kind == NormKind::kLayerNorm) weights.bias = Random(rng, cols, 0, 1);
        std::vector<float> sum(cols), out(cols);
        AddAndNorm(RowNorm(kind, 1e-5, weights),
                   {{x.data(), 1, cols, cols}, {f.data(), 1, cols, cols}, f_bias.data()},
                   {sum.data(), 1, cols, cols}, {out.data(), 1, cols, cols});
        std::vector<double> s(cols);
        double mean = 0, variance = 0, largest = 0;
        for (int64_t i = 0; i < cols; ++i) {
          s[i] = static_cast<double>(x[i]) + f[i] + f_bias[i];
          EXPECT_NEAR(sum[i], s[i], 2 * kUnit * (std::abs(x[i]) + std::abs(f[i]) + std::abs(f_bias[i])));
          largest = std::max<double>(largest, std::abs(x[i]) + std::abs(f[i]) + std::abs(f_bias[i]));
          if (kind == NormKind::kLayerNorm) mean += s[i] / static_cast<double>(cols);
        }
        for (double v : s) variance += (v - mean) * (v - mean) / static_cast<double>(cols);
        const double sigma = std::sqrt(variance + 1e-5);
        for (int64_t i = 0; i < cols; ++i) {
          const double bias = weights.bias.empty() ? 0.0 : weights.bias[i];
          const double normed = (s[i] - mean) / sigma;
          const double wanted = normed * weights.gain[i] + bias;
          const double moved = (2 + 80 + 4) * kUnit * largest / sigma;
          const double scale = moved * std::abs(normed) + (42 + 4) * kUnit * std::abs(normed);
          const double tolerance = (moved + scale) * weights.gain[i] + 2 * kUnit * std::abs(wanted);
          ASSERT_NEAR(out[i], wanted, tolerance) << "column " << i;
        }
      }
    }
  }
}

TEST(RowNormTest, MayWriteOverWhatItReads) {
  std::mt19937_64 rng(2);
  const int64_t rows = 3, cols = 21;
  const std::vector<float> x = Random(rng, rows * cols, 0, 1), f = Random(rng, rows * cols, 0, 1);
  const NormParameters weights{Random(rng, cols, 1, 0.5f), Random(rng, cols, 0, 1)};
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

// What an activation may be off by at x: the minimax fit of the GELU, the exponential (8e-8 of itself, and
// the rounding of its argument) and the few operations around it.
double Tolerance(Activation activation, double x, double wanted) {
  const double around = 4 * kUnit * std::abs(wanted) + 1e-30;
  switch (activation) {
    case Activation::kRelu:
      return 0;
    case Activation::kGeluErf:
      return 5.5e-8 + 4 * kUnit * std::max(std::abs(x), 0.5);
    case Activation::kGeluTanh: {
      const double exponent = 2.4 * (std::abs(x) + 0.05 * std::abs(x * x * x));
      return around + std::abs(wanted) * (8e-8 + 6 * kUnit * exponent);
    }
    case Activation::kSilu:
      return around + std::abs(wanted) * (8e-8 + 3 * kUnit * std::abs(x));
  }
  return 0;
}

constexpr Activation kActivations[] = {Activation::kRelu, Activation::kGeluErf, Activation::kGeluTanh,
                                       Activation::kSilu};

// One row of up to kPanelCols numbers through Activate.
std::vector<float> Activated(Activation activation, const std::vector<float>& x) {
  std::vector<float> tile(kPanelCols, 0.0f);
  std::copy(x.begin(), x.end(), tile.begin());
  const std::vector<float> zeros(kPanelCols, 0.0f);
  const auto cols = static_cast<int64_t>(x.size());
  std::vector<float> out(cols + 1, -7.0f);
  Activate(activation, {.up = {tile.data(), 1, cols, kPanelCols}, .up_bias = zeros.data(), .gate = {}},
           BasicMatrixView<float>{out.data(), 1, cols, cols});
  EXPECT_EQ(out.back(), -7.0f) << "touched what lies beyond";
  out.pop_back();
  return out;
}

TEST(ActivationTest, IsTheFormulaOverItsWholeRange) {
  for (const Activation activation : kActivations) {
    for (int64_t block = -640; block < 640; ++block) {
      std::vector<float> x;
      for (int64_t i = 0; i < 50; ++i) x.push_back(static_cast<float>(block * 50 + i) * (12.0f / 32000.0f));
      const std::vector<float> got = Activated(activation, x);
      for (size_t i = 0; i < x.size(); ++i) {
        const double wanted = ReferenceActivation(activation, x[i]);
        ASSERT_NEAR(got[i], wanted, Tolerance(activation, x[i], wanted))
            << "activation " << int(activation) << " of " << x[i];
      }
    }
  }
}

TEST(ActivationTest, ExtremesStayWhatTheyAre) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  for (const Activation activation : kActivations) {
    SCOPED_TRACE(int(activation));
    const std::vector<float> got = Activated(activation, {1e4f, -1e4f, 1e30f, -1e30f, kInfinity, kNan});
    EXPECT_EQ(got[0], 1e4f);
    EXPECT_NEAR(got[1], 0.0f, 1e-30);
    EXPECT_EQ(got[2], 1e30f);
    EXPECT_NEAR(got[3], 0.0f, 1e-6);  // narrow registers clamp the exponential at 2^127.5
    EXPECT_EQ(got[4], kInfinity);
    EXPECT_TRUE(std::isnan(got[5]));
  }
}

TEST(ActivationTest, AddsBiasesAndGates) {
  std::mt19937_64 rng(3);
  const int64_t rows = 2, cols = 37;
  const std::vector<float> up = Random(rng, rows * kPanelCols, 0, 2),
                           gate = Random(rng, rows * kPanelCols, 0, 2);
  const std::vector<float> up_bias = Random(rng, kPanelCols, 0, 1), gate_bias = Random(rng, kPanelCols, 0, 1);
  std::vector<float> f32(rows * cols);
  std::vector<Bf16> bf16(rows * cols);
  const HiddenTile tile{{up.data(), rows, cols, kPanelCols},
                        up_bias.data(),
                        {gate.data(), rows, cols, kPanelCols},
                        gate_bias.data()};
  Activate(Activation::kSilu, tile, BasicMatrixView<float>{f32.data(), rows, cols, cols});
  Activate(Activation::kSilu, tile, BasicMatrixView<Bf16>{bf16.data(), rows, cols, cols});
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) {
      const float u = up[r * kPanelCols + c] + up_bias[c], g = gate[r * kPanelCols + c] + gate_bias[c];
      const double wanted = u * ReferenceActivation(Activation::kSilu, g);
      EXPECT_NEAR(f32[r * cols + c], wanted, std::abs(wanted) * 5e-7);
      EXPECT_EQ(ToFloat(bf16[r * cols + c]), ToFloat(ToBf16(f32[r * cols + c])));
    }
  }
}

}  // namespace
}  // namespace headlight
