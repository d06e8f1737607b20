// SPDX-License-Identifier: Apache-2.0
//
// The inside of a Model: its packed layers, and how a batch goes through them (forward.cc). Between two
// attentions each chunk of rows passes residual, norm, feed-forward network, residual and the next norm as
// one piece of work, so that it stays in a core's cache.
#ifndef HEADLIGHT_CORE_MODEL_MODEL_IMPL_H_
#define HEADLIGHT_CORE_MODEL_MODEL_IMPL_H_

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/attention/interruption.h"
#include "core/model/embedding.h"
#include "core/model/feed_forward.h"
#include "core/model/model.h"
#include "core/model/row_norm.h"

namespace headlight {

struct ModelLayer {
  AttentionLayer attention;
  NormParameters attention_norm;
  NormParameters feed_forward_norm;
  NormParameters attention_output_norm;  // with NormPlacement::kSandwich
  NormParameters feed_forward_output_norm;
  std::optional<PackedFeedForward> feed_forward;  // absent with NormPlacement::kNone
  size_t network = 0;                             // of the model's, which it is packed for
};

struct ForwardWorkspace final : ModelWorkspace {
  int64_t held_bytes() const override;
  void Trim(int64_t max_bytes) override;
  void TrimUnused() override;
  void ForEachBuffer(absl::FunctionRef<void(Buffer&)> visit);

  std::unique_ptr<Workspace> attention;  // of any layer
  // f32 [tokens, embed_dim] each.
  Buffer hidden;    // what residuals are added to
  Buffer normed;    // attention's input where a norm makes it
  Buffer attended;  // attention's output
  std::vector<int32_t> positions;
  std::vector<SequenceOptions> sequences;  // as the layer at work sees them
  std::vector<FeedForwardRows> rows;       // one for each thread
  std::vector<FeedForwardScratch> scratch;
};

// How the rows of a batch are divided between two attentions.
struct RowPlan {
  int64_t num_rows = 0;
  int64_t chunk_rows = 0;
  bool split_columns = false;  // too few rows for all threads: they share the columns of each product

  int64_t num_chunks() const { return (num_rows + chunk_rows - 1) / chunk_rows; }
  int64_t FirstRow(int64_t chunk) const { return chunk * chunk_rows; }
  int64_t Rows(int64_t chunk) const { return std::min(chunk_rows, num_rows - FirstRow(chunk)); }
};

class Model::Impl {
 public:
  // `config` resolved. What it says there is comes next, layers in their order.
  // May throw as FeedForward does.
  Impl(const ModelConfig& config, Arithmetic arithmetic, int64_t num_parameters);

  void SetEmbedding(EmbeddingTables tables) {
    embedding_.emplace(*config_.embedding, width(), config_.block.norm_eps, std::move(tables));
  }
  // Packs the next layer that has parameters of its own. Errors as AttentionLayer::Create; may throw as
  // FeedForward does.
  absl::Status AddLayer(int64_t layer, const BlockParameters& from);
  void SetFinalNorm(NormParameters norm) { final_norm_ = std::move(norm); }
  void SetHeads(std::unique_ptr<const ModelHeads> heads) { heads_ = std::move(heads); }

  const ModelConfig& config() const { return config_; }
  const AttentionLayer& attention(int64_t layer) const { return LayerOf(layer).attention; }
  int64_t num_parameters() const { return num_parameters_; }
  int64_t packed_bytes() const;
  const std::optional<Embedding>& embedding() const { return embedding_; }
  const ModelHeads& heads() const { return *heads_; }

  // Beside what `kept` holds, unless that is null.
  int64_t ForwardBytes(const ForwardShape& shape, int num_threads, const ForwardWorkspace* kept) const;
  absl::Status Forward(const ModelBatch& batch, ComputeArena& arena, ForwardWorkspace& ws) const;

 private:
  // One call on its way through the layers.
  struct Pass {
    const ModelBatch& batch;
    ComputeArena& arena;
    ForwardWorkspace& ws;
    RowPlan plan;
    AttentionBatch step;  // the attention of the layer at work
    MatrixView x;         // what it is added to

    BatchInterruption InterruptionOf(int64_t first_row, int64_t rows) const {
      return {arena, batch.attention.sequences, batch.attention.cu_q_lens, first_row, rows};
    }
  };

  absl::Status Validate(const ModelBatch& batch, const AttentionBatch& step, ForwardWorkspace& ws) const;
  absl::Status ValidateSequences(const ModelBatch& batch, const AttentionBatch& step,
                                 ForwardWorkspace& ws) const;
  absl::Status ValidateWeightsLayers(std::span<const WeightsLayers> asked, int64_t num_sequences) const;
  std::span<const int64_t> LayersOfWeights(const ModelBatch& batch, int64_t sequence) const;
  absl::Status Reserve(int64_t tokens, const RowPlan& plan, ForwardWorkspace& ws) const;
  RowPlan PlanRows(int64_t tokens, int threads) const;
  void Begin(Pass& pass) const;
  void SetSequences(Pass& pass, int64_t layer) const;
  void FinishLayer(Pass& pass, int64_t layer) const;
  void FinishChunk(const Pass& pass, int64_t layer, int64_t first_row, int64_t rows, int worker) const;
  void FinishChunkByColumns(const Pass& pass, int64_t layer, int64_t first_row, int64_t rows) const;
  // Calls body(first of the rows, rows) for a few of the rows [0, rows) of a chunk at a time. False where the
  // interruption, which is asked in between, said no.
  template <typename Body>
  bool InSteps(int64_t rows, const Interruption& interruption, const Body& body) const;
  void BeforeFeedForward(const Pass& pass, int64_t layer, int64_t first_row, int64_t rows,
                         MutableMatrixView input) const;
  void AfterFeedForward(const Pass& pass, int64_t layer, int64_t first_row, MutableMatrixView input,
                        MutableMatrixView f) const;
  void NormOutput(const Pass& pass) const;

  bool IsBare() const { return placement() == NormPlacement::kNone; }
  bool IsPost() const { return placement() == NormPlacement::kPost; }
  // Whether what parts give is added to rows that no norm changes on their way.
  bool HasStream() const { return !IsBare() && !IsPost(); }
  // Whether some layer's attention reads rows that were normed for it.
  bool HasNormedInput() const { return HasStream() && placement() != NormPlacement::kBranch; }
  NormPlacement placement() const { return config_.block.norm_placement; }
  int64_t width() const { return config_.block.attention.embed_dim; }
  MutableMatrixView RowsOf(const Buffer& buffer, int64_t first_row, int64_t rows) const {
    return {buffer.floats() + first_row * width(), rows, width(), width()};
  }
  static RowNorm NormOf(const BlockConfig& block, const NormParameters& weights) {
    return RowNorm(block.norm_kind, block.norm_eps, weights);
  }
  RowNorm AttentionNorm(int64_t layer) const {
    return NormOf(config_.LayerBlock(layer), LayerOf(layer).attention_norm);
  }
  RowNorm FeedForwardNorm(int64_t layer) const {
    return NormOf(config_.LayerBlock(layer), LayerOf(layer).feed_forward_norm);
  }
  RowNorm AttentionOutputNorm(int64_t layer) const {
    return NormOf(config_.LayerBlock(layer), LayerOf(layer).attention_output_norm);
  }
  RowNorm FeedForwardOutputNorm(int64_t layer) const {
    return NormOf(config_.LayerBlock(layer), LayerOf(layer).feed_forward_output_norm);
  }
  RowNorm FinalNorm() const {
    return RowNorm(*config_.final_norm_kind, *config_.final_norm_eps, final_norm_);
  }
  // Whether attention of the layer reads rows that were normed for it.
  bool ReadsNormed(int64_t layer) const {
    return HasNormedInput() && config_.LayerBlock(layer).attention_norm;
  }
  const ModelLayer& LayerOf(int64_t layer) const { return layers_[places_[config_.ParametersOf(layer)]]; }
  const FeedForward& NetworkOf(int64_t layer) const { return networks_[LayerOf(layer).network]; }
  size_t NetworkIndex(const FeedForwardConfig& config) const;

  const ModelConfig config_;
  const int64_t last_layer_ = config_.num_layers - 1;
  const Arithmetic arithmetic_;
  const int64_t num_parameters_;
  std::optional<Embedding> embedding_;
  // One for each config that layers have.
  std::vector<FeedForwardConfig> network_configs_;
  std::vector<FeedForward> networks_;
  std::optional<PanelStorage> storage_;                // of the feed-forward networks' panels
  std::vector<ModelLayer> layers_;                     // those with parameters of their own
  std::vector<size_t> places_;                         // of each layer that has its own, in layers_
  std::vector<const BlockConfig*> blocks_;             // of the layers so far, each once
  std::vector<const AttentionKernel*> other_kernels_;  // one for each of them but the first layer's
  NormParameters final_norm_;
  std::unique_ptr<const ModelHeads> heads_;  // which may read the embedding's table
};

}  // namespace headlight

#endif  // HEADLIGHT_CORE_MODEL_MODEL_IMPL_H_
