// SPDX-License-Identifier: Apache-2.0
//
// The feed-forward network of a block on packed panels: y = activation(x Wup + bup) Wdown, gated or not. The
// products are those of attention (the same arithmetic). Its steps are split by columns as well as
// by rows, so that a few rows can keep many threads busy; how they are split changes no bit.
#ifndef HEADLIGHT_CORE_MODEL_FEED_FORWARD_H_
#define HEADLIGHT_CORE_MODEL_FEED_FORWARD_H_

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "absl/functional/function_ref.h"
#include "core/model/config.h"
#include "core/model/parameters.h"
#include "core/product/arithmetic.h"
#include "core/product/operands.h"
#include "core/product/parameter_panels.h"
#include "core/runtime/interruption.h"
#include "core/tensor/buffer.h"
#include "core/tensor/matrix_view.h"

namespace headlight {

// One layer's weights. Biases of the hidden units are rounded up to whole registers; zeros where there are
// none.
struct PackedFeedForward {
  PanelMatrix up;
  std::optional<PanelMatrix> gate;
  PanelMatrix down;
  std::vector<float> up_bias;
  std::vector<float> gate_bias;
  std::vector<float> down_bias;  // [embed_dim]; zeros where there is none
};

// The rows in work, from input to output.
struct FeedForwardRows {
  Buffer input;                   // f32 [rows, embed_dim], to be filled before Prepare
  OperandBuffer input_operands;   // of `input`
  Buffer hidden;                  // [rows, OperandCols(hidden_dim)], f32 or bf16
  OperandBuffer hidden_operands;  // of `hidden`; kInt8 only
  Buffer output;                  // f32 [rows, embed_dim], without the bias

  void ForEachBuffer(absl::FunctionRef<void(Buffer&)> visit);
};

// What one thread works in.
struct FeedForwardScratch {
  Buffer up_tile;  // [rows, kPanelCols], f32 or the sums of int8 products
  Buffer gate_tile;
  Buffer gemm;

  void ForEachBuffer(absl::FunctionRef<void(Buffer&)> visit);
};

// The network apart from its weights. Immutable and thread-safe; everything is compiled in the constructor,
// which may throw dnnl::error and std::bad_alloc, as the steps may.
class FeedForward {
 public:
  FeedForward(const Arithmetic& arithmetic, const FeedForwardConfig& config, int64_t embed_dim);

  // What Pack takes of a PanelStorage.
  int64_t StorageBytes() const;
  PackedFeedForward Pack(const FeedForwardParameters& weights, PanelStorage& storage) const;

  // Rows whose hidden units stay in a core's L2 cache while the network reads its weights once.
  static int64_t RowsAtOnce(int64_t hidden_dim);
  int64_t rows_at_once() const { return rows_at_once_; }

  // Room for `rows` of at most rows_at_once(); false when memory is short. The steps work in what this
  // network has reserved last, no other one since.
  bool Reserve(int64_t rows, FeedForwardRows& memory) const;
  bool Reserve(int64_t rows, FeedForwardScratch& scratch) const;

  // What both of them take for one thread, more than these hold.
  int64_t GrowthFor(int64_t rows, const FeedForwardRows& memory, const FeedForwardScratch& scratch) const;
  // The same where `networks`, at least one, take turns. They have the same arithmetic and embed_dim.
  static int64_t GrowthFor(std::span<const FeedForward> networks, int64_t rows, const FeedForwardRows& memory,
                           const FeedForwardScratch& scratch);

  // The steps, each to be finished for all its rows and panels before the next begins. False where the
  // interruption, which is asked between panels, said no: the step is then unfinished.
  void Prepare(FeedForwardRows& memory, int64_t rows) const;  // rows.input as operands
  bool Up(const PackedFeedForward& layer, const FeedForwardRows& memory, int64_t rows, int64_t first_panel,
          int64_t end_panel, FeedForwardScratch& scratch, const Interruption& interruption) const;
  void PrepareHidden(FeedForwardRows& memory, int64_t rows) const;  // rows.hidden as operands
  bool Down(const PackedFeedForward& layer, const FeedForwardRows& memory, int64_t rows, int64_t first_panel,
            int64_t end_panel, FeedForwardScratch& scratch, const Interruption& interruption) const;

  // To be called on a thread before its first step of a piece of work.
  void BeginWork() const { provider_.BeginWork(); }

 private:
  int64_t HiddenRowBytes() const;
  int64_t GemmScratchBytes() const { return std::max(up_gemm_.scratch_bytes(), down_gemm_.scratch_bytes()); }
  void ActivatePanel(const PackedFeedForward& layer, const FeedForwardRows& memory, int64_t rows,
                     int64_t panel, const FeedForwardScratch& scratch) const;
  MutableMatrixView HiddenFloats(const FeedForwardRows& memory, int64_t rows) const;

  const GemmProvider& provider_;
  const Precision precision_;
  const Precision parameters_;  // what they are held in
  const FeedForwardConfig config_;
  const int64_t embed_dim_;
  const int64_t rows_at_once_;
  PanelGemm up_gemm_;
  PanelGemm down_gemm_;
};

}  // namespace headlight

#endif  // HEADLIGHT_CORE_MODEL_FEED_FORWARD_H_
