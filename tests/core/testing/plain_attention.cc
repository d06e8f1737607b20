// SPDX-License-Identifier: Apache-2.0
#include "tests/core/testing/plain_attention.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <utility>

#include "core/attention/batch.h"

namespace headlight::testing {
namespace {

using Floats = std::vector<float>;

float RoundToBf16(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  return std::bit_cast<float>((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000);
}

Floats RoundToBf16(Floats values) {
  for (float& value : values) value = RoundToBf16(value);
  return values;
}

// Each row [cols] of u8 steps of its own between its least and its largest number, as floats again.
Floats QuantiseRows(Floats values, int64_t cols) {
  for (auto row = values.begin(); row != values.end(); row += cols) {
    const auto [min, max] = std::minmax_element(row, row + cols);
    const float first = *min, step = (*max - *min) / 255;
    for (auto x = row; step > 0 && x != row + cols; ++x) *x = first + step * std::round((*x - first) / step);
  }
  return values;
}

// Each column of w [in, cols] in s8 steps of its own, as floats again.
Floats QuantiseColumns(Floats w, int64_t cols) {
  for (int64_t col = 0; col < cols; ++col) {
    float max = 0.0f;
    for (size_t i = col; i < w.size(); i += cols) max = std::max(max, std::abs(w[i]));
    for (size_t i = col; max > 0 && i < w.size(); i += cols) w[i] = std::round(w[i] / max * 127) * max / 127;
  }
  return w;
}

class PlainAttention {
 public:
  PlainAttention(const TestLayer& layer, const TestSequence& sequence, Precision precision)
      : c_(layer.config), weights_(layer.weights), s_(sequence), precision_(precision) {}

  PlainResult Run() {
    q_ = Project(s_.query, c_.embed_dim, weights_.wq, c_.q_width(), weights_.bq);
    k_ = Project(s_.key, c_.kdim, weights_.wk, c_.kv_width(), weights_.bk);
    v_ = Project(s_.value, c_.vdim, weights_.wv, c_.kv_width(), weights_.bv);
    if (c_.rope) {
      for (int64_t i = 0; i < s_.q_len; ++i)
        Rotate(i + s_.kv_len - s_.q_len, q_.data() + i * c_.q_width(), c_.num_heads);
      for (int64_t j = 0; j < s_.kv_len; ++j) Rotate(j, k_.data() + j * c_.kv_width(), c_.num_kv_heads);
    }
    kv_len_ = s_.kv_len + c_.num_appended_keys();
    k_.insert(k_.end(), weights_.bias_k.begin(), weights_.bias_k.end());
    v_.insert(v_.end(), weights_.bias_v.begin(), weights_.bias_v.end());
    k_.resize(kv_len_ * c_.kv_width());
    v_.resize(kv_len_ * c_.kv_width());
    if (precision_ != Precision::kF32) {
      for (Floats* operand : {&q_, &k_, &v_}) *operand = RoundToBf16(*operand);
    }
    attended_.assign(s_.q_len * c_.q_width(), 0.0f);
    for (int64_t head = 0; head < c_.num_heads; ++head) {
      for (int64_t query = 0; query < s_.q_len; ++query) Attend(head, query);
    }
    if (precision_ != Precision::kF32) attended_ = RoundToBf16(attended_);
    result_.output = Project(attended_, c_.q_width(), weights_.wo, c_.embed_dim, weights_.bo);
    return std::move(result_);
  }

 private:
  Floats Project(const Floats& x, int64_t in, const Floats& w, int64_t out, const Floats& bias) const {
    if (precision_ == Precision::kBf16) return Multiply(RoundToBf16(x), in, RoundToBf16(w), out, bias);
    if (precision_ == Precision::kInt8)
      return Multiply(QuantiseRows(x, in), in, QuantiseColumns(w, out), out, bias);
    return Multiply(x, in, w, out, bias);
  }

  static Floats Multiply(const Floats& x, int64_t in, const Floats& w, int64_t out, const Floats& bias) {
    const int64_t rows = x.size() / in;
    Floats y(rows * out);
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t o = 0; o < out; ++o) {
        float sum = bias.empty() ? 0.0f : bias[o];
        for (int64_t i = 0; i < in; ++i) sum += x[row * in + i] * w[i * out + o];
        y[row * out + o] = sum;
      }
    }
    return y;
  }

  void Rotate(int64_t position, float* x, int64_t num_heads) const {
    const int64_t half = c_.rope->rotary_dim / 2;
    for (int64_t head = 0; head < num_heads; ++head) {
      for (int64_t pair = 0; pair < half; ++pair) {
        float& a = x[head * c_.head_dim + (c_.rope->interleaved ? 2 * pair : pair)];
        float& b = x[head * c_.head_dim + (c_.rope->interleaved ? 2 * pair + 1 : pair + half)];
        const double angle = position * RopeFrequency(*c_.rope, pair);
        const auto cosine = static_cast<float>(std::cos(angle)), sine = static_cast<float>(std::sin(angle));
        const float turned_a = a * cosine - b * sine;
        b = a * sine + b * cosine;
        a = turned_a;
      }
    }
  }

  // Infinity where the key may not be seen.
  float ScoreBias(int64_t head, int64_t query, int64_t key) const {
    if (key >= s_.kv_len) return 0.0f;
    const Visibility visibility =
        Narrowed(s_.visibility, {.window_left = c_.window_left, .window_right = c_.window_right});
    const KeyRange visible = VisibleKeys(visibility, query, s_.q_len, s_.kv_len);
    if (key < visible.begin || key >= visible.end) return -INFINITY;
    const auto distance = static_cast<float>(std::abs(query + s_.kv_len - s_.q_len - key));
    return c_.alibi ? -static_cast<float>(AlibiSlope(head, c_.num_heads)) * distance : 0.0f;
  }

  void Attend(int64_t head, int64_t query) {
    const int64_t kv_offset = head / c_.heads_per_kv_head() * c_.head_dim;
    const int64_t q_offset = query * c_.q_width() + head * c_.head_dim;
    const auto cap = static_cast<float>(c_.logit_softcap);
    Floats p(kv_len_, 0.0f);
    for (int64_t key = 0; key < kv_len_; ++key) {
      for (int64_t d = 0; d < c_.head_dim; ++d)
        p[key] += q_[q_offset + d] * k_[key * c_.kv_width() + kv_offset + d];
      p[key] *= static_cast<float>(*c_.scale);
      if (cap != 0.0f) p[key] = cap * std::tanh(p[key] / cap);
      p[key] += ScoreBias(head, query, key);
    }
    const float max = *std::max_element(p.begin(), p.end());
    float sum = 0.0f;
    for (float& e : p) sum += e = max == -INFINITY ? 0.0f : std::exp(e - max);
    for (int64_t key = 0; key < kv_len_; ++key) {
      if (p[key] == 0.0f) continue;
      const float rounded = precision_ == Precision::kF32 ? p[key] : RoundToBf16(p[key]);
      for (int64_t d = 0; d < c_.head_dim; ++d) {
        attended_[q_offset + d] += rounded / sum * v_[key * c_.kv_width() + kv_offset + d];
      }
      p[key] /= sum;
    }
    result_.weights.insert(result_.weights.end(), p.begin(), p.end());
  }

  const AttentionConfig& c_;
  const AttentionParameters& weights_;
  const TestSequence& s_;
  const Precision precision_;
  int64_t kv_len_ = 0;
  Floats q_, k_, v_, attended_;
  PlainResult result_;
};

}  // namespace

PlainResult AttendPlainly(const TestLayer& layer, const TestSequence& sequence, Precision precision) {
  return PlainAttention(layer, sequence, precision).Run();
}

}  // namespace headlight::testing
