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

}  // namespace
}  // namespace headlight
