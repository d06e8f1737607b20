// SPDX-License-Identifier: Apache-2.0
#include "core/model/activation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "core/model/reference.h"
#include "core/product/parameter_panels.h"

namespace headlight {
namespace {

constexpr double kActivationUnit = 0x1p-24;  // what one f32 operation rounds by

std::vector<float> RandomTile(std::mt19937_64& rng, int64_t size, float offset, float amplitude) {
  std::vector<float> values(size);
  for (float& value : values) {
    value = offset + amplitude * (static_cast<float>(rng() >> 40) * 0x1p-23f - 1.0f);
  }
  return values;
}

// What an activation may be off by at x: the minimax fit of the GELU, the exponential (8e-8 of itself, and
// the rounding of its argument) and the few operations around it.
double ActivationTolerance(Activation activation, double x, double wanted) {
  const double around = 4 * kActivationUnit * std::abs(wanted) + 1e-30;
  switch (activation) {
    case Activation::kRelu:
      return 0;
    case Activation::kGeluErf:
      return 5.5e-8 + 4 * kActivationUnit * std::max(std::abs(x), 0.5);
    case Activation::kGeluTanh: {
      const double exponent = 2.4 * (std::abs(x) + 0.05 * std::abs(x * x * x));
      return around + std::abs(wanted) * (8e-8 + 6 * kActivationUnit * exponent);
    }
    case Activation::kSilu:
      return around + std::abs(wanted) * (8e-8 + 3 * kActivationUnit * std::abs(x));
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
        ASSERT_NEAR(got[i], wanted, ActivationTolerance(activation, x[i], wanted))
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
  const std::vector<float> up = RandomTile(rng, rows * kPanelCols, 0, 2),
                           gate = RandomTile(rng, rows * kPanelCols, 0, 2);
  const std::vector<float> up_bias = RandomTile(rng, kPanelCols, 0, 1),
                           gate_bias = RandomTile(rng, kPanelCols, 0, 1);
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

// Tiles of bf16 and of int8 products take a coarser GELU.
TEST(ActivationTest, TheCoarseGeluIsGoodEnoughForBf16) {
  constexpr double kFit = 2e-4;
  const std::vector<float> zeros(kPanelCols, 0.0f), ones(kPanelCols, 1.0f);
  for (int64_t block = -200; block < 200; ++block) {
    std::vector<int32_t> sums(kPanelCols);
    std::vector<float> x(kPanelCols);
    for (int64_t i = 0; i < kPanelCols; ++i) {
      sums[i] = static_cast<int32_t>(block * kPanelCols + i);
      x[i] = static_cast<float>(sums[i]) * 0x1p-10f;  // -12.5..12.5
    }
    std::vector<Bf16> rounded(kPanelCols);
    std::vector<float> of_sums(kPanelCols);
    Activate(Activation::kGeluErf,
             HiddenTile{.up = {x.data(), 1, kPanelCols, kPanelCols}, .up_bias = zeros.data()},
             BasicMatrixView<Bf16>{rounded.data(), 1, kPanelCols, kPanelCols});
    const float scale = 0x1p-10f, zero = 0.0f;
    Activate(Activation::kGeluErf,
             HiddenSumTile{.up = sums.data(),
                           .up_product = {&scale, &zero, ones.data(), zeros.data(), zeros.data()}},
             MutableMatrixView{of_sums.data(), 1, kPanelCols, kPanelCols});
    for (int64_t i = 0; i < kPanelCols; ++i) {
      const double wanted = ReferenceActivation(Activation::kGeluErf, x[i]);
      ASSERT_NEAR(of_sums[i], wanted, kFit + 4 * kActivationUnit * std::abs(x[i])) << x[i];
      ASSERT_EQ(ToFloat(rounded[i]), ToFloat(ToBf16(of_sums[i]))) << x[i];
    }
  }
}

TEST(ActivationTest, ExtremesOfTheCoarseGeluStayWhatTheyAre) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::vector<float> x(kPanelCols, 0.0f);
  const std::vector<float> zeros(kPanelCols, 0.0f);
  const float extremes[] = {1e4f, -1e4f, 1e30f, -1e30f, kInfinity, -kInfinity, std::nanf("")};
  std::copy(std::begin(extremes), std::end(extremes), x.begin());
  std::vector<Bf16> got(kPanelCols);
  Activate(Activation::kGeluErf,
           HiddenTile{.up = {x.data(), 1, kPanelCols, kPanelCols}, .up_bias = zeros.data()},
           BasicMatrixView<Bf16>{got.data(), 1, kPanelCols, kPanelCols});
  for (const int64_t i : {0, 2, 4}) EXPECT_EQ(ToFloat(got[i]), ToFloat(ToBf16(x[i])));
  // What is left at the lower end is the rounding of sums of some 30, times 3.9.
  for (const int64_t i : {1, 3, 5}) EXPECT_NEAR(ToFloat(got[i]), 0.0f, 3.9 * 30 * kActivationUnit);
  EXPECT_TRUE(std::isnan(ToFloat(got[6])));
}

TEST(ActivationTest, SumsComeWithScalesZerosBiasesAndGates) {
  std::mt19937_64 rng(5);
  const int64_t rows = 3, cols = 37;
  std::vector<int32_t> up(rows * kPanelCols), gate(rows * kPanelCols);
  for (std::vector<int32_t>* sums : {&up, &gate}) {
    for (int32_t& sum : *sums) sum = static_cast<int32_t>(rng() % 20001) - 10000;
  }
  const std::vector<float> row_scale = {1e-3f, 2e-3f, 3e-3f}, row_zero = {0.0f, 100.0f, 255.0f};
  const std::vector<float> col_scale = RandomTile(rng, kPanelCols, 0.2f, 0.1f);
  const std::vector<float> col_sum = RandomTile(rng, kPanelCols, 0, 50);
  const std::vector<float> up_bias = RandomTile(rng, kPanelCols, 0, 1),
                           gate_bias = RandomTile(rng, kPanelCols, 0, 1);
  const auto product = [&](const std::vector<float>& bias) {
    return QuantizedProduct{row_scale.data(), row_zero.data(), col_scale.data(), col_sum.data(), bias.data()};
  };
  std::vector<float> out(rows * cols + 1, -7.0f);
  Activate(Activation::kSilu, HiddenSumTile{up.data(), product(up_bias), gate.data(), product(gate_bias)},
           MutableMatrixView{out.data(), rows, cols, cols});
  EXPECT_EQ(out.back(), -7.0f) << "touched what lies beyond";
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) {
      const auto number = [&](const std::vector<int32_t>& sums, const std::vector<float>& bias) {
        const double shifted = sums[r * kPanelCols + c] - double{row_zero[r]} * col_sum[c];
        return row_scale[r] * col_scale[c] * shifted + bias[c];
      };
      const double u = number(up, up_bias), g = number(gate, gate_bias);
      const double wanted = u * ReferenceActivation(Activation::kSilu, g);
      // Each number is off by a few units of its larger part; the slope of SiLU is below 1.1.
      const double unit = 8 * kActivationUnit * (1 + 3e-3 * 0.3 * (10000 + 255 * 50));
      EXPECT_NEAR(out[r * cols + c], wanted, unit * (std::abs(u) * 1.1 + std::abs(g) + 1));
    }
  }
}

}  // namespace
}  // namespace headlight
