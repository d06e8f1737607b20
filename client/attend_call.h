// SPDX-License-Identifier: Apache-2.0
//
// What is asked of Attend and what comes back, of a single call as of a stream.
#ifndef HEADLIGHT_CLIENT_ATTEND_CALL_H_
#define HEADLIGHT_CLIENT_ATTEND_CALL_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/tensor.h"
#include "headlight/v1/attention.pb.h"

namespace headlight::client {

// One Attend request; attention.proto states what each field means. The views must stay valid until the call
// that takes the request returns.
struct AttendCall {
  std::string model;
  std::string model_version;  // empty: the newest
  std::string request_id;
  // The caller's W3C trace context, which the server writes into its log: "00-TRACE-SPAN-FLAGS" in lower-case
  // hex; empty: none. On a stream StreamOptions::traceparent holds for all requests, and this is not sent.
  std::string traceparent;
  // What the model begins with: embeddings [batch, seq_len, embed_dim] or [tokens, embed_dim], or
  std::optional<TensorView> query;
  // token ids [batch, seq_len] or [tokens], and their types of the same shape; types absent: all 0.
  std::optional<IdsView> token_ids;
  std::optional<IdsView> token_types;
  std::optional<TensorView> key;    // [batch, kv_len, kdim] or [kv_tokens, kdim]; absent: self attention
  std::optional<TensorView> value;  // the same with vdim; absent: the same tensor as `key`
  std::optional<MaskView> mask;
  std::vector<int64_t> seq_lens;
  std::vector<int64_t> kv_seq_lens;
  bool causal = false;
  std::optional<int64_t> window_left;  // absent: no bound
  std::optional<int64_t> window_right;
  v1::WeightsMode weights = v1::WEIGHTS_MODE_NONE;
  int64_t top_k = 0;           // with TOP_K: how many
  std::vector<int64_t> heads;  // of the weights; empty: all
  int64_t query_begin = 0;     // of the weights: these rows of each sequence; both 0: all
  int64_t query_end = 0;
  std::optional<int64_t> layer;  // of the weights; absent: the last one
  std::vector<int64_t> layers;   // or these, a dimension of the results
  int64_t grid_rows = 0;         // with GRID: cells, at most; 0: 64
  int64_t grid_cols = 0;
  v1::PoolingMode pooling = v1::POOLING_MODE_UNSPECIFIED;  // of the output; unspecified: hidden states
  int64_t dimensions = 0;                                  // of pooled vectors, the first ones; 0: all
  // Several outputs of one pass, instead of the one that `pooling` says.
  std::vector<v1::OutputSpec> outputs;
  // How long the answer is of use, from the request's arrival at the server on; 0: as long as the call or the
  // stream lasts. On a stream it ends this request alone, with DEADLINE_EXCEEDED.
  std::chrono::microseconds timeout{0};
  int priority = 0;  // -10 to 10: among requests that wait, higher ones go first
  // How numbers travel, F32, BF16 or F16; they are f32 here and rounded to nearest.
  v1::DType dtype = v1::DTYPE_F32;         // of query, key, value and a mask that is added
  v1::DType output_dtype = v1::DTYPE_F32;  // of what comes back
};

// One of AttendCall::outputs; attention.proto has their shapes.
struct OutputReply {
  v1::OutputKind kind = v1::OUTPUT_KIND_UNSPECIFIED;
  v1::DType dtype = v1::DTYPE_F32;  // how it travelled
  Tensor values;                    // f32 again: of I8 times its scale, of BITS 1 and 0
  std::vector<uint8_t> packed;      // of I8 and BITS: the bytes themselves, row by row
  std::vector<float> scale;         // of I8: of each row
  std::vector<int32_t> indices;     // of SPARSE: the ids of `values`
  std::vector<int64_t> lens;        // of SPARSE and TOKEN_VECTORS: rows of each sequence
};

// Whether a reply's payloads are compared with the CRC-32C that the server told of each.
enum class Checksums { kCheck, kIgnore };

// Of one payload of a reply.
struct PayloadChecksum {
  std::string field;  // what the payload is: "output", "weights", "outputs[0].values", ...
  uint32_t crc32c = 0;
};

struct AttendReply {
  std::string model;
  std::string model_version;
  std::string request_id;
  // How the output and the weights travelled; everything here is f32 again, exactly.
  v1::DType output_dtype = v1::DTYPE_F32;
  // Hidden states, of the query's shape or the ids' and embed_dim; pooled: [batch, pooled_dim]. Empty, of
  // shape [], where AttendCall::outputs asked for others.
  Tensor output;
  std::vector<OutputReply> outputs;  // in the order of the call's
  // When asked for; attention.proto has their shapes.
  std::optional<Tensor> weights;
  std::optional<IntTensor> weights_keys;  // with TOP_K
  std::optional<Tensor> received_mass;    // with SUMMARY
  v1::TimeBudget time_budget;
  // What the server said the payloads' checksums are, of their bytes as they travelled and in their order;
  // empty if it said nothing. The payloads agreed, unless ClientOptions::checksums had nobody look.
  std::vector<PayloadChecksum> checksums;
};

// What a server that refuses a request adds to code and message.
struct Refusal {
  std::chrono::milliseconds retry_delay{0};  // when it expects to have room; 0: coming again does not help
  std::string reason;  // a word that does not change, as attention.proto lists them; empty: the code says it
};

// Of a status that Attend ended with; nothing in it where the server added nothing.
Refusal RefusalOf(const absl::Status& status);

// Told how a call ended, exactly once.
using AttendCallback = std::function<void(absl::StatusOr<AttendReply>)>;

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_ATTEND_CALL_H_
