// SPDX-License-Identifier: Apache-2.0
//
// The dimensions of one multi-head attention layer.
#ifndef HEADLIGHT_CORE_ATTENTION_CONFIG_H_
#define HEADLIGHT_CORE_ATTENTION_CONFIG_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace headlight {

// Arithmetic of the matrix products. Scores, sums and accumulators are f32 in each of them.
enum class Precision : uint8_t {
  kF32,
  kBf16,  // operands rounded to bf16
  kInt8,  // projections: u8 activations with a scale per token, s8 weights with a scale per column; the rest
          // as kBf16, or as kF32 on CPUs that are faster in it
};

// "f32", "bf16", "int8".
const char* Name(Precision precision);

// Bytes that a packed weight takes.
int64_t BytesPerWeight(Precision precision);

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
};

// What a layer looks like, apart from its numbers. Fields at 0 take the default that their comment names;
// Resolved() fills them in, and everything below the public API sees resolved configs only.
struct AttentionConfig {
  int64_t embed_dim = 0;     // width of queries and of the output
  int64_t num_heads = 0;     // query heads
  int64_t num_kv_heads = 0;  // key/value heads, divides num_heads; default num_heads
  int64_t head_dim = 0;      // width of a head; default embed_dim / num_heads, which must then divide evenly
  int64_t kdim = 0;          // width of the key input; default embed_dim
  int64_t vdim = 0;          // width of the value input; default kdim
  // Factor on q . k; default 1 / sqrt(head_dim) (Vaswani et al. 2017, section 3.2.1).
  std::optional<double> scale;
  // As in torch.nn.MultiheadAttention: a key/value of zeros appended to every sequence, allowed for every
  // query.
  bool add_zero_attn = false;
  // As in torch.nn.MultiheadAttention: a learned key/value (AttentionParameters::bias_k, bias_v) appended to
  // every sequence before the one of zeros, allowed for every query, neither rotated nor biased by position.
  bool add_bias_kv = false;
  std::optional<RopeConfig> rope;
  // Scores get -slope_h |position of the query - position of the key|, slopes as Press et al. 2022
  // (arXiv:2108.12409) choose them; see AlibiSlope.
  bool alibi = false;
  // Scores become softcap * tanh(score / softcap) before ALiBi and masks; 0 means none, else at least 1e-6.
  double logit_softcap = 0.0;
  // Sliding window of the layer; a request's own window narrows it further. As in batch.h: Visibility.
  std::optional<int64_t> window_left;
  std::optional<int64_t> window_right;
  Precision precision = Precision::kF32;

  // INVALID_ARGUMENT if the fields contradict each other or leave the supported range; the message names the
  // field.
  absl::Status Validate() const;

  // A copy with every default filled in. Requires Validate().ok().
  AttentionConfig Resolved() const;

  int64_t q_width() const { return num_heads * head_dim; }      // columns of Wq, rows of Wo
  int64_t kv_width() const { return num_kv_heads * head_dim; }  // columns of Wk and Wv
  int64_t heads_per_kv_head() const { return num_heads / num_kv_heads; }
  int64_t num_appended_keys() const { return int64_t{add_bias_kv} + int64_t{add_zero_attn}; }
};

// INVALID_ARGUMENT, naming `field`, for a side of a window below 0.
absl::Status CheckWindow(absl::string_view field, std::optional<int64_t> window);

// ALiBi's slope of one head: 2^(-8 (head + 1) / n) for n heads, n a power of two; for other n the first ones
// of the power of two below, then every second of the next one.
double AlibiSlope(int64_t head, int64_t num_heads);

// The angle, in radians per position, of pair `pair` of [0, rotary_dim / 2). `rope` as in a resolved config.
double RopeFrequency(const RopeConfig& rope, int64_t pair);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_CONFIG_H_
