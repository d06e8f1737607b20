// SPDX-License-Identifier: Apache-2.0
//
// The attention layer on packed panels: for each (group of sequences, key/value head) project keys and values
// and pack them while they are in cache, then project and attend block of queries by block of queries;
// afterwards the output projection. Built from one matrix product (gemm.h), the packing (packing.h) and the
// softmax (softmax.h, fused_scores.h).
#ifndef HEADLIGHT_CORE_ATTENTION_TILED_TILED_KERNEL_H_
#define HEADLIGHT_CORE_ATTENTION_TILED_TILED_KERNEL_H_

#include <memory>
#include <string>
#include <vector>

#include "core/attention/kernel.h"
#include "core/attention/maps/map_summary.h"
#include "core/attention/tiled/packing.h"
#include "core/attention/tiled/softmax.h"
#include "core/attention/tiled/work_plan.h"
#include "core/attention/tiled/workspace.h"
#include "core/product/gemm.h"
#include "core/product/operands.h"
#include "core/product/parameter_panels.h"

namespace headlight {

// How a tiled kernel makes its products and its scores.
struct TiledKernelKind {
  const char* name;
  const GemmProvider& provider;
  bool fused_scores;  // whole visible panels of keys go through ScoreAndExp
};

// T, the operands of attention itself: float for Precision::kF32, Bf16 for kBf16; for kInt8, whose
// projections alone are of 8 bits, either.
template <typename T>
class TiledKernel final : public AttentionKernel {
 public:
  TiledKernel(const TiledKernelKind& kind, const AttentionConfig& config, const AttentionParameters& weights);

  std::string name() const override { return kind_.name; }
  Precision precision() const override { return config_.precision; }
  const GemmProvider& gemm_provider() const override { return kind_.provider; }
  int64_t packed_bytes() const override { return storage_.size_bytes(); }
  std::unique_ptr<Workspace> NewWorkspace(const ComputeArena& arena) const override;
  int64_t WorkspaceBytes(const ForwardShape& shape, int num_threads) const override;
  absl::Status Run(const AttentionBatch& batch, ComputeArena& arena, Workspace& workspace) const override;

 private:
  // A projection's f32 rows are what attention computes on.
  static constexpr bool kSameType = sizeof(T) == sizeof(float);

  // Keys and values of one (group, head) in the layout that the products want. Sequence s begins at row
  // plan.packed_key_row[s] of both.
  struct PackedKeys {
    T* keys;    // per sequence, panels [padded head_dim, up to kPanelCols keys]
    T* values;  // [keys, padded head_dim]
    // In both, for Bf16, pairs of rows interleaved.
  };

  // The steps in the order of the maths. Those that return bool say false where nobody waits any more for
  // what they compute; it is then unfinished.
  void ConvertInputs(const AttentionBatch& batch, ComputeArena& arena, TiledWorkspace& workspace) const;
  void RunItem(const AttentionBatch& batch, const WorkItem& item, ComputeArena& arena,
               TiledWorkspace& workspace, int worker) const;
  bool ProjectKeys(const AttentionBatch& batch, const KeyChunk& chunk, int64_t kv_head,
                   const TiledWorkspace& workspace, WorkerScratch& scratch, const PackedKeys& packed) const;
  void PackKeys(int64_t kv_head, int64_t first_key, int64_t num_keys, int64_t kv_len, const T* rows,
                T* keys) const;
  void PackValues(int64_t kv_head, int64_t first_key, int64_t num_keys, int64_t kv_len,
                  MutableMatrixView rows, WorkerScratch& scratch, T* values) const;
  bool ProjectQueries(const AttentionBatch& batch, int64_t first_row, int64_t num_rows, int64_t head,
                      const TiledWorkspace& workspace, WorkerScratch& scratch, T* queries) const;
  Ahead AfterQueries(int64_t head) const;
  void AttendChunk(const AttentionBatch& batch, const QueryChunk& chunk, int64_t head, const T* queries,
                   TiledWorkspace& workspace, WorkerScratch& scratch, SummarySums* summaries,
                   const PackedKeys& packed) const;
  void AttendBlock(const AttentionBatch& batch, const QueryBlock& block, int64_t head, const T* queries,
                   const PackedKeys& sequence_keys, const Interruption& interruption, WorkerScratch& scratch,
                   SummarySums* summary, std::byte* out) const;
  void ScoreTileOfKeys(const QueryBlock& block, const ScoreRules& rules, const T* queries, const T* keys,
                       int64_t first_key, int64_t end_key, WorkerScratch& scratch, T* probabilities,
                       const SoftmaxState& state) const;
  void ScoreKeys(int64_t rows, const T* queries, const T* keys, int64_t first_key, int64_t end_key,
                 int64_t num_keys, float* scores, WorkerScratch& scratch) const;
  void AddValues(int64_t rows, const T* probabilities, const T* values, int64_t num_keys,
                 WorkerScratch& scratch) const;
  void ProjectOutput(const AttentionBatch& batch, ComputeArena& arena, TiledWorkspace& workspace) const;

  // Rows of a head's padded width, one after the other.
  template <typename Element>
  BasicMatrixView<Element> Padded(Element* data, int64_t rows) const {
    return {data, rows, padded_head_dim_, padded_head_dim_};
  }
  // A head's row of bq_, bk_ or bv_; null where the layer has none.
  const float* OfHead(const std::vector<float>& biases, int64_t head) const {
    return biases.empty() ? nullptr : biases.data() + head * padded_head_dim_;
  }
  ScoreRules RulesOf(const AttentionBatch& batch, int64_t sequence, int64_t head) const;
  int64_t MaxScratchBytes() const;
  TiledLayer Layer() const;

  const TiledKernelKind& kind_;
  const AttentionConfig config_;
  const int64_t padded_head_dim_;

  PanelStorage storage_;         // of the panels
  std::vector<PanelMatrix> wq_;  // one for each head, [embed_dim, padded head_dim], scaled as bq_ for scores
  std::vector<PanelMatrix> wk_;  // one for each kv head
  std::vector<PanelMatrix> wv_;
  PanelMatrix wo_;         // [num_heads * head_dim, embed_dim]
  std::vector<float> bq_;  // [num_heads, padded head_dim], or empty
  std::vector<float> bk_;  // [num_kv_heads, padded head_dim]
  std::vector<float> bv_;
  std::vector<float> bo_;          // [embed_dim], or empty
  std::vector<float> appended_k_;  // [appended keys, num_kv_heads, padded head_dim]
  std::vector<float> appended_v_;

  PanelGemm project_q_;
  PanelGemm project_k_;
  PanelGemm project_v_;
  PanelGemm project_out_;
  // q k^T; entry i for panels of (i + 1) * kGranule<T> keys.
  std::vector<std::unique_ptr<const Gemm>> score_keys_;
  // acc += p v, by depth, largest first; any multiple of kGranule<T> keys is a sum of depths.
  struct AddValuesGemm {
    int64_t depth;
    std::unique_ptr<const Gemm> gemm;
  };
  std::vector<AddValuesGemm> add_values_;
  int64_t gemm_scratch_bytes_ = 0;
  int64_t concat_row_bytes_ = 0;
};

extern template class TiledKernel<float>;
extern template class TiledKernel<Bf16>;

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_TILED_TILED_KERNEL_H_
