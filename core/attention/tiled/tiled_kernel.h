// SPDX-License-Identifier: Apache-2.0
//
// The attention layer on packed panels: for each (group of sequences, key/value head) project keys and values
// and pack them while they are in cache, then project and attend block of queries by block of queries;
// afterwards the output projection.
#ifndef HEADLIGHT_CORE_ATTENTION_TILED_TILED_KERNEL_H_
#define HEADLIGHT_CORE_ATTENTION_TILED_TILED_KERNEL_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/attention/kernel.h"
#include "core/attention/parameters.h"
#include "core/attention/tiled/packed_layer.h"
#include "core/attention/tiled/workspace.h"
#include "core/product/arithmetic.h"

namespace headlight {

// T, the operands of attention itself: float for Precision::kF32, Bf16 for kBf16; for kInt8, whose
// projections alone are of 8 bits, either. Works in a TiledWorkspace.
template <typename T>
class TiledKernel final : public AttentionKernel {
 public:
  // As PackedLayer.
  TiledKernel(const Arithmetic& arithmetic, const AttentionConfig& config,
              const AttentionParameters& parameters)
      : layer_(arithmetic, config, parameters), concat_row_bytes_(layer_.Sizes().ConcatRowBytes()) {}

  int64_t packed_bytes() const override { return layer_.packed_bytes(); }
  int64_t WorkspaceBytes(const ForwardShape& shape, int num_threads, const Workspace* kept,
                         std::span<const AttentionKernel* const> others) const override {
    const auto* const held = static_cast<const TiledWorkspace*>(kept);
    if (others.empty()) return TiledWorkspaceBytes(layer_.Sizes(), shape, num_threads, held);
    std::vector<TiledLayer> layers = {layer_.Sizes()};
    for (const AttentionKernel* const other : others) {
      layers.push_back(static_cast<const TiledKernel*>(other)->layer_.Sizes());
    }
    return TiledWorkspaceBytes(layers, shape, num_threads, held);
  }
  absl::Status Run(const AttentionBatch& batch, ComputeArena& arena, Workspace& workspace) const override;

 private:
  class Item;

  // The steps in the order of the maths.
  void ConvertInputs(const AttentionBatch& batch, ComputeArena& arena, TiledWorkspace& workspace) const;
  void FindNormFactors(const AttentionBatch& batch, ComputeArena& arena, TiledWorkspace& workspace) const;
  void ClearPaddingOfConcat(const AttentionBatch& batch, TiledWorkspace& workspace) const;
  void ProjectOutput(const AttentionBatch& batch, ComputeArena& arena, TiledWorkspace& workspace) const;

  const PackedLayer<T> layer_;
  const int64_t concat_row_bytes_;
};

extern template class TiledKernel<float>;
extern template class TiledKernel<Bf16>;

// A layer, whose `config` is resolved, in the arithmetic that was chosen. May throw as PackedLayer.
std::unique_ptr<const AttentionKernel> MakeTiledKernel(const Arithmetic& arithmetic,
                                                       const AttentionConfig& config,
                                                       const AttentionParameters& parameters);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_TILED_TILED_KERNEL_H_
