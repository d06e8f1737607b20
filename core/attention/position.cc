// SPDX-License-Identifier: Apache-2.0
#include "core/attention/position.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>

namespace headlight {

double AlibiSlope(int64_t head, int64_t num_heads) {
  const auto below = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(num_heads)));
  if (head < below) return std::exp2(-8.0 * static_cast<double>(head + 1) / static_cast<double>(below));
  const int64_t odd = 2 * (head - below) + 1;  // first, third, ... slope of twice as many heads
  return std::exp2(-8.0 * static_cast<double>(odd) / static_cast<double>(2 * below));
}

double RopeFrequency(const RopeConfig& rope, int64_t pair) {
  const auto dim = static_cast<double>(rope.rotary_dim);
  double theta = rope.theta;
  if (rope.scaling == RopeConfig::Scaling::kNtk) theta *= std::pow(rope.factor, dim / (dim - 2.0));
  const double frequency = std::pow(theta, -2.0 * static_cast<double>(pair) / dim);
  if (rope.scaling == RopeConfig::Scaling::kLinear) return frequency / rope.factor;
  if (rope.scaling != RopeConfig::Scaling::kLlama3) return frequency;
  const double waves = static_cast<double>(rope.original_max_len) * frequency / (2.0 * std::numbers::pi);
  const double share = (waves - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
  const double kept = std::clamp(share, 0.0, 1.0);  // of the unscaled frequency
  return kept * frequency + (1.0 - kept) * frequency / rope.factor;
}

}  // namespace headlight
