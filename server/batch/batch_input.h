// SPDX-License-Identifier: Apache-2.0
//
// What one request asks a batch to compute: checked, its tensors still lying where the network left them.
// Knows neither a protocol nor the queue.
#ifndef HEADLIGHT_SERVER_BATCH_BATCH_INPUT_H_
#define HEADLIGHT_SERVER_BATCH_BATCH_INPUT_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "core/attention/batch.h"
#include "core/model/config.h"
#include "core/runtime/cancellation.h"
#include "core/tensor/dtype.h"
#include "server/models/registry.h"
#include "server/wire/byte_segments.h"

namespace headlight {

// What a request brings, and which of it the keys and values are projected from. One batch holds one kind.
enum class InputKind : uint8_t {
  kSelf,         // query
  kSharedKey,    // query; key, for both
  kKeyAndValue,  // query, key and value
  kTokenIds,     // token ids, for models that begin there
};

// Rows of embeddings, those of each sequence together.
struct InputRows {
  ByteSegments bytes;
  DType dtype = DType::kF32;  // or kF16, kBf16
  // Rows between the starts of two sequences; 0 means that they follow each other without padding.
  int64_t padded_len = 0;
};

// An explicit mask [batch, num_heads, q_len, kv_len], row-major; a dimension of 1 is shared by all.
struct ExplicitMask {
  ByteSegments bytes;          // empty if there is none
  DType dtype = DType::kBool;  // or one that is added: kF32, kF16, kBf16
  int64_t batch = 1;
  int64_t num_heads = 1;
  int64_t q_len = 0;
  int64_t kv_len = 0;
};

// The attention weights asked for. What the mode means and in which shapes it comes: attention.proto.
struct WeightsRequest {
  WeightsSink::Mode mode = WeightsSink::Mode::kNone;
  std::vector<int64_t> heads;  // as WeightsSink::heads, and so are the next ones
  int64_t query_begin = 0;
  int64_t query_end = 0;
  int64_t top_k = 0;
  int64_t grid_rows = 0;  // of the longest sequence, and so is the next
  int64_t grid_cols = 0;
  // At least one where there is a mode. Where the request lists them, they are a dimension of the results.
  std::vector<int64_t> layers;
  bool lists_layers = false;

  // Numbers to make room for; 0 where the mode has none of the kind.
  int64_t num_weights = 0;
  int64_t num_keys = 0;
  int64_t num_received = 0;
  // How they lie.
  int64_t num_maps = 0;     // heads reported, 1 for the mean
  int64_t num_queries = 0;  // reported of the longest sequence
  int64_t kv_len = 0;       // of the longest sequence, with appended keys
};

// How numbers are written into a reply beside the float types.
enum class OutputEncoding : uint8_t {
  kFloat,  // of the request's DType
  kInt8,   // round(x / scale), scale = max |x| / 127 of each row
  kBits,   // x > 0, the first of eight the highest bit of a byte
};

// One of several outputs of a pass.
struct OutputRequest {
  OutputKind kind = OutputKind::kHiddenStates;
  DType dtype = DType::kF32;  // of kFloat
  OutputEncoding encoding = OutputEncoding::kFloat;
  std::vector<Pooling> pooling;  // kPooled: side by side
  bool as_model = false;         // kPooled: then the model's own steps
  int64_t width = 0;             // numbers of a row that are kept; of kSparse none
  std::vector<int64_t> rows;     // kTokenLogits: which of the request's tokens
  int64_t top_k = 0;             // kSparse: at most so many of a sequence; 0: all
};

// Valid by construction: whoever makes one has checked each size against the others and against the model.
// The bytes it points at must live until the batch is computed.
struct BatchInput {
  std::shared_ptr<const LoadedModel> model;
  InputKind kind = InputKind::kSelf;
  InputRows query;                   // empty for kTokenIds
  InputRows key;                     // empty for kSelf and kTokenIds
  InputRows value;                   // empty but for kKeyAndValue
  std::vector<int32_t> token_ids;    // [q_tokens], without padding, for kTokenIds; else empty
  std::vector<int32_t> token_types;  // the same, or empty: all 0
  std::vector<int64_t> q_lens;       // one for each sequence, at least 1
  std::vector<int64_t> kv_lens;      // the same; equal to q_lens for kSelf and kTokenIds
  int64_t q_tokens = 0;              // sum of q_lens
  int64_t kv_tokens = 0;             // sum of kv_lens
  Visibility visibility;
  ExplicitMask mask;
  WeightsRequest weights;
  std::vector<Pooling> pooling;        // of the output, side by side; empty: hidden states
  bool pools_as_model = false;         // they then pass through the model's own steps
  int64_t pooled_dim = 0;              // numbers that are kept of what they make
  std::vector<OutputRequest> outputs;  // if there are any, there is no other output
  DType output_dtype = DType::kF32;    // or kF16, kBf16
  // Never null once it is to be computed; shared with whoever hears of the cancellation.
  std::shared_ptr<const CancellationToken> cancelled;

  int64_t num_sequences() const { return static_cast<int64_t>(q_lens.size()); }
  bool pools() const { return !pooling.empty(); }
  int64_t num_pooled() const { return num_sequences() * pooled_dim; }
  // Of the output, of a model that is `embed_dim` wide.
  int64_t num_outputs(int64_t embed_dim) const {
    return !outputs.empty() ? 0 : pools() ? num_pooled() : q_tokens * embed_dim;
  }
  // What it adds to a batch: rows to project.
  int64_t cost_tokens() const {
    const bool cross = kind == InputKind::kSharedKey || kind == InputKind::kKeyAndValue;
    return cross ? q_tokens + kv_tokens : q_tokens;
  }
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_BATCH_BATCH_INPUT_H_
