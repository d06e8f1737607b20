// SPDX-License-Identifier: Apache-2.0
#include "tests/core/testing/error_bound.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

namespace headlight::testing {
namespace {

constexpr double kUnitRoundoff = 0x1p-24;     // u
constexpr double kBf16UnitRoundoff = 0x1p-8;  // U
constexpr double kConfidence = 8;             // L
constexpr double kTanhError = 0x1p-21;
constexpr double kFlushedWeight = 0x1p-120;
constexpr double kUnderflow = 1e-30;
constexpr double kSecondOrder = 1.01;
// No bound at all, but a number: scores swamped by a mask of -1e9 in every key.
constexpr double kMaxGrowth = 1e30;

double Square(double x) { return x * x; }

// Step 0 for T = 1: u sqrt(n).
double SumError(int64_t n) { return kUnitRoundoff * std::sqrt(static_cast<double>(n)); }

// The roundings of operands, beside f32's.
class Roundings {
 public:
  explicit Roundings(Precision precision) : precision_(precision) {}

  double operand() const { return precision_ == Precision::kF32 ? 0.0 : kBf16UnitRoundoff; }
  double exp2() const { return precision_ == Precision::kF32 ? 0x1p-22 : 0x1p-13; }  // E

  // Half a quantisation step, or the largest rounding, of an element of a token x [n]: a.
  double OfToken(const double* x, int64_t n) const {
    const auto [min, max] = std::minmax_element(x, x + n);
    if (precision_ == Precision::kInt8) return (std::max(*max, 0.0) - std::min(*min, 0.0)) / 510;
    return operand() * std::max(std::abs(*min), std::abs(*max));
  }

  // Of the elements of w [in, out]: b.
  std::vector<double> OfWeights(const std::vector<float>& w, int64_t in, int64_t out) const {
    std::vector<double> errors(w.size());
    for (size_t i = 0; i < w.size(); ++i) errors[i] = operand() * std::abs(w[i]);
    if (precision_ != Precision::kInt8) return errors;
    for (int64_t o = 0; o < out; ++o) {
      double max = 0.0;
      for (int64_t i = 0; i < in; ++i) max = std::max<double>(max, std::abs(w[i * out + o]));
      for (int64_t i = 0; i < in; ++i) errors[i * out + o] = max / 254;
    }
    return errors;
  }

 private:
  const Precision precision_;
};

// Rows of exact values and the scale [e] of the errors of each.
struct Uncertain {
  int64_t cols = 0;
  std::vector<double> value;         // [rows, cols]
  std::vector<double> error;         // [rows, cols], of each element for itself: [dy]
  std::vector<double> weight_error;  // [rows, cols], from the weights that all rows share: [dy_W]
  std::vector<double> token_error;   // [rows], of the elements of the row's token: a
};

// Step 1: x [*, in] times w [in, out] plus bias.
Uncertain Project(const std::vector<double>& x, const std::vector<float>& w, int64_t out,
                  const std::vector<float>& bias, const Roundings& roundings) {
  const auto in = static_cast<int64_t>(w.size()) / out;
  const auto rows = static_cast<int64_t>(x.size()) / in;
  const std::vector<double> b = roundings.OfWeights(w, in, out);
  Uncertain y{.cols = out};
  for (std::vector<double>* values : {&y.value, &y.error, &y.weight_error}) values->assign(rows * out, 0.0);
  for (int64_t row = 0; row < rows; ++row) {
    double* value = y.value.data() + row * out;
    double* error = y.error.data() + row * out;
    double* weight_error = y.weight_error.data() + row * out;
    const double a = roundings.OfToken(x.data() + row * in, in);
    y.token_error.push_back(a);
    for (int64_t i = 0; i < in; ++i) {
      const double element = x[row * in + i];
      const double rounded = std::abs(element) + a;
      for (int64_t o = 0; o < out; ++o) {
        const double product = element * w[i * out + o];
        value[o] += product;
        error[o] += std::abs(product);
        weight_error[o] += Square(b[i * out + o] * rounded);
      }
    }
    for (int64_t o = 0; o < out; ++o) {
      const double bias_term = bias.empty() ? 0.0 : bias[o];
      value[o] += bias_term;
      error[o] = SumError(in + 3) * (error[o] + std::abs(bias_term));
      weight_error[o] = std::sqrt(weight_error[o]);
    }
  }
  return y;
}

// Rows [begin, end) of x in double.
std::vector<double> Rows(const MatrixView& x, int64_t begin, int64_t end) {
  return {x.Row(begin), x.Row(end)};
}

// Step 1: turns row `row` to `position`.
void Rotate(const RopeConfig& rope, int64_t position, int64_t head_dim, int64_t row, Uncertain& x) {
  for (int64_t pair = 0; pair < rope.rotary_dim / 2; ++pair) {
    const double angle = static_cast<double>(position) * RopeFrequency(rope, pair);
    const double cosine = std::cos(angle);
    const double sine = std::sin(angle);
    for (int64_t head = 0; head < x.cols / head_dim; ++head) {
      const int64_t first = row * x.cols + head * head_dim + (rope.interleaved ? 2 * pair : pair);
      const int64_t second = first + (rope.interleaved ? 1 : rope.rotary_dim / 2);
      const auto turn = [&](std::vector<double>& errors, double a_rounding, double b_rounding) {
        const double a = errors[first], b = errors[second];
        errors[first] = std::sqrt(2 * (Square(a * cosine) + Square(b * sine)) + Square(a_rounding));
        errors[second] = std::sqrt(2 * (Square(a * sine) + Square(b * cosine)) + Square(b_rounding));
      };
      double& a = x.value[first];
      double& b = x.value[second];
      turn(x.error, SumError(4) * (std::abs(a * cosine) + std::abs(b * sine)),
           SumError(4) * (std::abs(a * sine) + std::abs(b * cosine)));
      turn(x.weight_error, 0.0, 0.0);
      const double turned_a = a * cosine - b * sine;
      b = a * sine + b * cosine;
      a = turned_a;
    }
  }
}

// Appended keys and values are not computed, so they are exact.
void AppendExact(Uncertain& x, const std::vector<float>& row) {
  x.value.insert(x.value.end(), row.begin(), row.end());
  x.error.insert(x.error.end(), row.size(), 0.0);
  x.weight_error.insert(x.weight_error.end(), row.size(), 0.0);
  x.token_error.push_back(0.0);
}

// The last of step 1: as operands of the products of attention.
void RoundOperands(Uncertain& x, double roundoff) {
  for (size_t i = 0; i < x.value.size(); ++i) {
    x.error[i] = std::sqrt(Square(x.error[i]) + Square(roundoff * x.value[i]));
  }
}

// Not less than the spectral norm of the columns [first_col, first_col + cols) of w [rows, width], and at
// most cols^(1/16) times it: with A = W^T W it is the eighth root of trace(A^4 A^4), and the root of that.
double SpectralNormBound(const std::vector<float>& w, int64_t width, int64_t first_col, int64_t cols) {
  std::vector<double> gram(cols * cols, 0.0);
  for (size_t row = 0; row < w.size(); row += width) {
    const float* columns = w.data() + row + first_col;
    for (int64_t a = 0; a < cols; ++a) {
      for (int64_t b = 0; b < cols; ++b) gram[a * cols + b] += static_cast<double>(columns[a]) * columns[b];
    }
  }
  double trace = 0.0;
  for (int64_t i = 0; i < cols; ++i) trace += gram[i * cols + i];
  if (trace == 0.0) return 0.0;
  for (double& element : gram) element /= trace;
  for (int squarings = 0; squarings < 2; ++squarings) {
    std::vector<double> square(cols * cols, 0.0);
    for (int64_t a = 0; a < cols; ++a) {
      for (int64_t i = 0; i < cols; ++i) {
        for (int64_t b = 0; b < cols; ++b) square[a * cols + b] += gram[a * cols + i] * gram[i * cols + b];
      }
    }
    gram = std::move(square);
  }
  double sum_of_squares = 0.0;
  for (double element : gram) sum_of_squares += Square(element);
  return std::sqrt(trace * std::pow(sum_of_squares, 1.0 / 8));
}

// The norms of the heads' columns of w [in, num_heads * head_dim].
std::vector<double> HeadNorms(const std::vector<float>& w, int64_t num_heads, int64_t head_dim) {
  std::vector<double> norms;
  for (int64_t head = 0; head < num_heads; ++head) {
    norms.push_back(SpectralNormBound(w, num_heads * head_dim, head * head_dim, head_dim));
  }
  return norms;
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
  double common = 0;     // with what is fixed
  double own = 0;
  double ds = 0;
  double p = 0;
};

class SequenceBound {
 public:
  SequenceBound(const TestLayer& layer, const AttentionBatch& batch, int64_t sequence,
                const ReferenceResult& reference, Precision precision)
      : config_(layer.config),
        weights_(layer.weights),
        options_(batch.sequences[sequence]),
        visibility_(Narrowed({.window_left = config_.window_left, .window_right = config_.window_right},
                             options_.visibility)),
        reference_(reference),
        roundings_(precision),
        rescalings_(2 + reference.kv_len / 64),
        fixed_(rescalings_ * roundings_.exp2() + config_.logit_softcap * kTanhError),
        sum_error_(SumErrorBound(reference.kv_len + rescalings_ + 4)) {
    const int64_t kv_begin = batch.cu_kv_lens[sequence];
    const int64_t kv_end = batch.cu_kv_lens[sequence + 1];
    q_ = Project(Rows(batch.query, batch.cu_q_lens[sequence], batch.cu_q_lens[sequence + 1]), weights_.wq,
                 config_.q_width(), weights_.bq, roundings_);
    k_ = Project(Rows(batch.key, kv_begin, kv_end), weights_.wk, config_.kv_width(), weights_.bk, roundings_);
    v_ = Project(Rows(batch.value, kv_begin, kv_end), weights_.wv, config_.kv_width(), weights_.bv,
                 roundings_);
    for (int64_t i = 0; config_.rope && i < reference.q_len; ++i) {
      Rotate(*config_.rope, Position(i), config_.head_dim, i, q_);
    }
    for (int64_t j = 0; config_.rope && j < reference.own_kv_len; ++j) {
      Rotate(*config_.rope, j, config_.head_dim, j, k_);
    }
    if (config_.add_bias_kv) AppendKey(weights_.bias_k, weights_.bias_v);
    const std::vector<float> zeros(config_.kv_width(), 0.0f);
    if (config_.add_zero_attn) AppendKey(zeros, zeros);
    for (Uncertain* x : {&q_, &k_, &v_}) RoundOperands(*x, roundings_.operand());
    if (precision == Precision::kF32) {  // no token error that a norm would matter to
      q_norms_.assign(config_.num_heads, 0.0);
      k_norms_.assign(config_.num_kv_heads, 0.0);
      v_norms_ = k_norms_;
    } else {
      q_norms_ = HeadNorms(weights_.wq, config_.num_heads, config_.head_dim);
      k_norms_ = HeadNorms(weights_.wk, config_.num_kv_heads, config_.head_dim);
      v_norms_ = HeadNorms(weights_.wv, config_.num_kv_heads, config_.head_dim);
    }
  }

  ErrorBound Run() {
    bound_.weights.assign(reference_.weights.size(), 0.0);
    bound_.least_weights = bound_.weights;
    bound_.output.assign(reference_.q_len * config_.embed_dim, 0.0);
    bound_.row_sum = 2 * (sum_error_ + roundings_.operand());
    attended_.assign(reference_.q_len * config_.q_width(), 0.0);
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
    for (std::vector<double>* bounds : {&bound_.output, &bound_.weights}) {
      for (double& bound : *bounds) bound = bound * kSecondOrder + kUnderflow;
    }
    return bound_;
  }

 private:
  void AppendKey(const std::vector<float>& key, const std::vector<float>& value) {
    AppendExact(k_, key);
    AppendExact(v_, value);
  }

  int64_t Position(int64_t query) const { return query + reference_.own_kv_len - reference_.q_len; }
  int64_t KvHead(int64_t head) const { return head / config_.heads_per_kv_head(); }

  // Index of (row, head's first column) in q and in k or v.
  int64_t QueryOffset(int64_t query, int64_t head) const {
    return query * config_.q_width() + head * config_.head_dim;
  }
  int64_t KeyOffset(int64_t key, int64_t head) const {
    return key * config_.kv_width() + KvHead(head) * config_.head_dim;
  }

  // What z_hj = v_j Wo is made of for one head, all [kv_len, embed_dim].
  void ProjectValues(int64_t head) {
    const int64_t embed_dim = config_.embed_dim;
    z_.assign(reference_.kv_len * embed_dim, 0.0);
    z_error_ = z_weight_error_ = z_;
    for (int64_t key = 0; key < reference_.kv_len; ++key) {
      double* z = z_.data() + key * embed_dim;
      double* error = z_error_.data() + key * embed_dim;
      double* weight_error = z_weight_error_.data() + key * embed_dim;
      const double token_error = v_.token_error[key] * v_norms_[KvHead(head)];
      for (int64_t d = 0; d < config_.head_dim; ++d) {
        const int64_t i = KeyOffset(key, head) + d;
        const double own_variance = Square(v_.error[i]) + Square(token_error);
        const double weight_variance = Square(v_.weight_error[i]);
        const float* w = weights_.wo.data() + (head * config_.head_dim + d) * embed_dim;
        for (int64_t col = 0; col < embed_dim; ++col) {
          z[col] += v_.value[i] * w[col];
          error[col] += own_variance * Square(w[col]);
          weight_error[col] += weight_variance * Square(w[col]);
        }
      }
      for (int64_t col = 0; col < embed_dim; ++col) {
        error[col] = std::sqrt(error[col]);
        weight_error[col] = std::sqrt(weight_error[col]);
      }
    }
  }

  // What is added to a score for its position and by the mask; -inf where either forbids it.
  struct ScoreBias {
    double alibi = 0.0;
    double mask = 0.0;
  };
  ScoreBias BiasOf(int64_t head, int64_t query, int64_t key) const {
    if (key >= reference_.own_kv_len) return {};
    const KeyRange visible = VisibleKeys(visibility_, query, reference_.q_len, reference_.own_kv_len);
    if (key < visible.begin || key >= visible.end) return {0.0, -std::numeric_limits<double>::infinity()};
    const auto distance = static_cast<double>(std::abs(Position(query) - key));
    return {config_.alibi ? -AlibiSlope(head, config_.num_heads) * distance : 0.0,
            MaskTerm(options_.mask, head, query, key)};
  }

  double SoftCap(double score) const {
    const double cap = config_.logit_softcap;
    return cap == 0.0 ? score : cap * std::tanh(score / cap);
  }

  // Step 2, and ds of step 3.
  std::vector<AllowedKey> BoundScores(int64_t head, int64_t query) const {
    const double c = std::abs(*config_.scale);
    const double constants = (config_.logit_softcap == 0.0 ? 4 : 6) * kUnitRoundoff;
    std::vector<AllowedKey> row;
    double max = -std::numeric_limits<double>::infinity();
    for (int64_t key = 0; key < reference_.kv_len; ++key) {
      const ScoreBias bias = BiasOf(head, query, key);
      if (bias.mask == -std::numeric_limits<double>::infinity()) continue;
      double dot = 0.0, magnitude = 0.0, from_q = 0.0, from_k = 0.0, from_wk = 0.0, q_norm = 0.0,
             k_norm = 0.0;
      for (int64_t d = 0; d < config_.head_dim; ++d) {
        const int64_t qi = QueryOffset(query, head) + d;
        const int64_t ki = KeyOffset(key, head) + d;
        dot += q_.value[qi] * k_.value[ki];
        magnitude += std::abs(q_.value[qi] * k_.value[ki]);
        from_q += (Square(q_.error[qi]) + Square(q_.weight_error[qi])) * Square(k_.value[ki]);
        from_k += Square(q_.value[qi] * k_.error[ki]);
        from_wk += Square(q_.value[qi] * k_.weight_error[ki]);
        q_norm += Square(q_.value[qi]);
        k_norm += Square(k_.value[ki]);
      }
      from_q += Square(q_.token_error[query] * q_norms_[head]) * k_norm;
      from_k += Square(k_.token_error[key] * k_norms_[KvHead(head)]) * q_norm;
      magnitude = c * magnitude + std::abs(bias.alibi) + std::abs(bias.mask);
      row.push_back({.key = key,
                     .score = SoftCap(*config_.scale * dot) + bias.alibi + bias.mask,
                     .magnitude = magnitude,
                     .common = kConfidence * c * (std::sqrt(from_q) + std::sqrt(from_wk)) +
                               constants * magnitude + fixed_,
                     .own = Square(c) * from_k,
                     .p = reference_.weights[WeightOffset(head, query) + key]});
      max = std::max(max, row.back().score);
    }
    double m = 0.0;
    for (const AllowedKey& k : row) {
      if (k.score >= max - 64 * std::log(2.0)) m = std::max(m, k.magnitude);
    }
    for (AllowedKey& k : row) {
      k.own = kConfidence * std::sqrt(k.own + Square(SumError(config_.head_dim + 8) * (k.magnitude + m)));
      k.ds = k.common + k.own;
    }
    std::erase_if(row,
                  [](const AllowedKey& k) { return k.p == 0; });  // so far below that nothing brings it back
    return row;
  }

  int64_t WeightOffset(int64_t head, int64_t query) const {
    return (head * reference_.q_len + query) * reference_.kv_len;
  }

  // Step 3.
  void BoundWeights(int64_t head, int64_t query, const std::vector<AllowedKey>& row) {
    const double g = sum_error_ + roundings_.operand();
    double sum_low = 0.0, sum_high = 0.0;
    for (const AllowedKey& k : row) {
      sum_low += k.p * std::exp(-k.ds);
      sum_high += k.p * std::exp(k.ds);
    }
    for (const AllowedKey& k : row) {
      const double low = k.p * std::exp(-k.ds) / sum_high * (1 - g);
      const double high = k.p * std::exp(k.ds) / sum_low * (1 + g);
      const int64_t i = WeightOffset(head, query) + k.key;
      bound_.weights[i] = std::max(std::min(high, 1 + g) - k.p, k.p - low) + kFlushedWeight;
      bound_.least_weights[i] = low / kSecondOrder - kFlushedWeight;
    }
  }

  // The sums and maxima of step 4 over the keys of a row, for one column.
  struct ColumnSums {
    double mean = 0;  // z_h
    double common = 0;
    double own = 0;
    double values = 0;
    double value_weights = 0;
    double p_roundings = 0;
    double max_distance = 0;  // |z_hj - z_h|
    double max_error = 0;
    double max_weight_error = 0;
    double max_z = 0;
  };

  // Step 4, from the scores, from the values and from p.
  void AddScoreAndValueErrors(int64_t query, const std::vector<AllowedKey>& row) {
    const int64_t embed_dim = config_.embed_dim;
    std::vector<ColumnSums> columns(embed_dim);
    for (const AllowedKey& k : row) {
      const double* z = z_.data() + k.key * embed_dim;
      for (int64_t col = 0; col < embed_dim; ++col) columns[col].mean += k.p * z[col];
    }
    for (const AllowedKey& k : row) {
      for (int64_t col = 0; col < embed_dim; ++col) AddKey(k, k.key * embed_dim + col, columns[col]);
    }
    const double growth = Growth(row);
    for (int64_t col = 0; col < embed_dim; ++col) {
      const ColumnSums& c = columns[col];
      const double mean = std::abs(c.mean);
      bound_.output[query * embed_dim + col] +=
          Limited(growth * (c.common + std::sqrt(c.own)), c.max_distance) +
          kConfidence * Limited(growth * std::sqrt(c.values), c.max_error) +
          kConfidence * Limited(growth * c.value_weights, c.max_weight_error) +
          roundings_.operand() * Limited(growth * (mean + kConfidence * std::sqrt(c.p_roundings)), c.max_z) +
          growth * sum_error_ * mean;
    }
  }

  void AddKey(const AllowedKey& k, int64_t i, ColumnSums& column) const {
    const double distance = std::abs(z_[i] - column.mean);
    const double z = std::max(std::abs(z_[i]), distance);
    column.common += k.p * distance * k.common;
    column.own += Square(k.p * distance * k.own);
    column.values += Square(k.p * z_error_[i]);
    column.value_weights += k.p * z_weight_error_[i];
    column.p_roundings += Square(k.p * z);
    column.max_distance = std::max(column.max_distance, distance);
    column.max_error = std::max(column.max_error, z_error_[i]);
    column.max_weight_error = std::max(column.max_weight_error, z_weight_error_[i]);
    column.max_z = std::max(column.max_z, z);
  }

  // Step 4, from p v; and what is attended to, for the last product.
  void AddSumErrors(int64_t head, int64_t query, const std::vector<AllowedKey>& row) {
    const int64_t embed_dim = config_.embed_dim;
    std::vector<double> variance(embed_dim, 0.0);
    for (int64_t d = 0; d < config_.head_dim; ++d) {
      double magnitude = 0.0;
      double& attended = attended_[QueryOffset(query, head) + d];
      for (const AllowedKey& k : row) {
        const double v = v_.value[KeyOffset(k.key, head) + d];
        attended += k.p * v;
        magnitude += k.p * std::abs(v);
      }
      const float* w = weights_.wo.data() + (head * config_.head_dim + d) * embed_dim;
      for (int64_t col = 0; col < embed_dim; ++col) variance[col] += Square(magnitude * w[col]);
    }
    const double factor = Growth(row) * SumErrorBound(reference_.kv_len);
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

  // min(bound, limit), but NaN if either is.
  static double Limited(double bound, double limit) { return limit < bound ? limit : bound; }

  // Step 4, from Wo.
  void AddOutputErrors() {
    const int64_t embed_dim = config_.embed_dim;
    const Uncertain y = Project(attended_, weights_.wo, embed_dim, weights_.bo, roundings_);
    std::vector<double> w_norms(embed_dim, 0.0);
    for (size_t i = 0; i < weights_.wo.size(); ++i) w_norms[i % embed_dim] += Square(weights_.wo[i]);
    for (int64_t query = 0; query < reference_.q_len; ++query) {
      double max = 0.0;
      for (int64_t i = 0; i < config_.q_width(); ++i) {
        max = std::max(max, std::abs(attended_[query * config_.q_width() + i]));
      }
      // Rounded to bf16 first, then perhaps quantised.
      const double o_variance = Square(roundings_.operand() * max) + Square(y.token_error[query]);
      for (int64_t col = 0; col < embed_dim; ++col) {
        const int64_t i = query * embed_dim + col;
        bound_.output[i] += kConfidence * std::sqrt(Square(y.error[i]) + Square(y.weight_error[i]) +
                                                    o_variance * w_norms[col]);
      }
    }
  }

  const AttentionConfig& config_;
  const AttentionParameters& weights_;
  const SequenceOptions& options_;
  const Visibility visibility_;
  const ReferenceResult& reference_;
  const Roundings roundings_;
  const int64_t rescalings_;  // R
  const double fixed_;
  const double sum_error_;  // L u sqrt(n + R + 4)
  Uncertain q_;             // [q_len, num_heads * head_dim], as the products of attention take them
  Uncertain k_;             // [kv_len, num_kv_heads * head_dim]
  Uncertain v_;
  std::vector<double> q_norms_;  // [num_heads], ||W|| of the head
  std::vector<double> k_norms_;  // [num_kv_heads]
  std::vector<double> v_norms_;
  std::vector<double> z_;               // z_hj of one head, [kv_len, embed_dim]
  std::vector<double> z_error_;         // e_j
  std::vector<double> z_weight_error_;  // f_j
  std::vector<double> attended_;        // o, [q_len, num_heads * head_dim]
  ErrorBound bound_;
};

}  // namespace

double SumErrorBound(int64_t n) { return kConfidence * SumError(n); }

ErrorBound BoundErrors(const TestLayer& layer, const AttentionBatch& batch, int64_t sequence,
                       const ReferenceResult& reference, Precision precision) {
  return SequenceBound(layer, batch, sequence, reference, precision).Run();
}

}  // namespace headlight::testing
