// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/memory_estimate.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <set>

#include "core/attention/rope_table.h"
#include "core/model/feed_forward.h"
#include "core/model/precision_error.h"
#include "core/product/arithmetic.h"
#include "core/product/parameter_panels.h"
#include "core/simd/targets.h"
#include "core/tensor/bf16.h"
#include "core/tensor/buffer.h"

namespace headlight {
namespace {

constexpr int64_t kFloatBytes = sizeof(float);

// What is small and many, measured with oneDNN 3.7.2: products that are compiled once for all layers of one
// shape, most of them only where there is no loop of vectors for them; what the allocator holds beside what
// it was asked for, and libraries set up when they are first used; the objects around the numbers of a layer.
constexpr int64_t kCompiledBytes = int64_t{11} << 19;
constexpr int64_t kCompiledBesideVectorsBytes = int64_t{5} << 19;
constexpr int64_t kAllocatorBytes = int64_t{2} << 20;
constexpr int64_t kObjectBytes = int64_t{24} << 10;

// How layers are packed.
struct Packing {
  Precision precision;   // of products
  Precision parameters;  // what their panels are held in
  int64_t head_granule;  // columns that a head is padded to a multiple of
  int64_t compiled_bytes = 0;
  int64_t widened_bytes = 0;  // of a panel, at most, where parameters are narrower than products
};

// Of the deepest product of the model.
int64_t WidenedBytes(const ModelConfig& config, const Arithmetic& arithmetic) {
  if (arithmetic.parameters == arithmetic.precision) return 0;
  return Buffer::ReservedBytes(NarrowGemm::WidenedBytes(
      arithmetic.provider(), {.operands = arithmetic.precision,
                              .n = kPanelCols,
                              .k = OperandCols(arithmetic.precision, config.LargestDepth())}));
}

Packing PackingOnThisCpu(const ModelConfig& config) {
  const auto arithmetic = ChooseArithmetic(config.block.attention.precision, config.LargestDepth(), "",
                                           config.block.attention.parameters_precision);
  if (!arithmetic.ok()) return {Precision::kF32, Precision::kF32, kGranule<float>};
  return {arithmetic->precision, arithmetic->parameters,
          arithmetic->operands == Precision::kF32 ? kGranule<float> : kGranule<Bf16>,
          arithmetic->kind->fused ? kCompiledBesideVectorsBytes : kCompiledBytes,
          WidenedBytes(config, *arithmetic)};
}

// What a layer's scores take of distances between tokens.
int64_t DistanceBytes(const AttentionConfig& config, const Packing& packing) {
  int64_t bytes = 0;
  if (config.relative_bias) {
    bytes += config.num_heads * (2 * config.relative_bias->max_distance + 1) * kFloatBytes;
  }
  if (!config.disentangled) return bytes;
  const int64_t rows = RoundUp(2 * config.disentangled->num_buckets, kPanelCols);
  const int64_t element = packing.head_granule == kGranule<float> ? kFloatBytes : int64_t{sizeof(Bf16)};
  const int64_t tables =
      int64_t{config.disentangled->query_to_position} + int64_t{config.disentangled->key_to_position};
  return bytes + tables * config.num_heads * RoundUp(config.head_dim, packing.head_granule) * rows * element;
}

// The panels of one layer's projections.
int64_t AttentionBytes(const AttentionConfig& config, const Packing& packing) {
  const int64_t head_dim = RoundUp(config.head_dim, packing.head_granule);
  const auto bytes = [&](int64_t rows, int64_t cols) {
    return PanelMatrix::StorageBytes(packing.parameters, rows, cols);
  };
  return Buffer::RoundedBytes(config.num_heads * bytes(config.embed_dim, head_dim) +
                              config.num_kv_heads *
                                  (bytes(config.kdim, head_dim) + bytes(config.vdim, head_dim)) +
                              bytes(config.q_width(), config.embed_dim));
}

bool HasFeedForward(const BlockConfig& block) { return block.norm_placement != NormPlacement::kNone; }

// The panels of one layer's feed-forward network.
int64_t FeedForwardBytes(const BlockConfig& block, Precision parameters) {
  if (!HasFeedForward(block)) return 0;
  const int64_t width = block.attention.embed_dim;
  const FeedForwardConfig& network = block.feed_forward;
  return (network.gated ? 2 : 1) * PanelMatrix::StorageBytes(parameters, width, network.hidden_dim) +
         PanelMatrix::StorageBytes(parameters, network.hidden_dim, width);
}

// Biases, norms, the scales and sums of int8 columns, and objects of one layer.
int64_t VectorBytes(const BlockConfig& block, const Packing& packing) {
  const AttentionConfig& attention = block.attention;
  const int64_t head_dim = RoundUp(attention.head_dim, packing.head_granule);
  int64_t cols = (attention.num_heads + 2 * attention.num_kv_heads) * head_dim + attention.embed_dim;
  int64_t norms = 0;
  if (HasFeedForward(block)) {
    const FeedForwardConfig& network = block.feed_forward;
    cols += (network.gated ? 2 : 1) * RoundUp(network.hidden_dim, kLanes) + attention.embed_dim;
    norms = (block.norm_placement == NormPlacement::kSandwich ? 8 : 4) * attention.embed_dim;
  }
  const int64_t appended = 4 * attention.num_kv_heads * head_dim;
  const int64_t of_a_column = packing.parameters == Precision::kInt8 ? 3 : 1;
  // Each matrix of a head has its own buffers, of whole cache lines.
  const int64_t buffers = 2 * (attention.num_heads + 2 * attention.num_kv_heads + 4);
  return kFloatBytes * (of_a_column * cols + norms + appended) + kCacheLineBytes * buffers + kObjectBytes;
}

// The largest of each width that some layer has: what layers take one after the other in memory that stays
// from one to the next.
struct LargestWidths {
  explicit LargestWidths(const ModelConfig& config) {
    config.ForEachBlock([&](const BlockConfig& block, int64_t) {
      const AttentionConfig& attention = block.attention;
      q_width = std::max(q_width, attention.q_width());
      kv_width = std::max(kv_width, attention.kv_width());
      head_dim = std::max(head_dim, attention.head_dim);
      padded_head_dim = RoundUp(head_dim, kGranule<Bf16>);
      group_width =
          std::max(group_width, attention.heads_per_kv_head() * RoundUp(attention.head_dim, kGranule<Bf16>));
      if (!HasFeedForward(block)) return;
      const FeedForwardConfig& network = block.feed_forward;
      hidden_dim = std::max(hidden_dim, network.hidden_dim);
      if (network.gated) gate_dim = std::max(gate_dim, network.hidden_dim);
      const int64_t rows = FeedForward::RowsAtOnce(network.hidden_dim);
      rows_at_once = std::max(rows_at_once, rows);
      hidden_units = std::max(hidden_units, rows * network.hidden_dim);
    });
  }

  int64_t q_width = 0, kv_width = 0, head_dim = 0, padded_head_dim = 0;
  int64_t group_width = 0;  // of the padded heads of a kv head
  int64_t hidden_dim = 0, gate_dim = 0, rows_at_once = 0, hidden_units = 0;
};

// The parameters of a layer in plain layout, in vectors that have held those of all layers.
int64_t PlainBytes(const ModelConfig& config) {
  const AttentionConfig& attention = config.block.attention;
  const LargestWidths most(config);
  int64_t elements = 2 * attention.embed_dim * most.q_width +
                     (attention.kdim + attention.vdim) * most.kv_width +
                     4 * (most.q_width + most.kv_width + attention.embed_dim);
  int64_t distances = 0;
  config.ForEachBlock([&](const BlockConfig& block, int64_t) {
    if (!block.attention.disentangled) return;
    const DisentangledConfig& disentangled = *block.attention.disentangled;
    // The table, and once more normed; matrices of its own.
    const int64_t rows = 4 * disentangled.num_buckets +
                         (disentangled.own_projections ? 2 * (block.attention.q_width() + 1) : 0);
    distances = std::max(distances, rows * block.attention.embed_dim);
  });
  elements += distances;
  if (HasFeedForward(config.block)) {
    elements += (attention.embed_dim + 1) * (2 * most.hidden_dim + most.gate_dim) + 9 * attention.embed_dim;
  }
  return kFloatBytes * elements;
}

// The tables of an embedding.
int64_t TableBytes(const ModelConfig& config, DType dtype) {
  if (!config.embedding) return 0;
  const auto bytes = [&](int64_t rows) {
    return rows == 0 ? 0 : Buffer::RoundedBytes(rows * config.embedding->dim * SizeOf(dtype));
  };
  const EmbeddingConfig& sizes = *config.embedding;
  const int64_t width = config.block.attention.embed_dim;
  const int64_t projection = sizes.projected ? (sizes.dim + 1) * width * kFloatBytes : 0;
  return projection + bytes(sizes.vocab_size) + bytes(sizes.num_positions) + bytes(sizes.num_token_types);
}

// Of what a few short sequences pass through on one thread, a bound: the probe that compares precisions, its
// inputs and results, and the workspace. Its rows are few, but a feed-forward network takes room for all that
// it could work on at once, and so do the rows of a head.
int64_t ProbeBytes(const ModelConfig& config) {
  constexpr int64_t kProbeRows = std::accumulate(kProbeLens.begin(), kProbeLens.end(), int64_t{0});
  constexpr int64_t kHeadRows = 256;
  // Scores and probabilities, and what does not grow with the model.
  constexpr int64_t kTileBytes = int64_t{1} << 20;
  const AttentionConfig& attention = config.block.attention;
  const LargestWidths most(config);
  const int64_t key_widths = TakesKey(config) ? 3 * (attention.kdim + attention.vdim) : 0;
  const int64_t elements = kProbeRows * (10 * attention.embed_dim + key_widths + 2 * most.q_width) +
                           kHeadRows * (8 * most.padded_head_dim + most.group_width);
  // A chunk of the network: what goes in and out and the hidden units in f32, and what it multiplies of them:
  // of int8 at most, hidden units in bf16 being alone.
  const int64_t in_and_out = most.rows_at_once * attention.embed_dim;
  const int64_t chunk = 2 * Buffer::ReservedBytes(kFloatBytes * in_and_out) +
                        Buffer::ReservedBytes(int64_t{sizeof(Bf16)} * in_and_out) +
                        Buffer::ReservedBytes(kFloatBytes * most.hidden_units) +
                        Buffer::ReservedBytes(most.hidden_units);
  return kTileBytes + kFloatBytes * elements + chunk;
}

// The angles of rotary positions, which layers share where they are equal.
int64_t AngleBytes(const ModelConfig& config) {
  int64_t bytes = 0;
  for (const RopeConfig& rope : config.RopeConfigs()) bytes += RopeTable::ModelBytes(rope);
  return bytes;
}

// Heads, and the steps of pooled vectors: panels in f32, and tables of their own in f32 at most.
int64_t HeadBytes(const ModelConfig& config) {
  int64_t bytes = 0;
  const auto add = [&](const std::vector<RowStep>& steps) {
    int64_t panels = 0;
    for (const RowStep& step : steps) {
      if (step.kind == RowStep::Kind::kDense) {
        panels += PanelMatrix::StorageBytes(Precision::kF32, step.in_dim, step.out_dim);
      }
      bytes += 2 * kFloatBytes * std::max(step.in_dim, step.out_dim) + kCacheLineBytes;
    }
    if (panels > 0) bytes += Buffer::RoundedBytes(panels);
  };
  add(config.pooled_steps);
  for (const HeadConfig& head : config.heads.heads) {
    add(head.steps);
    if (head.kind != HeadKind::kLanguageModel) continue;
    bytes += kFloatBytes * head.vocab_size;
    if (head.tied) continue;
    bytes += Buffer::RoundedBytes(kFloatBytes * head.vocab_size *
                                  OutDim(head.steps, config.block.attention.embed_dim));
  }
  return bytes;
}

// The largest matrix of them, in plain layout while it is packed.
int64_t PlainHeadBytes(const ModelConfig& config) {
  int64_t elements = 0;
  const auto add = [&](const std::vector<RowStep>& steps) {
    int64_t all = 0;
    for (const RowStep& step : steps) all += step.in_dim * step.out_dim;
    elements = std::max(elements, all);
  };
  add(config.pooled_steps);
  for (const HeadConfig& head : config.heads.heads) add(head.steps);
  return kFloatBytes * elements;
}

// Of the layers, for each of which products are compiled once.
int64_t NumShapes(const ModelConfig& config) {
  std::set<std::array<int64_t, 3>> shapes;
  config.ForEachBlock([&](const BlockConfig& block, int64_t) {
    shapes.insert({block.attention.head_dim, block.attention.q_width(),
                   HasFeedForward(block) ? block.feed_forward.hidden_dim : 0});
  });
  return static_cast<int64_t>(shapes.size());
}

// Beside the packed model, while one more layer is packed: the columns of one head.
int64_t PackingBytes(const ModelConfig& config) {
  const AttentionConfig& attention = config.block.attention;
  return kFloatBytes * std::max({attention.embed_dim, attention.kdim, attention.vdim}) *
         LargestWidths(config).head_dim;
}

// Beside the packed model, while it is measured: a layer on its own in f32, and the probe that goes through.
int64_t MeasuringBytes(const ModelConfig& config) {
  const Packing exact = {Precision::kF32, Precision::kF32, kGranule<float>};
  int64_t layer = 0;
  config.ForEachBlock([&](const BlockConfig& block, int64_t) {
    layer = std::max(layer, AttentionBytes(block.attention, exact) + DistanceBytes(block.attention, exact) +
                                VectorBytes(block, exact) +
                                Buffer::RoundedBytes(FeedForwardBytes(block, Precision::kF32)));
  });
  return layer + std::max(PackingBytes(config), ProbeBytes(config));
}

}  // namespace

MemoryEstimate EstimateMemory(const ModelConfig& config, DType table_dtype) {
  const ModelConfig resolved = config.Resolved();
  const Packing packing = PackingOnThisCpu(resolved);
  int64_t layers = 0, feed_forward = 0;
  resolved.ForEachBlock([&](const BlockConfig& block, int64_t num_layers) {
    layers += num_layers * (AttentionBytes(block.attention, packing) +
                            DistanceBytes(block.attention, packing) + VectorBytes(block, packing));
    feed_forward += num_layers * FeedForwardBytes(block, packing.parameters);
  });
  MemoryEstimate estimate;
  estimate.packed_bytes =
      layers + TableBytes(resolved, table_dtype) + AngleBytes(resolved) + HeadBytes(resolved);
  if (feed_forward > 0) estimate.packed_bytes += Buffer::RoundedBytes(feed_forward);
  // A layer in plain layout, and what is made of it.
  const bool is_exact = packing.precision == Precision::kF32 && packing.parameters == Precision::kF32;
  const int64_t making =
      std::max(PackingBytes(resolved), is_exact ? 0 : MeasuringBytes(resolved) + 2 * packing.widened_bytes);
  estimate.peak_bytes = estimate.packed_bytes + PlainBytes(resolved) + PlainHeadBytes(resolved) + making +
                        NumShapes(resolved) * packing.compiled_bytes + kAllocatorBytes;
  return estimate;
}

}  // namespace headlight
