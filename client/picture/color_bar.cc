// SPDX-License-Identifier: Apache-2.0
#include "client/picture/color_bar.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace headlight::client {
namespace {

constexpr int kBarSteps = 64;  // a divisor of the widths in use, or seams show
constexpr double kBarTop = 16;
constexpr double kBarThickness = 10;
constexpr double kOverhang = 12;  // of a number over the left end; margins are wider

}  // namespace

std::string FormatValue(double value) { return absl::StrFormat("%.3g", value); }

void DrawColorBar(Point corner, double width, const ColorScale& scale, const std::string& label,
                  const std::string& unit, SvgWriter& svg) {
  const double top = corner.y + kBarTop;
  svg.Text({corner.x, corner.y + 11}, absl::StrCat(label, ", ", FormatValue(scale.min()), " to ",
                                                   FormatValue(scale.max()), unit.empty() ? "" : " ", unit));
  svg.BeginGroup("bar");
  for (int i = 0; i < kBarSteps; ++i) {
    svg.Rect({corner.x + width * i / kBarSteps, top}, width / kBarSteps, kBarThickness,
             ToHex(ColorOf((i + 0.5) / kBarSteps)));
  }
  svg.EndGroup();
  svg.Frame({corner.x, top}, width, kBarThickness);
  double free_from = corner.x - 1e9;
  for (double tick : scale.Ticks()) {
    const std::string text = FormatValue(tick);
    const double x = corner.x + width * scale.ShareOf(tick);
    const double half = kCharWidth * 11 * static_cast<double>(text.size()) / 2;
    svg.Line({x, top + kBarThickness}, {x, top + kBarThickness + 4});
    const double middle = std::max(x, corner.x - kOverhang + half);
    if (middle - half < free_from) continue;  // no room for another number
    svg.Text({middle, top + kBarThickness + 15}, text, {.anchor = Anchor::kMiddle, .css = "faint"});
    free_from = middle + half + 4;
  }
}

}  // namespace headlight::client
