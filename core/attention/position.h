// SPDX-License-Identifier: Apache-2.0
//
// How positions enter the scores: the angles of RoPE and the slopes of ALiBi.
#ifndef HEADLIGHT_CORE_ATTENTION_POSITION_H_
#define HEADLIGHT_CORE_ATTENTION_POSITION_H_

#include <compare>
#include <cstdint>

namespace headlight {

// Rotary position embedding of queries and keys (Su et al. 2021, arXiv:2104.09864): the pair number i of a
// head turns by position * theta^(-2 i / rotary_dim). Keys stand at their index, query i at i + kv_len -
// q_len.
struct RopeConfig {
  enum class Scaling : uint8_t {
    kNone,
    kLinear,  // positions divided by factor (Chen et al. 2023, arXiv:2306.15595)
    kNtk,     // theta multiplied by factor^(rotary_dim / (rotary_dim - 2)) ("NTK-aware" scaling)
    kLlama3,  // slow pairs divided by factor, fast ones left alone, a blend between (Llama 3.1)
  };
  double theta = 10000.0;
  int64_t rotary_dim = 0;    // leading dimensions of a head that turn, even; default head_dim
  bool interleaved = false;  // pairs are (2i, 2i + 1); else (i, i + rotary_dim / 2)
  Scaling scaling = Scaling::kNone;
  double factor = 1.0;
  // For kLlama3: a pair is slow when its wave is longer than original_max_len / low_freq_factor, fast when
  // shorter than original_max_len / high_freq_factor.
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  int64_t original_max_len = 8192;

  auto operator<=>(const RopeConfig&) const = default;
};

// ALiBi's slope of one head: 2^(-8 (head + 1) / n) for n heads, n a power of two; for other n the first ones
// of the power of two below, then every second of the next one.
double AlibiSlope(int64_t head, int64_t num_heads);

// The angle, in radians per position, of pair `pair` of [0, rotary_dim / 2). `rope` as in a resolved config.
double RopeFrequency(const RopeConfig& rope, int64_t pair);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_POSITION_H_
