// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdint>

#include "core/attention/layer.h"
#include "core/attention/parameters.h"
#include "core/checkpoint/folder.h"
#include "core/simd/targets.h"
#include "core/tensor/buffer.h"

namespace headlight {
namespace {

constexpr int64_t kHeadGranule = 32;  // columns that a head is padded to, at most
constexpr int64_t kDepthGranule = 4;  // rows of a packed matrix

// What layers of this precision run in here: a small one tells.
Precision PrecisionOnThisCpu(Precision precision) {
  if (precision == Precision::kF32) return precision;
  const AttentionConfig config =
      AttentionConfig{.embed_dim = 64, .num_heads = 1, .precision = precision}.Resolved();
  const auto layer = AttentionLayer::Create(config, RandomParameters(config, /*seed=*/0));
  return layer.ok() ? layer->precision() : Precision::kF32;
}

// Elements of the packed projections of one layer.
int64_t AttentionElements(const AttentionConfig& config) {
  const int64_t head_dim = RoundUp(config.head_dim, kHeadGranule);
  const int64_t width = RoundUp(config.embed_dim, kDepthGranule);
  return width * config.num_heads * head_dim +
         (RoundUp(config.kdim, kDepthGranule) + RoundUp(config.vdim, kDepthGranule)) * config.num_kv_heads *
             head_dim +
         RoundUp(config.q_width(), kDepthGranule) * config.embed_dim;
}

// Elements of the packed feed-forward network of one layer.
int64_t FeedForwardElements(const BlockConfig& block) {
  if (block.norm_placement == NormPlacement::kNone) return 0;
  const int64_t width = block.attention.embed_dim;
  const int64_t hidden = block.feed_forward.hidden_dim;
  return (block.feed_forward.gated ? 2 : 1) * RoundUp(width, kDepthGranule) * hidden +
         RoundUp(hidden, kDepthGranule) * width;
}

int64_t EmbeddingElements(const ModelConfig& config) {
  if (!config.embedding) return 0;
  const EmbeddingConfig& embedding = *config.embedding;
  return (embedding.vocab_size + embedding.num_positions + embedding.num_token_types) *
         config.block.attention.embed_dim;
}

// Biases, norms, and the scales and sums of int8 columns: a bound, they are few.
int64_t VectorElements(const ModelConfig& config) {
  const AttentionConfig& attention = config.block.attention;
  const int64_t heads =
      (attention.num_heads + 2 * attention.num_kv_heads) * RoundUp(attention.head_dim, kHeadGranule);
  const int64_t per_layer = heads + 8 * attention.embed_dim + 3 * config.block.feed_forward.hidden_dim;
  return 3 * config.num_layers * per_layer + 4 * attention.embed_dim;
}

// Bytes of a layer on its own, packed in f32: what the model's precision is compared with, layer by layer.
int64_t ExactLayerBytes(const ModelConfig& config, int64_t attention, int64_t feed_forward) {
  if (PrecisionOnThisCpu(config.block.attention.precision) == Precision::kF32) return 0;
  constexpr int64_t kBytes = sizeof(float);
  return Buffer::RoundedBytes(kBytes * attention) + Buffer::RoundedBytes(kBytes * feed_forward) +
         kBytes * VectorElements(config) / config.num_layers;
}

// Bytes of what a few short sequences pass through on one thread, a bound: the probe that compares
// precisions, its inputs and results, and the workspace. Its rows are few, but a feed-forward network takes
// room for all that it could work on at once, and so do the rows of a head.
int64_t ProbeBytes(const ModelConfig& config) {
  constexpr int64_t kProbeRows = 96;
  constexpr int64_t kRowsAtOnce = 256;
  // Scores and probabilities, and what does not grow with the model.
  constexpr int64_t kTileBytes = int64_t{1} << 20;
  const AttentionConfig& attention = config.block.attention;
  const bool bare = config.block.norm_placement == NormPlacement::kNone;
  const int64_t row =
      10 * attention.embed_dim + 3 * (attention.kdim + attention.vdim) + 2 * attention.q_width();
  const int64_t row_at_once =
      (bare ? 0 : 4 * attention.embed_dim + 2 * config.block.feed_forward.hidden_dim) +
      (8 + attention.heads_per_kv_head()) * RoundUp(attention.head_dim, kHeadGranule);
  return kTileBytes + int64_t{sizeof(float)} * (kProbeRows * row + kRowsAtOnce * row_at_once);
}

// Bytes of the products that are compiled for each layer: 4.7 MB with the ukernels of oneDNN 3.7.2, of which
// little is ever touched.
constexpr int64_t kCompiledBytes = int64_t{5} << 20;

// Elements of the largest tensor of a checkpoint, which is read as a whole before it is taken apart.
int64_t LargestTensor(const ModelConfig& config) {
  const AttentionConfig& attention = config.block.attention;
  const int64_t rows = std::max({config.embedding ? config.embedding->vocab_size : 0,
                                 config.block.feed_forward.hidden_dim, 3 * attention.q_width()});
  return rows * attention.embed_dim;
}

}  // namespace

MemoryEstimate EstimateMemory(const ModelConfig& config) {
  const ModelConfig resolved = config.Resolved();
  const int64_t layers = resolved.num_layers;
  const int64_t attention = AttentionElements(resolved.block.attention);
  const int64_t feed_forward = FeedForwardElements(resolved.block);
  const int64_t rest = EmbeddingElements(resolved) + VectorElements(resolved);
  const int64_t bytes = BytesPerWeight(PrecisionOnThisCpu(resolved.block.attention.precision));
  MemoryEstimate estimate;
  estimate.packed_bytes = layers * Buffer::RoundedBytes(bytes * attention) +
                          Buffer::RoundedBytes(bytes * layers * feed_forward) + 4 * rest;
  // The plain weights, in f32, and beside them at first a tensor of the file, later the packed weights, the
  // copy of the queries' matrix that is scaled before it is packed, and what is measured and tried out.
  constexpr int64_t kBytes = sizeof(float);
  const int64_t plain_bytes = kBytes * (layers * (attention + feed_forward) + rest);
  const int64_t scaled_bytes =
      kBytes * resolved.block.attention.embed_dim * resolved.block.attention.q_width();
  estimate.peak_bytes = plain_bytes + std::max(kBytes * LargestTensor(resolved),
                                               estimate.packed_bytes + scaled_bytes +
                                                   ExactLayerBytes(resolved, attention, feed_forward) +
                                                   ProbeBytes(resolved) + layers * kCompiledBytes);
  return estimate;
}

}  // namespace headlight
