// SPDX-License-Identifier: Apache-2.0
//
// A layer as the tiled kernel reads it: parameters in panels, each head by itself, and the products that are
// made with them.
#ifndef HEADLIGHT_CORE_ATTENTION_TILED_PACKED_LAYER_H_
#define HEADLIGHT_CORE_ATTENTION_TILED_PACKED_LAYER_H_

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/attention/config.h"
#include "core/attention/parameters.h"
#include "core/attention/rope_table.h"
#include "core/attention/tiled/rotate.h"
#include "core/attention/tiled/workspace.h"
#include "core/product/arithmetic.h"
#include "core/product/gemm.h"
#include "core/product/parameter_panels.h"
#include "core/simd/targets.h"
#include "core/tensor/bf16.h"
#include "core/tensor/matrix_view.h"

namespace headlight {

// Immutable. T, the operands of attention itself: float or Bf16.
template <typename T>
struct PackedLayer {
  // `config` is resolved and its precision that of `arithmetic`. May throw dnnl::error and std::bad_alloc.
  PackedLayer(const Arithmetic& arithmetic, const AttentionConfig& config,
              const AttentionParameters& parameters);

  // Rows of a head's padded width, one after the other.
  template <typename Element>
  BasicMatrixView<Element> Padded(Element* data, int64_t rows) const {
    return {data, rows, padded_head_dim, padded_head_dim};
  }
  // A head's row of bq, bk or bv; null where the layer has none.
  const float* OfHead(const std::vector<float>& biases, int64_t head) const {
    return biases.empty() ? nullptr : biases.data() + head * padded_head_dim;
  }
  // A kv head's panel of appended_k or appended_v.
  const T* Appended(const std::vector<T>& panels, int64_t kv_head) const {
    return panels.data() + kv_head * kGranule<T> * padded_head_dim;
  }
  // What a head's rows of queries or keys go through; `first_row` is of the batch, whose factors these are.
  HeadNorm NormOf(const std::vector<float>& gains, int64_t head, const float* factors,
                  int64_t first_row) const;

  // The panel that follows once a head's queries are projected.
  Ahead AfterQueries(int64_t head) const;
  // out [num_rows, distance_cols] = the products of rows with a head's panels of distances, for those
  // distances that occur in a sequence of `len` tokens.
  void ScoreDistances(const std::vector<T>& panels, int64_t head, int64_t len, const T* rows,
                      int64_t num_rows, float* out, std::byte* gemm_scratch) const;
  int64_t packed_bytes() const;  // panels of parameters, and of distances
  TiledLayer Sizes() const;

  const GemmProvider& provider;
  const bool fused_scores;  // whole visible panels of keys go through ScoreAndExp
  const AttentionConfig config;
  const int64_t padded_head_dim;
  const std::shared_ptr<const RopeTable> rope;  // null where the config turns nothing

  PanelStorage storage;         // of the panels
  std::vector<PanelMatrix> wq;  // one for each head, [embed_dim, padded head_dim], scaled as bq for scores
  std::vector<PanelMatrix> wk;  // one for each kv head
  std::vector<PanelMatrix> wv;
  PanelMatrix wo;         // [num_heads * head_dim, embed_dim]
  std::vector<float> bq;  // [num_heads, padded head_dim], or empty
  std::vector<float> bk;  // [num_kv_heads, padded head_dim]
  std::vector<float> bv;
  std::vector<float> bo;  // [embed_dim], or empty
  // The appended keys of each kv head, a panel of kGranule<T> keys as KeyPanels has them; empty if none are.
  std::vector<T> appended_k;
  std::vector<T> appended_v;

  // Gains of the norms of queries, with the factor for scores, and of keys; empty without.
  std::vector<float> q_norm;  // [num_heads, padded head_dim]
  std::vector<float> k_norm;  // [num_kv_heads, padded head_dim]
  std::vector<float> sinks;   // [num_heads], in units of log2; empty without
  // Biases of the distances -max_distance .. max_distance for each head, in units of log2; empty without.
  std::vector<float> distance_bias;
  // With disentangled attention: for each head panels of kPanelCols rows of the table of distances, [padded
  // head_dim, kPanelCols] as KeyPanels has keys; empty where the config does not use them.
  std::vector<T> distance_keys;     // meet queries
  std::vector<T> distance_queries;  // meet keys; with the factor for scores
  int64_t distance_cols = 0;        // rows of the table, rounded up to whole panels

  PanelGemm project_q;
  PanelGemm project_k;
  PanelGemm project_v;
  PanelGemm project_out;
  // Entry i is for panels of (i + 1) * kGranule<T> keys: q k^T, and acc += p v.
  static constexpr int64_t kWidths = kPanelCols / kGranule<T>;
  std::array<std::shared_ptr<const Gemm>, kWidths> score_keys;
  std::array<std::shared_ptr<const Gemm>, kWidths> add_values;
  std::shared_ptr<const Gemm> score_distances;  // rows with a panel of distances, distance_cols apart
  int64_t gemm_scratch_bytes = 0;
};

// Where products find element (`row`, `col`) of a matrix of operands `width` wide: keys as [head_dim, keys],
// values as [keys, head_dim].
inline int64_t OperandPlace(float, int64_t row, int64_t col, int64_t width) { return row * width + col; }
inline int64_t OperandPlace(Bf16, int64_t row, int64_t col, int64_t width) {
  return (row / 2 * width + col) * 2 + row % 2;
}

extern template struct PackedLayer<float>;
extern template struct PackedLayer<Bf16>;

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_TILED_PACKED_LAYER_H_
