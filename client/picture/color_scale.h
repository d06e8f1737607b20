// SPDX-License-Identifier: Apache-2.0
//
// Colours for numbers: pale for little, dark for much, by way of green and blue. The lightness falls evenly,
// so the order of two values can be read in greyscale and with any colour vision; paper stays white where
// there is nothing.
#ifndef HEADLIGHT_CLIENT_PICTURE_COLOR_SCALE_H_
#define HEADLIGHT_CLIENT_PICTURE_COLOR_SCALE_H_

#include <cstdint>
#include <string>
#include <vector>

namespace headlight::client {

// sRGB.
struct Color {
  uint8_t red = 0;
  uint8_t green = 0;
  uint8_t blue = 0;
};

// The colour of `share` of the way from the least to the most: below 0 is 0, above 1 is 1, NaN is a red that
// the scale does not have.
Color ColorOf(double share);

// Whether text on this colour is to be white.
bool IsDark(Color color);

// Relative luminance as WCAG 2 defines it: 0 black, 1 white.
double Luminance(Color color);

std::string ToHex(Color color);  // "#0c1f5a"

enum class ScaleKind { kLinear, kLog };

// From values to shares of the way, and the marks beside a colour bar.
class ColorScale {
 public:
  // `max` is not below `min`. A logarithmic scale spans the kLogDecades below `max`, whatever `min` is; what
  // is below that gets share 0. Where all values are alike every share is 0.
  ColorScale(ScaleKind kind, double min, double max);

  double ShareOf(double value) const;

  // A few round values within the scale, ascending.
  std::vector<double> Ticks() const;

  double min() const { return min_; }
  double max() const { return max_; }
  ScaleKind kind() const { return kind_; }

  static constexpr int kLogDecades = 4;

 private:
  ScaleKind kind_;
  double min_;
  double max_;
};

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_PICTURE_COLOR_SCALE_H_
