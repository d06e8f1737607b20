// SPDX-License-Identifier: Apache-2.0
//
// The bar beside a picture that says which colour is which value.
#ifndef HEADLIGHT_CLIENT_PICTURE_COLOR_BAR_H_
#define HEADLIGHT_CLIENT_PICTURE_COLOR_BAR_H_

#include <string>

#include "client/picture/color_scale.h"
#include "client/picture/svg.h"

namespace headlight::client {

// Three digits, in the shortest form: "0.0125", "1e-05".
std::string FormatValue(double value);

// Draws a lying bar of `width` whose upper left corner is `corner`: `label` and the range above it, ticks
// below. It takes kColorBarHeight.
void DrawColorBar(Point corner, double width, const ColorScale& scale, const std::string& label,
                  const std::string& unit, SvgWriter& svg);

inline constexpr double kColorBarHeight = 44;

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_PICTURE_COLOR_BAR_H_
