// SPDX-License-Identifier: Apache-2.0
#include "tests/core/testing/error_bound.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace headlight::testing {
namespace {

constexpr double kUnitRoundoff = 0x1p-24;
constexpr double kConfidence = 8;  // L
constexpr double kExp2Error = 0x1p-22;
constexpr double kFlushedWeight = 0x1p-120;
constexpr double kUnderflow = 1e-30;
constexpr double kSecondOrder = 1.01;
constexpr double kMaxGrowth =
    1e30;  // no bound at all, but a number: scores swamped by a mask of -1e9 in every key

double Square(double x) { return x * x; }

// Step 0 for T = 1: u sqrt(n).
double SumError(int64_t n) { return kUnitRoundoff * std::sqrt(static_cast<double>(n)); }

// Exact values and the scale [e] of the error of each.
struct Uncertain {
  std::vector<double> value;
  std::vector<double> error;
};

// Step 1: rows [begin, end) of x [*, in] times w [in, out] plus bias: [end - begin, out].
Uncertain Project(const MatrixView& x, int64_t begin, int64_t end, const std::vector<float>& w, int64_t out,
                  const std::vector<float>& bias) {
  Uncertain y{std::vector<double>((end - begin) * out, 0.0), std::vector<double>((end - begin) * out, 0.0)};
  for (int64_t row = begin; row < end; ++row) {
    double* value = y.value.data() + (row - begin) * out;
    double* error = y.error.data() + (row - begin) * out;
    for (int64_t i = 0; i < x.cols; ++i) {
      for (int64_t o = 0; o < out; ++o) {
        const double product = static_cast<double>(x.Row(row)[i]) * w[i * out + o];
        value[o] += product;
        error[o] += std::abs(product);
      }
    }
    for (int64_t o = 0; o < out; ++o) {
      const double b = bias.empty() ? 0.0 : bias[o];
      value[o] += b;
      error[o] = SumError(x.cols + 3) * (error[o] + std::abs(b));
    }
  }
  return y;
}

// Appended keys and values are not computed, so they are exact.
void AppendExact(Uncertain& rows, const std::vector<float>& row) {
  rows.value.insert(rows.value.end(), row.begin(), row.end());
  rows.error.insert(rows.error.end(), row.size(), 0.0);
}

// The explicit mask's term for one element; -inf where it forbids.
double MaskTerm(const MaskView& mask, int64_t head, int64_t query, int64_t key) {
  if (mask.empty()) return 0.0;
  const auto* element = static_cast<const char*>(mask.data) +
                        (head * mask.head_stride + query * mask.query_stride + key) * SizeOf(mask.dtype);
  if (mask.dtype == DType::kBool) return *element != 0 ? 0.0 : -std::numeric_limits<double>::infinity();
  float term;
  std::memcpy(&term, element, sizeof(term));
  return term;
}

// One allowed key of a (head, query).
struct AllowedKey {
  int64_t key = 0;
  double score = 0;      // s
  double magnitude = 0;  // S
  double common = 0;
  double own = 0;
  double ds = 0;
  double p = 0;
};

class SequenceBound {
 public:
  SequenceBound(const TestLayer& layer, const AttentionBatch& batch, int64_t sequence,
                const ReferenceResult& reference)
      : config_(layer.config),
        weights_(layer.weights),
        options_(batch.sequences[sequence]),
        reference_(reference),
        rescalings_(2 + reference.kv_len / 64),
        sum_error_(kConfidence * SumError(reference.kv_len + rescalings_ + 4)) {
    const int64_t kv_begin = batch.cu_kv_lens[sequence];
    const int64_t kv_end = batch.cu_kv_lens[sequence + 1];
    q_ = Project(batch.query, batch.cu_q_lens[sequence], batch.cu_q_lens[sequence + 1], weights_.wq,
                 config_.q_width(), weights_.bq);
    k_ = Project(batch.key, kv_begin, kv_end, weights_.wk, config_.kv_width(), weights_.bk);
    v_ = Project(batch.value, kv_begin, kv_end, weights_.wv, config_.kv_width(), weights_.bv);
    AppendExact(k_, weights_.bias_k);
    AppendExact(v_, weights_.bias_v);
    if (config_.add_zero_attn) {
      AppendExact(k_, std::vector<float>(config_.kv_width(), 0.0f));
      AppendExact(v_, std::vector<float>(config_.kv_width(), 0.0f));
    }
  }

  ErrorBound Run() {
    bound_.weights.assign(reference_.weights.size(), 0.0);
    bound_.output.assign(reference_.q_len * config_.embed_dim, 0.0);
    bound_.row_sum = 2 * sum_error_;
    output_magnitude_.assign(bound_.output.size(), 0.0);
    for (int64_t head = 0; head < config_.num_heads; ++head) {
      ProjectValues(head);
      for (int64_t query = 0; query < reference_.q_len; ++query) {
        const std::vector<AllowedKey> row = BoundScores(head, query);
        BoundWeights(head, query, row);
        AddScoreAndValueErrors(query, row);
        AddSumErrors(head, query, row);
      }
    }
    AddOutputErrors();
    BoundMean();
    for (std::vector<double>* bounds : {&bound_.output, &bound_.weights, &bound_.mean}) {
      for (double& bound : *bounds) bound = bound * kSecondOrder + kUnderflow;
    }
    return bound_;
  }

 private:
  // Index of (row, head's first column) in q and in k or v.
  int64_t QueryOffset(int64_t query, int64_t head) const {
    return query * config_.q_width() + head * config_.head_dim;
  }
  int64_t KeyOffset(int64_t key, int64_t head) const {
    return key * config_.kv_width() + head / config_.heads_per_kv_head() * config_.head_dim;
  }

  // What z_hj = v_j Wo is made of for one head, both [kv_len, embed_dim].
  void ProjectValues(int64_t head) {
    const int64_t embed_dim = config_.embed_dim;
    z_.assign(reference_.kv_len * embed_dim, 0.0);
    z_variance_.assign(z_.size(), 0.0);
    for (int64_t key = 0; key < reference_.kv_len; ++key) {
      for (int64_t d = 0; d < config_.head_dim; ++d) {
        const double v = v_.value[KeyOffset(key, head) + d];
        const double dv = v_.error[KeyOffset(key, head) + d];
        const float* w = weights_.wo.data() + (head * config_.head_dim + d) * embed_dim;
        for (int64_t col = 0; col < embed_dim; ++col) {
          z_[key * embed_dim + col] += v * w[col];
          z_variance_[key * embed_dim + col] += Square(dv * w[col]);
        }
      }
    }
  }

  bool Visible(int64_t query, int64_t key) const {
    const KeyRange visible = VisibleKeys(options_.visibility, query, reference_.q_len, reference_.own_kv_len);
    return key >= reference_.own_kv_len || (key >= visible.begin && key < visible.end);
  }

  // Step 2, and ds of step 3.
  std::vector<AllowedKey> BoundScores(int64_t head, int64_t query) const {
    const double c = std::abs(*config_.scale);
    std::vector<AllowedKey> row;
    double max = -std::numeric_limits<double>::infinity();
    for (int64_t key = 0; key < reference_.kv_len; ++key) {
      const double mask = key < reference_.own_kv_len ? MaskTerm(options_.mask, head, query, key) : 0.0;
      if (!Visible(query, key) || mask == -std::numeric_limits<double>::infinity()) continue;
      double dot = 0.0, magnitude = 0.0, from_q = 0.0, from_k = 0.0;
      for (int64_t d = 0; d < config_.head_dim; ++d) {
        const int64_t qi = QueryOffset(query, head) + d;
        const int64_t ki = KeyOffset(key, head) + d;
        dot += q_.value[qi] * k_.value[ki];
        magnitude += c * std::abs(q_.value[qi] * k_.value[ki]);
        from_q += Square(c * q_.error[qi] * k_.value[ki]);
        from_k += Square(c * q_.value[qi] * k_.error[ki]);
      }
      magnitude += std::abs(mask);
      row.push_back({.key = key,
                     .score = *config_.scale * dot + mask,
                     .magnitude = magnitude,
                     .common = kConfidence * std::sqrt(from_q) + 4 * kUnitRoundoff * magnitude,
                     .own = from_k,
                     .p = reference_.weights[(head * reference_.q_len + query) * reference_.kv_len + key]});
      max = std::max(max, row.back().score);
    }
    double m = 0.0;
    for (const AllowedKey& k : row) {
      if (k.score >= max - 64 * std::log(2.0)) m = std::max(m, k.magnitude);
    }
    for (AllowedKey& k : row) {
      k.own = kConfidence * std::sqrt(k.own + Square(SumError(config_.head_dim + 8) * (k.magnitude + m)));
      k.ds = k.common + k.own + rescalings_ * kExp2Error;
    }
    return row;
  }

  // Step 3.
  void BoundWeights(int64_t head, int64_t query, const std::vector<AllowedKey>& row) {
    double* dp = bound_.weights.data() + (head * reference_.q_len + query) * reference_.kv_len;
    double sum_low = 0.0, sum_high = 0.0;
    for (const AllowedKey& k : row) {
      sum_low += k.p * std::exp(-k.ds);
      // Not 0 * infinity: a key that is far below the others for its mask has a large error, too.
      if (k.p > 0) sum_high += k.p * std::exp(k.ds);
    }
    for (const AllowedKey& k : row) {
      const double low = k.p * std::exp(-k.ds) / sum_high * (1 - sum_error_);
      const double high = k.p > 0 ? k.p * std::exp(k.ds) / sum_low * (1 + sum_error_) : 0.0;
      dp[k.key] = std::max(std::min(high, 1 + sum_error_) - k.p, k.p - low) + kFlushedWeight;
    }
  }

  // Step 4, from the scores and from the values.
  void AddScoreAndValueErrors(int64_t query, const std::vector<AllowedKey>& row) {
    const int64_t embed_dim = config_.embed_dim;
    const double growth = Growth(row);
    std::vector<double> mean(embed_dim, 0.0), common(embed_dim, 0.0), own(embed_dim, 0.0),
        values(embed_dim, 0.0);
    for (const AllowedKey& k : row) {
      for (int64_t col = 0; col < embed_dim; ++col) mean[col] += k.p * z_[k.key * embed_dim + col];
    }
    for (const AllowedKey& k : row) {
      const double common_ds = k.common + rescalings_ * kExp2Error;
      for (int64_t col = 0; col < embed_dim; ++col) {
        const double distance = k.p * std::abs(z_[k.key * embed_dim + col] - mean[col]);
        common[col] += distance * common_ds;
        own[col] += Square(distance * k.own);
        values[col] += Square(k.p) * z_variance_[k.key * embed_dim + col];
      }
    }
    double* dy = bound_.output.data() + query * embed_dim;
    for (int64_t col = 0; col < embed_dim; ++col) {
      dy[col] += growth * (common[col] + std::sqrt(own[col]) + kConfidence * std::sqrt(values[col]) +
                           sum_error_ * std::abs(mean[col]));
    }
  }

  // Step 4, from p v, and what the last product adds up.
  void AddSumErrors(int64_t head, int64_t query, const std::vector<AllowedKey>& row) {
    const int64_t embed_dim = config_.embed_dim;
    std::vector<double> variance(embed_dim, 0.0);
    for (int64_t d = 0; d < config_.head_dim; ++d) {
      double o = 0.0, magnitude = 0.0;
      for (const AllowedKey& k : row) {
        const double v = v_.value[KeyOffset(k.key, head) + d];
        o += k.p * v;
        magnitude += k.p * std::abs(v);
      }
      const float* w = weights_.wo.data() + (head * config_.head_dim + d) * embed_dim;
      for (int64_t col = 0; col < embed_dim; ++col) {
        variance[col] += Square(magnitude * w[col]);
        output_magnitude_[query * embed_dim + col] += std::abs(o * w[col]);
      }
    }
    const double factor = Growth(row) * kConfidence * SumError(reference_.kv_len);
    for (int64_t col = 0; col < embed_dim; ++col) {
      bound_.output[query * embed_dim + col] += factor * std::sqrt(variance[col]);
    }
  }

  // G of step 4, over the keys whose weight matters.
  static double Growth(const std::vector<AllowedKey>& row) {
    double max = 0.0;
    for (const AllowedKey& k : row) {
      if (k.p > kFlushedWeight) max = std::max(max, k.ds);
    }
    return std::min(std::exp(2 * max), kMaxGrowth);
  }

  // Step 4, from Wo.
  void AddOutputErrors() {
    for (size_t i = 0; i < bound_.output.size(); ++i) {
      const double bias = weights_.bo.empty() ? 0.0 : std::abs(weights_.bo[i % config_.embed_dim]);
      bound_.output[i] += kConfidence * SumError(config_.q_width() + 1) * (output_magnitude_[i] + bias);
    }
  }

  void BoundMean() {
    const int64_t map_size = reference_.q_len * reference_.kv_len;
    const double sum_error = kConfidence * SumError(config_.num_heads + 1);
    bound_.mean.assign(map_size, 0.0);
    for (size_t i = 0; i < reference_.weights.size(); ++i) {
      bound_.mean[i % map_size] +=
          (bound_.weights[i] + sum_error * reference_.weights[i]) / config_.num_heads;
    }
  }

  const AttentionConfig& config_;
  const AttentionWeights& weights_;
  const SequenceOptions& options_;
  const ReferenceResult& reference_;
  const int64_t rescalings_;  // R
  const double sum_error_;    // g
  Uncertain q_;               // [q_len, num_heads * head_dim]
  Uncertain k_;               // [kv_len, num_kv_heads * head_dim]
  Uncertain v_;
  std::vector<double> z_;                 // z_hj of one head, [kv_len, embed_dim]
  std::vector<double> z_variance_;        // sum_d [dv_jd]^2 w_hd^2
  std::vector<double> output_magnitude_;  // sum_hd |o_hd w_hd|, [q_len, embed_dim]
  ErrorBound bound_;
};

}  // namespace

ErrorBound F32ErrorBound(const TestLayer& layer, const AttentionBatch& batch, int64_t sequence,
                         const ReferenceResult& reference) {
  return SequenceBound(layer, batch, sequence, reference).Run();
}

}  // namespace headlight::testing
