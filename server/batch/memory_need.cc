// SPDX-License-Identifier: Apache-2.0
#include "server/batch/memory_need.h"

#include <algorithm>

#include "core/attention/config.h"
#include "core/model/config.h"
#include "core/model/model.h"
#include "core/tensor/buffer.h"
#include "server/batch/copy_list.h"
#include "server/batch/output_work.h"

namespace headlight {
namespace {

// For each sequence: its options and layers here, its places in the lists of lengths, its lengths in the
// request itself.
constexpr int64_t kSequenceBytes =
    int64_t{sizeof(SequenceOptions)} + int64_t{sizeof(WeightsLayers)} + 4 * int64_t{sizeof(int64_t)};

int64_t F32(int64_t count) { return count == 0 ? 0 : Buffer::RoundedBytes(count * SizeOf(DType::kF32)); }

// A result stays as it is computed, or is written once more: in a narrower type, or apart from a large batch.
int64_t Result(int64_t count) { return 2 * F32(count); }

// What an output is made in and what comes out.
int64_t OutputNeed(const BatchInput& input, const OutputRequest& request) {
  const OutputExtent extent = ExtentOf(input, request);
  const int64_t entries =
      extent.entries * int64_t{sizeof(SparseEntry)} + Result(extent.entries) + F32(extent.entries);
  const int64_t scale = request.encoding == OutputEncoding::kInt8 ? F32(extent.values) : 0;
  return F32(extent.rows) + F32(extent.weights) + Result(extent.values) + entries + scale;
}

}  // namespace

int64_t BufferNeed(const BatchInput& input) {
  const AttentionConfig& config = input.model->model.config().block.attention;
  int64_t bytes = input.num_sequences() * kSequenceBytes;
  switch (input.kind) {
    case InputKind::kTokenIds:
      bytes += 4 * input.q_tokens * SizeOf(DType::kI32);  // ids and types, in the request and in the batch
      break;
    case InputKind::kKeyAndValue:
      bytes += F32(input.kv_tokens * config.vdim);
      [[fallthrough]];
    case InputKind::kSharedKey:
      bytes += F32(input.kv_tokens * config.kdim);
      [[fallthrough]];
    case InputKind::kSelf:
      bytes += F32(input.q_tokens * config.embed_dim);
      break;
  }
  bytes += Result(input.q_tokens * config.embed_dim);
  if (input.pools()) bytes += Result(input.num_pooled());
  for (const OutputRequest& request : input.outputs) bytes += OutputNeed(input, request);
  bytes +=
      Result(input.weights.num_weights) + Result(input.weights.num_received) + F32(input.weights.num_keys);
  if (!input.mask.bytes.empty()) {
    const int64_t elements = input.mask.bytes.size_bytes() / SizeOf(input.mask.dtype);
    bytes += Buffer::RoundedBytes(elements * PackedSizeOf(input.mask.dtype));
  }
  return bytes;
}

ForwardShape ShapeOf(const BatchInput& input) {
  ForwardShape shape{.tokens = input.q_tokens,
                     .num_sequences = input.num_sequences(),
                     .longest = *std::max_element(input.q_lens.begin(), input.q_lens.end()),
                     .kv_tokens = input.kv_tokens,
                     .longest_kv = *std::max_element(input.kv_lens.begin(), input.kv_lens.end()),
                     .self_attention = input.kind == InputKind::kSelf || input.kind == InputKind::kTokenIds};
  if (WeightsSink{.mode = input.weights.mode}.KeepsRows()) shape.longest_kv_with_rows = shape.longest_kv;
  if (input.weights.mode == WeightsSink::Mode::kGrid) {
    shape.longest_with_grid = shape.longest;
    shape.longest_kv_with_rows = std::min(shape.longest_kv, kMaxGridCells);  // WeightsSink::Simplified
  }
  return shape;
}

int64_t MemoryNeed(const BatchInput& input, int num_threads) {
  const Model& model = input.model->model;
  // Not at the same time as the workspace, which stays nevertheless.
  const bool steps = !input.outputs.empty() || (input.pools_as_model && !model.config().pooled_steps.empty());
  const int64_t scratch = steps ? num_threads * model.heads().ScratchBytes() : 0;
  return BufferNeed(input) + model.ForwardBytes(ShapeOf(input), num_threads) + scratch;
}

}  // namespace headlight
