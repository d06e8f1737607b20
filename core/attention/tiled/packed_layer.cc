// SPDX-License-Identifier: Apache-2.0
#include "core/attention/tiled/packed_layer.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numbers>
#include <numeric>
#include <type_traits>
#include <utility>

#include "core/product/gemm_cache.h"
#include "core/product/row_product.h"

namespace headlight {
namespace {

template <typename T>
constexpr Precision kOperands = std::is_same_v<T, float> ? Precision::kF32 : Precision::kBf16;

// Scores are in units of log2, and a head's matrix and bias of the queries bring the factor for it. A softcap
// takes its units back from the tanh.
float ScoreFactor(const AttentionConfig& config) {
  const double factor = config.logit_softcap == 0.0 ? std::numbers::log2e : 1.0 / config.logit_softcap;
  return static_cast<float>(*config.scale * factor);
}

std::vector<float> Scaled(std::vector<float> numbers, float factor) {
  for (float& number : numbers) number *= factor;
  return numbers;
}

// Each head's columns of `matrix`, times the factor: what is held narrow is rounded before that.
std::vector<PanelMatrix> PackHeads(const Arithmetic& arithmetic, const AttentionConfig& config,
                                   const std::vector<float>& matrix, int64_t rows, int64_t num_heads,
                                   int64_t padded_head_dim, PanelStorage& storage, float factor = 1.0f) {
  const int64_t width = config.head_dim;
  const bool is_narrow = arithmetic.parameters != arithmetic.precision;
  const float factor_now = is_narrow ? 1.0f : factor;
  const float factor_later = is_narrow ? factor : 1.0f;
  std::vector<float> head_columns(rows * width);
  std::vector<PanelMatrix> heads;
  heads.reserve(num_heads);
  for (int64_t head = 0; head < num_heads; ++head) {
    for (int64_t row = 0; row < rows; ++row) {
      const float* const from = matrix.data() + row * num_heads * width + head * width;
      for (int64_t i = 0; i < width; ++i) head_columns[row * width + i] = from[i] * factor_now;
    }
    heads.emplace_back(arithmetic.parameters, MatrixView{head_columns.data(), rows, width, width},
                       padded_head_dim, storage, factor_later);
  }
  return heads;
}

// [num_heads, head_dim] as [num_heads, padded head_dim]; an empty one stays empty.
std::vector<float> PadHeads(const std::vector<float>& rows, int64_t num_heads, int64_t head_dim,
                            int64_t padded_head_dim) {
  if (rows.empty()) return {};
  std::vector<float> out(num_heads * padded_head_dim, 0.0f);
  for (int64_t head = 0; head < num_heads; ++head) {
    std::copy_n(rows.data() + head * head_dim, head_dim, out.data() + head * padded_head_dim);
  }
  return out;
}

// Of the queries' matrix and bias: a norm takes their factor over.
float QueryFactor(const AttentionConfig& config) {
  return config.qk_norm == QkNorm::kNone ? ScoreFactor(config) : 1.0f;
}

// Gains of each head, one for all of them or one each, as [num_heads, padded head_dim].
std::vector<float> PadGains(const AttentionConfig& config, const std::vector<float>& gains, int64_t num_heads,
                            int64_t padded_head_dim, float factor) {
  if (config.qk_norm == QkNorm::kNone) return {};
  std::vector<float> rows;
  while (std::ssize(rows) < num_heads * config.head_dim) rows.insert(rows.end(), gains.begin(), gains.end());
  return PadHeads(Scaled(std::move(rows), factor), num_heads, config.head_dim, padded_head_dim);
}

std::vector<float> DistanceBias(const AttentionConfig& config, const std::vector<float>& by_bucket) {
  if (!config.relative_bias) return {};
  const int64_t max = config.relative_bias->max_distance;
  std::vector<float> biases;
  biases.reserve(config.num_heads * (2 * max + 1));
  for (int64_t head = 0; head < config.num_heads; ++head) {
    for (int64_t distance = -max; distance <= max; ++distance) {
      const int64_t bucket = RelativeBucket(*config.relative_bias, distance);
      biases.push_back(static_cast<float>(by_bucket[bucket * config.num_heads + head] * std::numbers::log2e));
    }
  }
  return biases;
}

std::vector<float> NormDistances(const AttentionConfig& config, const AttentionParameters& parameters) {
  std::vector<float> rows = parameters.distances;
  if (!config.disentangled->norm_eps) return rows;
  const int64_t width = config.embed_dim;
  for (auto row = rows.begin(); row != rows.end(); row += width) {
    const double mean = std::accumulate(row, row + width, 0.0) / static_cast<double>(width);
    double squares = 0;
    for (int64_t i = 0; i < width; ++i) squares += (row[i] - mean) * (row[i] - mean);
    const double factor =
        1.0 / std::sqrt(squares / static_cast<double>(width) + *config.disentangled->norm_eps);
    for (int64_t i = 0; i < width; ++i) {
      row[i] = static_cast<float>((row[i] - mean) * factor * parameters.distance_gain[i] +
                                  parameters.distance_bias[i]);
    }
  }
  return rows;
}

// The table of distances times a projection of all heads and `factor`, in panels for each head.
template <typename T>
std::vector<T> PackDistances(const AttentionConfig& config, const std::vector<float>& table,
                             const std::vector<float>& matrix, const std::vector<float>& bias, float factor,
                             int64_t padded_head_dim, int64_t cols) {
  const int64_t width = config.q_width();
  std::vector<T> panels(config.num_heads * padded_head_dim * cols, T{});
  std::vector<float> projected(width);
  const std::vector<float> padded_bias = bias.empty() ? std::vector<float>(width, 0.0f) : bias;
  for (int64_t row = 0; row < 2 * config.disentangled->num_buckets; ++row) {
    ProjectRow(table.data() + row * config.embed_dim, {matrix.data(), config.embed_dim, width, width},
               padded_bias.data(), projected.data());
    for (int64_t i = 0; i < width; ++i) {
      const int64_t head = i / config.head_dim;
      const int64_t panel = head * cols / kPanelCols + row / kPanelCols;
      panels[panel * padded_head_dim * kPanelCols +
             OperandPlace(T{}, i % config.head_dim, row % kPanelCols, kPanelCols)] =
          FromFloat<T>(projected[i] * factor);
    }
  }
  return panels;
}

// As the panels of `matrix` [rows, cols] stand for it.
std::vector<float> AsHeld(const Arithmetic& arithmetic, std::vector<float> matrix, int64_t rows,
                          int64_t cols) {
  if (arithmetic.parameters != arithmetic.precision) {
    RoundAsHeld(arithmetic.parameters, {matrix.data(), rows, cols, cols});
  }
  return matrix;
}

// Of all panels of a layer.
int64_t PanelBytes(Precision parameters, const AttentionConfig& config, int64_t padded_head_dim) {
  const auto bytes = [&](int64_t rows, int64_t cols) {
    return PanelMatrix::StorageBytes(parameters, rows, cols);
  };
  return config.num_heads * bytes(config.embed_dim, padded_head_dim) +
         config.num_kv_heads * (bytes(config.kdim, padded_head_dim) + bytes(config.vdim, padded_head_dim)) +
         bytes(config.q_width(), config.embed_dim);
}

}  // namespace

template <typename T>
PackedLayer<T>::PackedLayer(const Arithmetic& arithmetic, const AttentionConfig& config,
                            const AttentionParameters& parameters)
    : provider(arithmetic.provider()),
      fused_scores(arithmetic.kind->fused),
      config(config),
      padded_head_dim(RoundUp(config.head_dim, kGranule<T>)),
      rope(config.rope ? SharedRopeTable(*config.rope) : nullptr),
      storage(PanelBytes(arithmetic.parameters, config, padded_head_dim)),
      wq(PackHeads(arithmetic, config, parameters.wq, config.embed_dim, config.num_heads, padded_head_dim,
                   storage, QueryFactor(config))),
      wk(PackHeads(arithmetic, config, parameters.wk, config.kdim, config.num_kv_heads, padded_head_dim,
                   storage)),
      wv(PackHeads(arithmetic, config, parameters.wv, config.vdim, config.num_kv_heads, padded_head_dim,
                   storage)),
      wo(arithmetic.parameters, {parameters.wo.data(), config.q_width(), config.embed_dim, config.embed_dim},
         config.embed_dim, storage),
      bq(PadHeads(Scaled(parameters.bq, QueryFactor(config)), config.num_heads, config.head_dim,
                  padded_head_dim)),
      bk(PadHeads(parameters.bk, config.num_kv_heads, config.head_dim, padded_head_dim)),
      bv(PadHeads(parameters.bv, config.num_kv_heads, config.head_dim, padded_head_dim)),
      bo(parameters.bo),
      q_norm(PadGains(config, parameters.q_norm, config.num_heads, padded_head_dim, ScoreFactor(config))),
      k_norm(PadGains(config, parameters.k_norm, config.num_kv_heads, padded_head_dim, 1.0f)),
      sinks(Scaled(parameters.sinks, std::numbers::log2e_v<float>)),
      distance_bias(DistanceBias(config, parameters.relative_bias)),
      project_q(provider, config.precision, arithmetic.parameters, config.embed_dim, padded_head_dim,
                padded_head_dim, !bq.empty()),
      project_k(provider, config.precision, arithmetic.parameters, config.kdim, padded_head_dim,
                padded_head_dim, !bk.empty()),
      project_v(provider, config.precision, arithmetic.parameters, config.vdim, padded_head_dim,
                padded_head_dim, !bv.empty()),
      project_out(provider, config.precision, arithmetic.parameters, config.q_width(), config.embed_dim,
                  config.embed_dim, !bo.empty()) {
  if (config.num_appended_keys() > 0) {
    // The learned key comes first, and the one of zeros is there when the panels are.
    appended_k.resize(config.num_kv_heads * kGranule<T> * padded_head_dim, T{});
    appended_v = appended_k;
    for (int64_t i = 0; config.add_bias_kv && i < config.kv_width(); ++i) {
      const int64_t first = i / config.head_dim * kGranule<T> * padded_head_dim;
      const int64_t d = i % config.head_dim;
      appended_k[first + OperandPlace(T{}, d, 0, kGranule<T>)] = FromFloat<T>(parameters.bias_k[i]);
      appended_v[first + OperandPlace(T{}, 0, d, padded_head_dim)] = FromFloat<T>(parameters.bias_v[i]);
    }
  }
  if (config.disentangled) {
    const std::vector<float> table = NormDistances(config, parameters);
    distance_cols = RoundUp(2 * config.disentangled->num_buckets, kPanelCols);
    const bool own = config.disentangled->own_projections;
    if (config.disentangled->query_to_position) {
      distance_keys = PackDistances<T>(
          config, table,
          own ? parameters.distance_wk
              : AsHeld(arithmetic, parameters.wk, config.embed_dim, config.kv_width()),
          own ? parameters.distance_bk : parameters.bk, 1.0f, padded_head_dim, distance_cols);
    }
    if (config.disentangled->key_to_position) {
      distance_queries = PackDistances<T>(
          config, table,
          own ? parameters.distance_wq
              : AsHeld(arithmetic, parameters.wq, config.embed_dim, config.q_width()),
          own ? parameters.distance_bq : parameters.bq, ScoreFactor(config), padded_head_dim, distance_cols);
    }
    score_distances = SharedGemm(provider, {.operands = kOperands<T>,
                                            .n = kPanelCols,
                                            .k = padded_head_dim,
                                            .lda = padded_head_dim,
                                            .ldb = kPanelCols,
                                            .ldc = distance_cols});
    gemm_scratch_bytes = std::max(gemm_scratch_bytes, score_distances->scratch_bytes());
  }
  for (const PanelGemm* gemm : {&project_q, &project_k, &project_v, &project_out}) {
    gemm_scratch_bytes = std::max(gemm_scratch_bytes, gemm->scratch_bytes());
  }
  for (int64_t i = 0; i < kWidths; ++i) {
    const int64_t keys = (i + 1) * kGranule<T>;
    score_keys[i] = SharedGemm(provider, {.operands = kOperands<T>,
                                          .n = keys,
                                          .k = padded_head_dim,
                                          .lda = padded_head_dim,
                                          .ldb = keys,
                                          .ldc = kScoreStride});
    add_values[i] = SharedGemm(provider, {.operands = kOperands<T>,
                                          .n = padded_head_dim,
                                          .k = keys,
                                          .lda = kScoreStride,
                                          .ldb = padded_head_dim,
                                          .ldc = padded_head_dim,
                                          .accumulate = true});
    gemm_scratch_bytes =
        std::max({gemm_scratch_bytes, score_keys[i]->scratch_bytes(), add_values[i]->scratch_bytes()});
  }
}

template <typename T>
HeadNorm PackedLayer<T>::NormOf(const std::vector<float>& gains, int64_t head, const float* factors,
                                int64_t first_row) const {
  return {.gain = OfHead(gains, head),
          .factors = factors == nullptr ? nullptr : factors + first_row,
          .eps = config.qk_norm_eps,
          .width = config.head_dim};
}

template <typename T>
Ahead PackedLayer<T>::AfterQueries(int64_t head) const {
  const int64_t next = head + 1;
  if (next == config.num_heads) return wo.PanelAhead(0);
  if (next % config.heads_per_kv_head() != 0) return wq[next].PanelAhead(0);
  return wk[next / config.heads_per_kv_head()].PanelAhead(0);
}

template <typename T>
void PackedLayer<T>::ScoreDistances(const std::vector<T>& panels, int64_t head, int64_t len, const T* rows,
                                    int64_t num_rows, float* out, std::byte* gemm_scratch) const {
  const T* const of_head = panels.data() + head * distance_cols * padded_head_dim;
  const int64_t end = DisentangledRow(*config.disentangled, len - 1) / kPanelCols + 1;
  for (int64_t i = DisentangledRow(*config.disentangled, 1 - len) / kPanelCols; i < end; ++i) {
    score_distances->Run(num_rows, rows, of_head + i * kPanelCols * padded_head_dim, out + i * kPanelCols,
                         gemm_scratch, nullptr, {});
  }
}

template <typename T>
int64_t PackedLayer<T>::packed_bytes() const {
  return storage.size_bytes() +
         static_cast<int64_t>((distance_keys.size() + distance_queries.size()) * sizeof(T) +
                              distance_bias.size() * sizeof(float));
}

template <typename T>
TiledLayer PackedLayer<T>::Sizes() const {
  return {.config = config,
          .padded_head_dim = padded_head_dim,
          .element_bytes = sizeof(T),
          .key_granule = kGranule<T>,
          .distance_cols = distance_cols,
          .gemm_scratch_bytes = gemm_scratch_bytes};
}

template struct PackedLayer<float>;
template struct PackedLayer<Bf16>;

}  // namespace headlight
