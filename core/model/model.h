// SPDX-License-Identifier: Apache-2.0
//
// A model ready to run: its weights packed for one kernel, from token ids or embeddings to hidden states.
// model_reference.h states what it computes.
#ifndef HEADLIGHT_CORE_MODEL_MODEL_H_
#define HEADLIGHT_CORE_MODEL_MODEL_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/attention/batch.h"
#include "core/attention/forward_shape.h"
#include "core/attention/layer.h"
#include "core/model/config.h"
#include "core/model/heads/model_heads.h"
#include "core/model/parameters.h"
#include "core/runtime/compute_arena.h"

namespace headlight {

// The layers that a sequence's sink takes attention weights of, none twice: those of the i-th layer at i
// times the strides behind the first one's. The strides keep them apart, and none counts for one layer.
struct WeightsLayers {
  std::span<const int64_t> layers;
  int64_t data_stride = 0;  // of WeightsSink::data and keys
  int64_t received_stride = 0;
};

// What one call works on.
struct ModelBatch {
  // Sequences, their options and the output [q_tokens, embed_dim]. Without an embedding, `query` is the
  // input; `key` and `value` may differ from it for a single bare attention layer only. With one, these three
  // views are empty and both lists of lengths are the same. Masks, windows and cancellation hold in every
  // layer; where layers differ in num_heads, a mask has a head_stride of 0.
  AttentionBatch attention;
  std::span<const int32_t> token_ids;    // [q_tokens], each in [0, vocab_size); empty without an embedding
  std::span<const int32_t> token_types;  // [q_tokens], each in [0, num_token_types); empty: all 0
  // One for each sequence. Empty: the last layer for all.
  std::span<const WeightsLayers> weights_layers;
};

// Memory of Forward beside its inputs and outputs, of any model: what it holds between calls is room and no
// more. Keep it between calls: it grows to the largest batch. Not thread-safe.
class ModelWorkspace {
 public:
  virtual ~ModelWorkspace() = default;
  virtual int64_t held_bytes() const = 0;
  // Gives the largest blocks back until it holds at most max_bytes; at 0 some bytes for each sequence of the
  // largest batch stay. What the next Forward needs it takes again.
  virtual void Trim(int64_t max_bytes) = 0;
  // Gives back the blocks of which calls since the last TrimUnused have used less than half.
  virtual void TrimUnused() = 0;
};

// Immutable after Create. Forward may be called from many threads at once if each call has a workspace of its
// own.
class Model {
 public:
  // Packs the parameters layer by layer, so that one layer at most is in plain layout. kernel_name and errors
  // as in AttentionLayer::Create, and as the source has them.
  static absl::StatusOr<Model> Create(const ModelConfig& config, const ParameterSource& source,
                                      const std::string& kernel_name = "");
  // One layer as a model of its own, which begins at rows: what Create makes of `config` and `source`
  // computes the same bits as Embed and its layers one after the other. Asks for that layer only, as
  // ParameterSource::Layer with `memory`. `config` is resolved and valid for the source. Errors as Create.
  static absl::StatusOr<Model> CreateLayer(const ModelConfig& config, const ParameterSource& source,
                                           int64_t layer, BlockParameters& memory,
                                           const std::string& kernel_name = "");
  Model(Model&&) noexcept;
  Model& operator=(Model&&) noexcept;
  ~Model();

  const ModelConfig& config() const;  // resolved
  // kernel_name(), precision() and precision_note() are those of all layers.
  const AttentionLayer& attention(int64_t layer = 0) const;
  int64_t num_parameters() const;
  int64_t packed_bytes() const;     // memory that it holds
  const ModelHeads& heads() const;  // of what ModelConfig::heads and pooled_steps have

  // The rows that the first layer sees: out [ids, embed_dim], the same in every precision. Only with an
  // embedding, for ids and lengths that are valid for it; all token types are 0.
  void Embed(std::span<const int32_t> token_ids, std::span<const int64_t> cu_lens,
             MutableMatrixView out) const;

  // Serves every model on this arena, one call at a time.
  static std::unique_ptr<ModelWorkspace> NewWorkspace(const ComputeArena& arena);

  // An upper bound of what a new workspace holds after a batch of this shape on so many threads, in closed
  // form; one that has seen several holds at most the bound of their largest tokens, lengths and so on.
  // Usually less than half above what is held.
  int64_t ForwardBytes(const ForwardShape& shape, int num_threads) const;

  // An upper bound of what a batch of this shape makes `kept` hold more than it does, whatever models it has
  // served.
  int64_t ForwardGrowth(const ForwardShape& shape, const ModelWorkspace& kept) const;

  // Computes batch.attention.output and the weights that sequences ask for. Blocks until done. The bits of a
  // sequence's results depend on that sequence alone, as in AttentionLayer::Forward, and so are the
  // errors; INVALID_ARGUMENT also for ids outside of their tables and sequences longer than the position
  // table.
  absl::Status Forward(const ModelBatch& batch, ComputeArena& arena, ModelWorkspace& workspace) const;

 private:
  class Impl;
  explicit Model(std::unique_ptr<const Impl> impl);
  // In the arithmetic for products of this depth.
  static absl::StatusOr<Model> Pack(const ModelConfig& config, int64_t depth, const ParameterSource& source,
                                    int64_t first_layer, BlockParameters& memory,
                                    const std::string& kernel_name);
  std::unique_ptr<const Impl> impl_;
};

}  // namespace headlight

#endif  // HEADLIGHT_CORE_MODEL_MODEL_H_
