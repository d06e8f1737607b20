// SPDX-License-Identifier: Apache-2.0
#include "client/picture/color_scale.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "absl/strings/str_format.h"

namespace headlight::client {
namespace {

constexpr Color kNotANumber = {214, 40, 40};

// From near white to near black in OKLab, whose lightness is what the eye calls lightness.
constexpr double kPalest = 0.985;
constexpr double kDarkest = 0.22;
constexpr double kFirstHue = 105;  // degrees: yellowish green,
constexpr double kLastHue = 285;   // then green, blue, violet
constexpr double kMaxChroma = 0.135;
constexpr double kShareOfGamut = 0.9;

double ToSrgb(double linear) {
  return linear <= 0.0031308 ? 12.92 * linear : 1.055 * std::pow(linear, 1 / 2.4) - 0.055;
}

double FromSrgb(double value) {
  return value <= 0.04045 ? value / 12.92 : std::pow((value + 0.055) / 1.055, 2.4);
}

// Linear red, green and blue of a colour of OKLab; outside of [0, 1] where no screen shows it.
std::array<double, 3> OklchToLinear(double lightness, double chroma, double hue_degrees) {
  const double hue = hue_degrees * std::numbers::pi / 180;
  const double a = chroma * std::cos(hue);
  const double b = chroma * std::sin(hue);
  const auto cube = [](double root) { return root * root * root; };
  const double l = cube(lightness + 0.3963377774 * a + 0.2158037573 * b);
  const double m = cube(lightness - 0.1055613458 * a - 0.0638541728 * b);
  const double s = cube(lightness - 0.0894841775 * a - 1.2914855480 * b);
  return {4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
          -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
          -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s};
}

// The most colour that a screen can show at this lightness and hue.
double LargestChroma(double lightness, double hue_degrees) {
  double shown = 0, beyond = 0.4;  // no sRGB colour has so much
  for (int i = 0; i < 30; ++i) {
    const double chroma = (shown + beyond) / 2;
    const std::array<double, 3> linear = OklchToLinear(lightness, chroma, hue_degrees);
    const bool in_gamut = std::all_of(linear.begin(), linear.end(),
                                      [](double channel) { return channel >= 0 && channel <= 1; });
    (in_gamut ? shown : beyond) = chroma;
  }
  return shown;
}

// 1, 2 or 5 times a power of ten, so that `span` has about `wanted` steps.
double RoundStep(double span, int wanted) {
  const double raw = span / wanted;
  const double power = std::pow(10, std::floor(std::log10(raw)));
  const double factor = raw / power;
  return power * (factor <= 1 ? 1 : factor <= 2 ? 2 : factor <= 5 ? 5 : 10);
}

}  // namespace

Color ColorOf(double share) {
  if (std::isnan(share)) return kNotANumber;
  share = std::clamp(share, 0.0, 1.0);
  const double lightness = kPalest + share * (kDarkest - kPalest);
  const double hue = kFirstHue + share * (kLastHue - kFirstHue);
  // Short of what a screen can show, or the channel that ends there would jump.
  const double chroma = std::min(kMaxChroma * std::sin(std::numbers::pi * (0.05 + 0.75 * share)),
                                 kShareOfGamut * LargestChroma(lightness, hue));
  const std::array<double, 3> linear = OklchToLinear(lightness, chroma, hue);
  const auto byte = [](double channel) {
    return static_cast<uint8_t>(std::lround(255 * ToSrgb(std::clamp(channel, 0.0, 1.0))));
  };
  return {byte(linear[0]), byte(linear[1]), byte(linear[2])};
}

double Luminance(Color color) {
  return 0.2126 * FromSrgb(color.red / 255.0) + 0.7152 * FromSrgb(color.green / 255.0) +
         0.0722 * FromSrgb(color.blue / 255.0);
}

bool IsDark(Color color) { return Luminance(color) < 0.18; }  // black and white contrast alike there

std::string ToHex(Color color) {
  return absl::StrFormat("#%02x%02x%02x", color.red, color.green, color.blue);
}

ColorScale::ColorScale(ScaleKind kind, double min, double max) : kind_(kind), min_(min), max_(max) {
  if (kind == ScaleKind::kLog) min_ = max * std::pow(10, -kLogDecades);
}

double ColorScale::ShareOf(double value) const {
  if (std::isnan(value)) return value;
  if (!(max_ > min_) || value <= min_) return 0;
  if (value >= max_) return 1;
  return kind_ == ScaleKind::kLinear ? (value - min_) / (max_ - min_)
                                     : std::log10(value / min_) / kLogDecades;
}

std::vector<double> ColorScale::Ticks() const {
  if (!(max_ > min_)) return {min_};
  std::vector<double> ticks;
  if (kind_ == ScaleKind::kLog) {
    const int top = static_cast<int>(std::floor(std::log10(max_) + 1e-9));
    for (int power = top - kLogDecades; power <= top; ++power) {
      const double tick = std::pow(10, power);
      if (tick >= min_ * (1 - 1e-9)) ticks.push_back(tick);
    }
    return ticks;
  }
  const double step = RoundStep(max_ - min_, 5);
  for (double i = std::ceil(min_ / step - 1e-9); i * step <= max_ + step * 1e-9; ++i) {
    ticks.push_back(i * step + 0.0);  // ceil() may have made a -0
  }
  return ticks;
}

}  // namespace headlight::client
