// SPDX-License-Identifier: Apache-2.0
//
// How positions enter the scores: the angles of RoPE, the slopes of ALiBi, and buckets of distances.
#ifndef HEADLIGHT_CORE_ATTENTION_POSITION_H_
#define HEADLIGHT_CORE_ATTENTION_POSITION_H_

#include <compare>
#include <cstdint>
#include <optional>
#include <vector>

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
    kYarn,    // the same with the blend linear in the pairs' numbers (Peng et al. 2023, arXiv:2309.00071)
    kByPair,  // pair i divided by pair_factors[i] ("longrope", Ding et al. 2024, arXiv:2402.13753)
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
  // For kYarn: pairs that turn more than beta_fast times within original_max_len are left alone, those that
  // turn less than beta_slow times are divided; with `truncate` the bounds between them are whole pairs.
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  bool truncate = true;
  int64_t original_max_len = 8192;
  std::vector<double> pair_factors;  // for kByPair, [rotary_dim / 2]
  double magnitude = 1.0;            // of cosine and sine: turned dimensions grow by it
  // Sequences longer than this turn otherwise, and are not served; 0: all turn so.
  int64_t max_len = 0;

  auto operator<=>(const RopeConfig&) const = default;
};

// Scores get a learned bias for each head and bucket of distances (section 2.1 of Raffel et al. 2019,
// arXiv:1910.10683): half of the buckets are for keys before the query or at it, half for those behind it. Of
// each half, half are for one distance each, the others grow to max_distance, beyond which all keys share the
// last.
struct RelativeBiasConfig {
  int64_t num_buckets = 32;
  int64_t max_distance = 128;

  bool operator==(const RelativeBiasConfig&) const = default;
};

// The bucket, in [0, num_buckets), of a key that stands `distance` after the query.
int64_t RelativeBucket(const RelativeBiasConfig& config, int64_t distance);

// Scores get the products of queries with learned keys of distances, and of keys with learned queries of
// distances (He et al. 2020, "DeBERTa", arXiv:2006.03654, section 3.1): q_i . k_j + q_i . K_b + k_j . Q_b, b
// being the bucket of i - j, and scale applies to the sum. K and Q are a table of distances, which all layers
// share, projected as the layer projects tokens.
struct DisentangledConfig {
  int64_t num_buckets = 256;  // on each side; the table has twice as many rows
  // Distances below num_buckets / 2 have a bucket each, longer ones share them, growing to this (DeBERTa-v2);
  // 0: each distance has its own, those beyond num_buckets the last (DeBERTa).
  int64_t max_distance = 0;
  bool query_to_position = true;  // q_i . K_b, "c2p"
  bool key_to_position = true;    // k_j . Q_b, "p2c"
  // Keys and queries of distances have matrices of their own (DeBERTa) instead of those of tokens.
  bool own_projections = false;
  // The table goes through a LayerNorm of this eps before it is projected; absent: it does not.
  std::optional<double> norm_eps;

  bool operator==(const DisentangledConfig&) const = default;
};

// The row, in [0, 2 * num_buckets), of a key that stands `distance` before the query.
int64_t DisentangledRow(const DisentangledConfig& config, int64_t distance);

// ALiBi's slope of one head: 2^(-8 (head + 1) / n) for n heads, n a power of two; for other n the first ones
// of the power of two below, then every second of the next one.
double AlibiSlope(int64_t head, int64_t num_heads);

// The angle, in radians per position, of pair `pair` of [0, rotary_dim / 2). `rope` as in a resolved config.
double RopeFrequency(const RopeConfig& rope, int64_t pair);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_POSITION_H_
