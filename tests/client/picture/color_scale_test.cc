// SPDX-License-Identifier: Apache-2.0
#include "client/picture/color_scale.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <limits>

namespace headlight::client {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;

TEST(ColorScaleTest, LuminanceFallsFromAlmostWhiteToAlmostBlack) {
  double before = Luminance(ColorOf(0));
  EXPECT_GT(before, 0.93);
  for (int i = 1; i <= 255; ++i) {
    const double luminance = Luminance(ColorOf(i / 255.0));
    EXPECT_LT(luminance, before) << i;
    before = luminance;
  }
  EXPECT_LT(before, 0.03);
}

// A jump would draw an edge where the data has none.
TEST(ColorScaleTest, NeighboursAreAlike) {
  for (int i = 0; i < 255; ++i) {
    const Color one = ColorOf(i / 255.0), next = ColorOf((i + 1) / 255.0);
    EXPECT_LE(std::abs(one.red - next.red), 6) << i;
    EXPECT_LE(std::abs(one.green - next.green), 6) << i;
    EXPECT_LE(std::abs(one.blue - next.blue), 6) << i;
  }
}

TEST(ColorScaleTest, SharesOutsideAreThoseOfTheEndsAndNanIsRed) {
  EXPECT_EQ(ToHex(ColorOf(-1)), ToHex(ColorOf(0)));
  EXPECT_EQ(ToHex(ColorOf(INFINITY)), ToHex(ColorOf(1)));
  const Color nan = ColorOf(std::numeric_limits<double>::quiet_NaN());
  EXPECT_GT(nan.red, 2 * std::max(nan.green, nan.blue));
  for (int i = 0; i <= 255; ++i) {
    const Color color = ColorOf(i / 255.0);
    EXPECT_LT(color.red, color.green + color.blue) << i;  // so the scale has nothing like it
  }
}

TEST(ColorScaleTest, TextStandsOutFromEveryColour) {
  for (int i = 0; i <= 255; ++i) {
    const Color color = ColorOf(i / 255.0);
    const double luminance = Luminance(color);
    const double contrast = IsDark(color) ? 1.05 / (luminance + 0.05) : (luminance + 0.05) / 0.05;
    EXPECT_GE(contrast, 4.5) << i;  // what WCAG 2 wants of small text
  }
}

TEST(ColorScaleTest, LinearSharesAndTicks) {
  const ColorScale scale(ScaleKind::kLinear, 0, 0.5);
  EXPECT_EQ(scale.ShareOf(0), 0);
  EXPECT_EQ(scale.ShareOf(0.125), 0.25);
  EXPECT_EQ(scale.ShareOf(9), 1);
  EXPECT_TRUE(std::isnan(scale.ShareOf(std::nan(""))));
  EXPECT_THAT(scale.Ticks(),
              ElementsAre(DoubleNear(0, 1e-12), DoubleNear(0.1, 1e-12), DoubleNear(0.2, 1e-12),
                          DoubleNear(0.3, 1e-12), DoubleNear(0.4, 1e-12), DoubleNear(0.5, 1e-12)));
}

TEST(ColorScaleTest, LogarithmicScaleSpansFourDecades) {
  const ColorScale scale(ScaleKind::kLog, 0, 1);
  EXPECT_EQ(scale.ShareOf(0), 0);
  EXPECT_NEAR(scale.ShareOf(1e-3), 0.25, 1e-12);
  EXPECT_NEAR(scale.ShareOf(0.1), 0.75, 1e-12);
  EXPECT_EQ(scale.ShareOf(1), 1);
  EXPECT_THAT(scale.Ticks(), ElementsAre(DoubleNear(1e-4, 1e-9), DoubleNear(1e-3, 1e-9),
                                         DoubleNear(1e-2, 1e-9), DoubleNear(0.1, 1e-9), DoubleNear(1, 1e-9)));
}

TEST(ColorScaleTest, ValuesThatAreAllAlikeHaveOneTick) {
  const ColorScale scale(ScaleKind::kLinear, 3, 3);
  EXPECT_EQ(scale.ShareOf(3), 0);
  EXPECT_THAT(scale.Ticks(), ElementsAre(3));
}

}  // namespace
}  // namespace headlight::client
