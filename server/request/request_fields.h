// SPDX-License-Identifier: Apache-2.0
//
// What a request says, the same for every protocol: each face fills one of these from its own messages, and
// check_request holds it against the model and the limits. Nothing in it has been checked.
#ifndef HEADLIGHT_SERVER_REQUEST_REQUEST_FIELDS_H_
#define HEADLIGHT_SERVER_REQUEST_REQUEST_FIELDS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/attention/batch.h"
#include "core/model/config.h"
#include "server/batch/batch_input.h"
#include "server/wire/wire_tensor.h"

namespace headlight {

// What a tensor is for.
enum class Role : uint8_t { kQuery, kKey, kValue, kMask, kTokenIds, kTokenTypes };
inline constexpr size_t kNumRoles = 6;

// What a protocol calls things, for messages to its callers.
struct FieldNames {
  WireNames tensors;
  const char* request_id;
  const char* model;
  const char* token_ids;
  const char* timeout;
  const char* priority;
  const char* weights_top_k;
  const char* weights_top_k_mode;  // the mode that has use for it
  const char* weights_heads;
  const char* weights_queries;  // both ends of them
  const char* weights_query_end;
  const char* weights_layer;
  const char* weights_layers;
  const char* weights_grid_rows;
  const char* weights_grid_cols;
  const char* weights_grid_mode;  // the mode that has use for them
  const char* model_pooling;      // the pooling that is the model's own
  std::string (*kind)(OutputKind);
  std::string (*encoding)(OutputEncoding);
  // An option of one of the outputs: "kind", "dtype", "pooling", "dimensions", "positions", "top_k" or
  // "classes".
  std::string (*output_option)(size_t place, const char* option);
};

struct PoolingAsked {
  bool of_model = false;        // the model's own
  std::optional<Pooling> mode;  // this one; with neither: none
};

// attention.proto's OutputSpec.
struct OutputFields {
  OutputKind kind = OutputKind::kHiddenStates;
  // What the model's head gives: kScores, or else kTokenScores, or else kTokenLogits; `kind` does not count
  // then.
  bool of_head = false;
  size_t place = 0;  // in the request's list, for messages
  OutputEncoding encoding = OutputEncoding::kFloat;
  std::optional<WireDType> dtype;  // of kFloat; none: the request's output_dtype
  PoolingAsked pooling;
  int64_t dimensions = 0;
  std::span<const int64_t> positions;
  int64_t top_k = 0;
  int64_t copies = 1;   // of its values in the reply
  int64_t classes = 0;  // kScores: only so many labels of each sequence, those of the largest scores; 0: all
};

// attention.proto's WeightsOptions.
struct WeightsFields {
  WeightsSink::Mode mode = WeightsSink::Mode::kNone;
  int64_t top_k = 0;
  std::span<const int64_t> heads;
  int64_t query_begin = 0;
  int64_t query_end = 0;
  std::optional<int64_t> layer;
  std::span<const int64_t> layers;
  int64_t grid_rows = 0;
  int64_t grid_cols = 0;
};

// Views point into the message that was read, which must live on. Fields are those of attention.proto's
// AttendRequest.
struct RequestFields {
  const FieldNames* names = nullptr;  // of the protocol; never null
  std::string model;
  std::string model_version;
  std::string request_id;
  std::array<std::optional<NamedTensor>, kNumRoles> tensors;
  // What is wrong with how tensors and payloads meet: told once the tensors are known to be those that the
  // model wants.
  absl::Status payloads;
  std::span<const int64_t> seq_lens;
  std::span<const int64_t> kv_seq_lens;
  bool causal = false;
  std::optional<int64_t> window_left;
  std::optional<int64_t> window_right;
  WeightsFields weights;
  PoolingAsked pooling;
  int64_t dimensions = 0;     // of pooled vectors; 0: all
  int64_t output_copies = 1;  // in the reply, where there are no `outputs`
  std::vector<OutputFields> outputs;
  WireDType output_dtype{DType::kF32, {}};
  int64_t timeout_us = 0;
  int64_t priority = 0;

  const std::optional<NamedTensor>& tensor(Role role) const { return tensors[static_cast<size_t>(role)]; }
  std::optional<NamedTensor>& tensor(Role role) { return tensors[static_cast<size_t>(role)]; }
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_REQUEST_REQUEST_FIELDS_H_
