// SPDX-License-Identifier: Apache-2.0
#include "core/attention/position.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <numbers>

namespace headlight {

double AlibiSlope(int64_t head, int64_t num_heads) {
  const auto below = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(num_heads)));
  if (head < below) return std::exp2(-8.0 * static_cast<double>(head + 1) / static_cast<double>(below));
  const int64_t odd = 2 * (head - below) + 1;  // first, third, ... slope of twice as many heads
  return std::exp2(-8.0 * static_cast<double>(odd) / static_cast<double>(2 * below));
}

int64_t RelativeBucket(const RelativeBiasConfig& config, int64_t distance) {
  const int64_t half = config.num_buckets / 2;
  const int64_t first = distance > 0 ? half : 0;
  const int64_t exact = half / 2;
  const int64_t away = std::abs(distance);
  if (away < exact) return first + away;
  // In f32, as where models are trained: near a bound the rounding decides.
  const auto growth =
      static_cast<float>(std::log(static_cast<double>(config.max_distance) / static_cast<double>(exact)));
  const float share = std::log(static_cast<float>(away) / static_cast<float>(exact)) / growth;
  const auto beyond = static_cast<int64_t>(share * static_cast<float>(half - exact));
  return first + std::min(exact + beyond, half - 1);
}

int64_t DisentangledRow(const DisentangledConfig& config, int64_t distance) {
  const int64_t exact = config.num_buckets / 2;
  int64_t bucket = distance;
  if (config.max_distance > 0 && std::abs(distance) > exact) {
    // In f32, as where models are trained.
    const auto of = [&](int64_t away) {
      return std::log(static_cast<float>(static_cast<double>(away) / static_cast<double>(exact)));
    };
    const float share = of(std::abs(distance)) / of(config.max_distance - 1);
    const auto beyond = static_cast<int64_t>(std::ceil(share * static_cast<float>(exact - 1)));
    bucket = distance < 0 ? -(exact + beyond) : exact + beyond;
  }
  return std::clamp<int64_t>(bucket + config.num_buckets, 0, 2 * config.num_buckets - 1);
}

namespace {

// How far the pairs that turn `turns` times within original_max_len are from the first one.
double YarnPair(const RopeConfig& rope, double turns) {
  const double wave = static_cast<double>(rope.original_max_len) / (turns * 2.0 * std::numbers::pi);
  return static_cast<double>(rope.rotary_dim) * std::log(wave) / (2.0 * std::log(rope.theta));
}

// The part of the unscaled frequency that a pair keeps. As transformers has it, the upper bound may be as
// large as the number of dimensions, which is twice that of pairs.
double YarnShareKept(const RopeConfig& rope, int64_t pair) {
  double first = YarnPair(rope, rope.beta_fast);
  double last = YarnPair(rope, rope.beta_slow);
  if (rope.truncate) {
    first = std::floor(first);
    last = std::ceil(last);
  }
  first = std::max(first, 0.0);
  last = std::min(last, static_cast<double>(rope.rotary_dim - 1));
  if (first == last) last += 0.001;
  return 1.0 - std::clamp((static_cast<double>(pair) - first) / (last - first), 0.0, 1.0);
}

}  // namespace

double RopeFrequency(const RopeConfig& rope, int64_t pair) {
  const auto dim = static_cast<double>(rope.rotary_dim);
  double theta = rope.theta;
  if (rope.scaling == RopeConfig::Scaling::kNtk) theta *= std::pow(rope.factor, dim / (dim - 2.0));
  const double frequency = std::pow(theta, -2.0 * static_cast<double>(pair) / dim);
  double kept = 1.0;  // of the unscaled frequency
  switch (rope.scaling) {
    case RopeConfig::Scaling::kNone:
    case RopeConfig::Scaling::kNtk:
      return frequency;
    case RopeConfig::Scaling::kLinear:
      return frequency / rope.factor;
    case RopeConfig::Scaling::kByPair:
      return frequency / rope.pair_factors[pair];
    case RopeConfig::Scaling::kLlama3: {
      const double waves = static_cast<double>(rope.original_max_len) * frequency / (2.0 * std::numbers::pi);
      const double share = (waves - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
      kept = std::clamp(share, 0.0, 1.0);
      break;
    }
    case RopeConfig::Scaling::kYarn:
      kept = YarnShareKept(rope, pair);
      break;
  }
  return kept * frequency + (1.0 - kept) * frequency / rope.factor;
}

}  // namespace headlight
