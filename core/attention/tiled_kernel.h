// SPDX-License-Identifier: Apache-2.0
//
// The attention layer on packed panels: for each (group of sequences, key/value head) project keys and values
// and pack them while they are in cache, then project and attend block of queries by block of queries;
// afterwards the output projection. Built from one matrix product (gemm.h) and the row operations
// (row_ops.h).
#ifndef HEADLIGHT_CORE_ATTENTION_TILED_KERNEL_H_
#define HEADLIGHT_CORE_ATTENTION_TILED_KERNEL_H_

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "core/attention/gemm.h"
#include "core/attention/kernel.h"
#include "core/attention/panels.h"
#include "core/attention/row_ops.h"
#include "core/attention/work_plan.h"

namespace headlight {

class TiledWorkspace;
struct WorkerScratch;

class TiledKernel final : public AttentionKernel {
 public:
  TiledKernel(const GemmProvider& provider, const AttentionConfig& config, const AttentionWeights& weights);

  std::string name() const override { return provider_.kernel_name; }
  Precision precision() const override { return Precision::kF32; }
  std::unique_ptr<Workspace> NewWorkspace(const ComputeArena& arena) const override;
  absl::Status Run(const AttentionBatch& batch, ComputeArena& arena, Workspace& workspace) const override;

 private:
  // Keys and values of one (group, head) in the layout that the products want. Sequence s begins at row
  // plan.packed_key_row[s] of both.
  struct PackedKeys {
    float* keys;    // per sequence, panels [padded head_dim, up to kPanelCols keys]
    float* values;  // [keys, padded head_dim]
  };

  // The steps in the order of the maths.
  void RunItem(const AttentionBatch& batch, const WorkItem& item, ComputeArena& arena,
               TiledWorkspace& workspace, int worker) const;
  void ProjectKeys(const AttentionBatch& batch, const KeyChunk& chunk, int64_t kv_head,
                   TiledWorkspace& workspace, WorkerScratch& scratch, const PackedKeys& packed) const;
  void ProjectQueries(const AttentionBatch& batch, const QueryChunk& chunk, int64_t head,
                      WorkerScratch& scratch) const;
  void AttendChunk(const AttentionBatch& batch, const QueryChunk& chunk, int64_t head,
                   TiledWorkspace& workspace, WorkerScratch& scratch, const PackedKeys& packed) const;
  void AttendBlock(const AttentionBatch& batch, const QueryBlock& block, int64_t head, const float* queries,
                   const PackedKeys& sequence_keys, WorkerScratch& scratch, MutableMatrixView out) const;
  void ScoreKeys(int64_t rows, const float* queries, const float* keys, int64_t first_key, int64_t num_keys,
                 int64_t kv_len, WorkerScratch& scratch) const;
  void AddValues(int64_t rows, const float* values, int64_t num_keys, WorkerScratch& scratch) const;
  void ProjectOutput(const AttentionBatch& batch, ComputeArena& arena, TiledWorkspace& workspace) const;

  int64_t MaxScratchBytes() const;

  // Depths of the product P V, largest first; any multiple of kLaneGranule is a sum of them.
  static constexpr std::array<int64_t, 7> kValueDepths = {512, 256, 128, 64, 48, 32, 16};

  const GemmProvider& provider_;
  const AttentionConfig config_;
  const int64_t padded_head_dim_;

  std::vector<PanelMatrix> wq_;  // one for each head, [embed_dim, padded head_dim]
  std::vector<PanelMatrix> wk_;  // one for each kv head
  std::vector<PanelMatrix> wv_;
  PanelMatrix wo_;         // [num_heads * head_dim, embed_dim]
  std::vector<float> bq_;  // [num_heads, padded head_dim]; zeros where the layer has no bias
  std::vector<float> bk_;  // [num_kv_heads, padded head_dim]
  std::vector<float> bv_;
  std::vector<float> bo_;  // [embed_dim], or empty

  PanelGemm project_q_;
  PanelGemm project_k_;
  PanelGemm project_v_;
  PanelGemm project_out_;
  std::vector<std::unique_ptr<const Gemm>>
      score_keys_;  // q k^T; entry i for panels of (i + 1) * kLaneGranule keys
  std::vector<std::unique_ptr<const Gemm>> add_values_;  // acc += p v; one for each of kValueDepths
};

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_TILED_KERNEL_H_
