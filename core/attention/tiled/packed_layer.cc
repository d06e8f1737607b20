// SPDX-License-Identifier: Apache-2.0
#include "core/attention/tiled/packed_layer.h"

#include <algorithm>
#include <numbers>
#include <type_traits>
#include <utility>

#include "core/product/gemm_cache.h"

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

// Each head's columns of `matrix`, times the factor.
std::vector<PanelMatrix> PackHeads(const AttentionConfig& config, const std::vector<float>& matrix,
                                   int64_t rows, int64_t num_heads, int64_t padded_head_dim,
                                   PanelStorage& storage, float factor = 1.0f) {
  const int64_t width = config.head_dim;
  std::vector<float> head_columns(rows * width);
  std::vector<PanelMatrix> heads;
  heads.reserve(num_heads);
  for (int64_t head = 0; head < num_heads; ++head) {
    for (int64_t row = 0; row < rows; ++row) {
      const float* const from = matrix.data() + row * num_heads * width + head * width;
      for (int64_t i = 0; i < width; ++i) head_columns[row * width + i] = from[i] * factor;
    }
    heads.emplace_back(config.precision, MatrixView{head_columns.data(), rows, width, width}, padded_head_dim,
                       storage);
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

// Of all panels of a layer.
int64_t PanelBytes(const AttentionConfig& config, int64_t padded_head_dim) {
  const auto bytes = [&](int64_t rows, int64_t cols) {
    return PanelMatrix::StorageBytes(config.precision, rows, cols);
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
      storage(PanelBytes(config, padded_head_dim)),
      wq(PackHeads(config, parameters.wq, config.embed_dim, config.num_heads, padded_head_dim, storage,
                   ScoreFactor(config))),
      wk(PackHeads(config, parameters.wk, config.kdim, config.num_kv_heads, padded_head_dim, storage)),
      wv(PackHeads(config, parameters.wv, config.vdim, config.num_kv_heads, padded_head_dim, storage)),
      wo(config.precision, {parameters.wo.data(), config.q_width(), config.embed_dim, config.embed_dim},
         config.embed_dim, storage),
      bq(PadHeads(Scaled(parameters.bq, ScoreFactor(config)), config.num_heads, config.head_dim,
                  padded_head_dim)),
      bk(PadHeads(parameters.bk, config.num_kv_heads, config.head_dim, padded_head_dim)),
      bv(PadHeads(parameters.bv, config.num_kv_heads, config.head_dim, padded_head_dim)),
      bo(parameters.bo),
      project_q(provider, config.precision, config.embed_dim, padded_head_dim, padded_head_dim, !bq.empty()),
      project_k(provider, config.precision, config.kdim, padded_head_dim, padded_head_dim, !bk.empty()),
      project_v(provider, config.precision, config.vdim, padded_head_dim, padded_head_dim, !bv.empty()),
      project_out(provider, config.precision, config.q_width(), config.embed_dim, config.embed_dim,
                  !bo.empty()) {
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
Ahead PackedLayer<T>::AfterQueries(int64_t head) const {
  const int64_t next = head + 1;
  if (next == config.num_heads) return wo.PanelAhead(0);
  if (next % config.heads_per_kv_head() != 0) return wq[next].PanelAhead(0);
  return wk[next / config.heads_per_kv_head()].PanelAhead(0);
}

template <typename T>
TiledLayer PackedLayer<T>::Sizes() const {
  return {.config = config,
          .padded_head_dim = padded_head_dim,
          .element_bytes = sizeof(T),
          .key_granule = kGranule<T>,
          .gemm_scratch_bytes = gemm_scratch_bytes};
}

template struct PackedLayer<float>;
template struct PackedLayer<Bf16>;

}  // namespace headlight
