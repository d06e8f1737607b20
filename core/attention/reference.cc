// SPDX-License-Identifier: Apache-2.0
#include "core/attention/reference.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <numeric>
#include <utility>

namespace headlight {
namespace {

constexpr double kForbidden = -std::numeric_limits<double>::infinity();

// Rows [begin, end) of x [*, in] times w [in, out], plus bias [out] unless empty: [end - begin, out].
std::vector<double> Project(const MatrixView& x, int64_t begin, int64_t end, const std::vector<float>& w,
                            int64_t out, const std::vector<float>& bias) {
  std::vector<double> y((end - begin) * out, 0.0);
  for (int64_t row = begin; row < end; ++row) {
    double* y_row = y.data() + (row - begin) * out;
    for (int64_t i = 0; i < x.cols; ++i) {
      for (int64_t o = 0; o < out; ++o) y_row[o] += static_cast<double>(x.Row(row)[i]) * w[i * out + o];
    }
    for (size_t o = 0; o < bias.size(); ++o) y_row[o] += bias[o];
  }
  return y;
}

// Whether, and by how much, the explicit mask of one sequence changes a score: what to add, kForbidden to
// forbid.
double MaskTerm(const MaskView& mask, int64_t head, int64_t query, int64_t key) {
  if (mask.empty()) return 0.0;
  const int64_t element = head * mask.head_stride + query * mask.query_stride + key;
  const char* address = static_cast<const char*>(mask.data) + element * SizeOf(mask.dtype);
  if (mask.dtype == DType::kBool) return *address != 0 ? 0.0 : kForbidden;
  float term;
  std::memcpy(&term, address, sizeof(term));
  return term;
}

// Turns each head of the row x [num_heads * head_dim] to `position`.
void Rotate(const RopeConfig& rope, int64_t position, int64_t num_heads, int64_t head_dim, double* x) {
  for (int64_t pair = 0; pair < rope.rotary_dim / 2; ++pair) {
    const double angle = static_cast<double>(position) * RopeFrequency(rope, pair);
    const double cosine = rope.magnitude * std::cos(angle);
    const double sine = rope.magnitude * std::sin(angle);
    const int64_t first = rope.interleaved ? 2 * pair : pair;
    const int64_t second = rope.interleaved ? 2 * pair + 1 : pair + rope.rotary_dim / 2;
    for (int64_t head = 0; head < num_heads; ++head) {
      double& a = x[head * head_dim + first];
      double& b = x[head * head_dim + second];
      const double turned_a = a * cosine - b * sine;
      b = a * sine + b * cosine;
      a = turned_a;
    }
  }
}

// Each head of the rows [*, width], or all of them together, through an RMS norm.
void NormHeads(const AttentionConfig& config, const std::vector<float>& gain, int64_t width,
               std::vector<double>& rows) {
  if (config.qk_norm == QkNorm::kNone) return;
  const int64_t part = config.qk_norm == QkNorm::kEachHead ? config.head_dim : width;
  for (size_t first = 0; first < rows.size(); first += part) {
    double squares = 0;
    for (int64_t i = 0; i < part; ++i) squares += rows[first + i] * rows[first + i];
    const double factor = 1.0 / std::sqrt(squares / static_cast<double>(part) + config.qk_norm_eps);
    for (int64_t i = 0; i < part; ++i) rows[first + i] *= factor * gain[i];
  }
}

// The table of distances as the layer projects it, rounded to f32.
std::vector<float> NormedDistances(const AttentionConfig& config, const AttentionParameters& weights) {
  std::vector<float> rows = weights.distances;
  if (!config.disentangled->norm_eps) return rows;
  const auto width = static_cast<double>(config.embed_dim);
  for (size_t row = 0; row < rows.size(); row += config.embed_dim) {
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < config.embed_dim; ++i) mean += rows[row + i] / width;
    for (int64_t i = 0; i < config.embed_dim; ++i) {
      variance += (rows[row + i] - mean) * (rows[row + i] - mean) / width;
    }
    const double factor = 1.0 / std::sqrt(variance + *config.disentangled->norm_eps);
    for (int64_t i = 0; i < config.embed_dim; ++i) {
      rows[row + i] = static_cast<float>((rows[row + i] - mean) * factor * weights.distance_gain[i] +
                                         weights.distance_bias[i]);
    }
  }
  return rows;
}

// The k and v of one sequence with the appended keys, each [kv_len, kv_width].
struct KeysAndValues {
  int64_t kv_len = 0;
  std::vector<double> k;
  std::vector<double> v;

  void Append(const std::vector<float>& key, const std::vector<float>& value) {
    k.insert(k.end(), key.begin(), key.end());
    v.insert(v.end(), value.begin(), value.end());
    ++kv_len;
  }
};

KeysAndValues ProjectKeysAndValues(const AttentionConfig& config, const AttentionParameters& weights,
                                   const AttentionBatch& batch, int64_t sequence) {
  const int64_t begin = batch.cu_kv_lens[sequence];
  const int64_t end = batch.cu_kv_lens[sequence + 1];
  const int64_t kv_width = config.kv_width();
  KeysAndValues kv;
  kv.kv_len = end - begin;
  kv.k = Project(batch.key, begin, end, weights.wk, kv_width, weights.bk);
  kv.v = Project(batch.value, begin, end, weights.wv, kv_width, weights.bv);
  NormHeads(config, weights.k_norm, kv_width, kv.k);
  for (int64_t key = 0; config.rope && key < kv.kv_len; ++key) {
    Rotate(*config.rope, key, config.num_kv_heads, config.head_dim, kv.k.data() + key * kv_width);
  }
  if (config.add_bias_kv) kv.Append(weights.bias_k, weights.bias_v);
  const std::vector<float> zeros(kv_width, 0.0f);
  if (config.add_zero_attn) kv.Append(zeros, zeros);
  return kv;
}

// Turns scores into probabilities in place; forbidden keys get 0, and so do all keys when none is allowed. A
// score that is NaN or +inf makes the whole row NaN. `sink` is a score that nobody gets the weight of.
void Softmax(double* row, const std::vector<bool>& allowed, double sink) {
  double max = kForbidden;
  for (size_t j = 0; j < allowed.size(); ++j) {
    if (allowed[j]) max = std::max(max, row[j]);
  }
  double sum = sink == kForbidden || max == kForbidden ? 0.0 : std::exp(sink - max);
  for (size_t j = 0; j < allowed.size(); ++j) {
    row[j] = allowed[j] ? std::exp(row[j] - max) : 0.0;
    sum += row[j];
  }
  for (size_t j = 0; j < allowed.size(); ++j) {
    if (allowed[j]) row[j] /= sum;
  }
}

// One sequence of a batch on its way through the layer.
class SequenceReference {
 public:
  SequenceReference(const AttentionConfig& config, const AttentionParameters& weights,
                    const AttentionBatch& batch, int64_t sequence)
      : config_(config), weights_(weights), batch_(batch), sequence_(sequence) {}

  ReferenceResult Run() {
    // 1. Projections, q and k turned: q [q_len, num_heads * head_dim], k and v [kv_len, num_kv_heads *
    // head_dim].
    const int64_t q_begin = batch_.cu_q_lens[sequence_];
    const int64_t q_end = batch_.cu_q_lens[sequence_ + 1];
    q_ = Project(batch_.query, q_begin, q_end, weights_.wq, config_.q_width(), weights_.bq);
    NormHeads(config_, weights_.q_norm, config_.q_width(), q_);
    kv_ = ProjectKeysAndValues(config_, weights_, batch_, sequence_);
    ProjectDistances();
    result_.q_len = batch_.q_len(sequence_);
    result_.kv_len = kv_.kv_len;
    result_.own_kv_len = batch_.kv_len(sequence_);
    for (int64_t query = 0; config_.rope && query < result_.q_len; ++query) {
      Rotate(*config_.rope, Position(query), config_.num_heads, config_.head_dim,
             q_.data() + query * config_.q_width());
    }

    // 2. Attention weights [num_heads, q_len, kv_len] and what they collect, [q_len, num_heads * head_dim].
    result_.weights.resize(config_.num_heads * result_.q_len * result_.kv_len);
    attended_.assign(result_.q_len * config_.q_width(), 0.0);
    for (int64_t head = 0; head < config_.num_heads; ++head) {
      for (int64_t query = 0; query < result_.q_len; ++query) Attend(head, query);
    }

    // 3. Output projection [q_len, embed_dim].
    ProjectOutput();
    return std::move(result_);
  }

 private:
  void Attend(int64_t head, int64_t query) {
    const int64_t kv_head = head / config_.heads_per_kv_head();
    const int64_t head_dim = config_.head_dim;
    const double* q = q_.data() + query * config_.q_width() + head * head_dim;
    double* row = result_.weights.data() + (head * result_.q_len + query) * result_.kv_len;
    double* attended = attended_.data() + query * config_.q_width() + head * head_dim;

    std::vector<bool> allowed(result_.kv_len);
    for (int64_t key = 0; key < result_.kv_len; ++key) {
      const double* k = kv_.k.data() + key * config_.kv_width() + kv_head * head_dim;
      const double bias = PositionAndMask(head, query, key);
      allowed[key] = bias != kForbidden;
      const double product =
          std::inner_product(q, q + head_dim, k, 0.0) + Disentangled(head, query, key, q, k);
      row[key] = SoftCap(*config_.scale * product) + bias;
    }
    Softmax(row, allowed, config_.sinks ? weights_.sinks[head] : kForbidden);
    for (int64_t key = 0; key < result_.kv_len; ++key) {
      if (!allowed[key]) continue;  // not 0 * v: a forbidden value may be infinite
      const double* v = kv_.v.data() + key * config_.kv_width() + kv_head * head_dim;
      for (int64_t i = 0; i < head_dim; ++i) attended[i] += row[key] * v[i];
    }
  }

  // K and Q of distances, each [2 * num_buckets, q_width].
  void ProjectDistances() {
    if (!config_.disentangled) return;
    const std::vector<float> rows = NormedDistances(config_, weights_);
    const int64_t count = 2 * config_.disentangled->num_buckets;
    const MatrixView table = {rows.data(), count, config_.embed_dim, config_.embed_dim};
    const AttentionParameters& w = weights_;
    const bool own = config_.disentangled->own_projections;
    const int64_t width = config_.q_width();
    if (config_.disentangled->query_to_position) {
      distance_keys_ = own ? Project(table, 0, count, w.distance_wk, width, w.distance_bk)
                           : Project(table, 0, count, w.wk, width, w.bk);
    }
    if (config_.disentangled->key_to_position) {
      distance_queries_ = own ? Project(table, 0, count, w.distance_wq, width, w.distance_bq)
                              : Project(table, 0, count, w.wq, width, w.bq);
    }
  }

  // What disentangled attention adds to the product of q and k, a head's rows.
  double Disentangled(int64_t head, int64_t query, int64_t key, const double* q, const double* k) const {
    if (!config_.disentangled) return 0.0;
    const int64_t row = DisentangledRow(*config_.disentangled, Position(query) - key);
    const int64_t place = row * config_.q_width() + head * config_.head_dim;
    double sum = 0.0;
    if (config_.disentangled->query_to_position) {
      sum += std::inner_product(q, q + config_.head_dim, distance_keys_.data() + place, 0.0);
    }
    if (config_.disentangled->key_to_position) {
      sum += std::inner_product(k, k + config_.head_dim, distance_queries_.data() + place, 0.0);
    }
    return sum;
  }

  double SoftCap(double score) const {
    const double cap = config_.logit_softcap;
    return cap == 0.0 ? score : cap * std::tanh(score / cap);
  }

  int64_t Position(int64_t query) const { return query + result_.own_kv_len - result_.q_len; }

  // What to add to a score: kForbidden where the key's position or the explicit mask forbids it. Appended
  // keys are beyond all of it.
  double PositionAndMask(int64_t head, int64_t query, int64_t key) const {
    if (key >= result_.own_kv_len) return 0.0;
    const SequenceOptions& options = batch_.sequences[sequence_];
    const Visibility visibility = Narrowed(
        {.window_left = config_.window_left, .window_right = config_.window_right}, options.visibility);
    const KeyRange visible = VisibleKeys(visibility, query, result_.q_len, result_.own_kv_len);
    if (key < visible.begin || key >= visible.end) return kForbidden;
    const auto distance = static_cast<double>(std::abs(Position(query) - key));
    const double alibi = config_.alibi ? -AlibiSlope(head, config_.num_heads) * distance : 0.0;
    double bias = 0.0;
    if (config_.relative_bias) {
      const int64_t bucket = RelativeBucket(*config_.relative_bias, key - Position(query));
      bias = weights_.relative_bias[bucket * config_.num_heads + head];
    }
    return alibi + bias + MaskTerm(options.mask, head, query, key);
  }

  void ProjectOutput() {
    const int64_t q_width = config_.q_width();
    const int64_t embed_dim = config_.embed_dim;
    result_.output.assign(result_.q_len * embed_dim, 0.0);
    for (int64_t row = 0; row < result_.q_len; ++row) {
      double* y = result_.output.data() + row * embed_dim;
      for (int64_t i = 0; i < q_width; ++i) {
        for (int64_t o = 0; o < embed_dim; ++o)
          y[o] += attended_[row * q_width + i] * weights_.wo[i * embed_dim + o];
      }
      for (size_t o = 0; o < weights_.bo.size(); ++o) y[o] += weights_.bo[o];
    }
  }

  const AttentionConfig& config_;
  const AttentionParameters& weights_;
  const AttentionBatch& batch_;
  const int64_t sequence_;
  std::vector<double> q_;
  std::vector<double> distance_keys_, distance_queries_;
  KeysAndValues kv_;
  std::vector<double> attended_;
  ReferenceResult result_;
};

const double* WeightsRow(const ReferenceResult& result, int64_t head, int64_t query) {
  return result.weights.data() + (head * result.q_len + query) * result.kv_len;
}

// Adds one query's weights p [kv_len] to the sums of `summary`.
void AddQuery(const ReferenceResult& result, int64_t query, const double* p, HeadSummary& summary) {
  const int64_t position = query + result.own_kv_len - result.q_len;
  double max = 0.0;
  double sum_of_squares = 0.0;
  for (int64_t key = 0; key < result.kv_len; ++key) {
    if (p[key] > 0) summary.entropy_nats -= p[key] * std::log(p[key]);
    if (key < result.own_kv_len)
      summary.distance_tokens += p[key] * static_cast<double>(std::abs(position - key));
    max = std::max(max, p[key]);
    sum_of_squares += p[key] * p[key];
    summary.received_mass[key] += p[key];
  }
  summary.max_weight += max;
  summary.effective_support += 1.0 / sum_of_squares;
  summary.first_token_mass += p[0];
  if (position >= 0) summary.self_mass += p[position];
}

}  // namespace

std::vector<ReferenceResult> ReferenceAttention(const AttentionConfig& config,
                                                const AttentionParameters& weights,
                                                const AttentionBatch& batch) {
  std::vector<ReferenceResult> results;
  for (int64_t sequence = 0; sequence < batch.num_sequences(); ++sequence) {
    results.push_back(SequenceReference(config, weights, batch, sequence).Run());
  }
  return results;
}

std::vector<double> MeanWeights(const ReferenceResult& result, int64_t num_heads) {
  const int64_t map_size = result.q_len * result.kv_len;
  std::vector<double> mean(map_size, 0.0);
  for (int64_t head = 0; head < num_heads; ++head) {
    for (int64_t i = 0; i < map_size; ++i) mean[i] += result.weights[head * map_size + i] / num_heads;
  }
  return mean;
}

TopKeys TopK(const ReferenceResult& result, int64_t head, int64_t query, int64_t k) {
  const double* p = WeightsRow(result, head, query);
  TopKeys top;
  for (int64_t key = 0; key < result.kv_len; ++key) {
    if (p[key] > 0) top.keys.push_back(key);
  }
  std::stable_sort(top.keys.begin(), top.keys.end(), [p](int64_t a, int64_t b) { return p[a] > p[b]; });
  top.keys.resize(k, -1);
  for (int64_t key : top.keys) top.weights.push_back(key < 0 ? 0.0 : p[key]);
  return top;
}

HeadSummary Summarize(const ReferenceResult& result, int64_t head, int64_t query_begin, int64_t query_end) {
  HeadSummary summary;
  summary.received_mass.assign(result.kv_len, 0.0);
  int64_t num_queries = 0;
  for (int64_t query = query_begin; query < query_end; ++query) {
    const double* p = WeightsRow(result, head, query);
    if (std::all_of(p, p + result.kv_len, [](double weight) { return weight == 0; }))
      continue;  // no allowed key
    AddQuery(result, query, p, summary);
    ++num_queries;
  }
  if (num_queries == 0) return summary;
  for (double* sum : {&summary.entropy_nats, &summary.distance_tokens, &summary.max_weight,
                      &summary.self_mass, &summary.first_token_mass, &summary.effective_support}) {
    *sum /= static_cast<double>(num_queries);
  }
  return summary;
}

std::vector<double> GridOf(const ReferenceResult& result, int64_t head, int64_t query_begin,
                           int64_t query_end, int64_t rows, int64_t cols) {
  const int64_t queries = query_end - query_begin;
  std::vector<double> grid;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t col = 0; col < cols; ++col) {
      double sum = 0;
      int64_t pairs = 0;
      for (int64_t i = row * queries / rows; i < (row + 1) * queries / rows; ++i) {
        const double* p = WeightsRow(result, head, query_begin + i);
        for (int64_t j = col * result.kv_len / cols; j < (col + 1) * result.kv_len / cols; ++j, ++pairs) {
          sum += p[j];
        }
      }
      grid.push_back(sum / static_cast<double>(pairs));
    }
  }
  return grid;
}

}  // namespace headlight
