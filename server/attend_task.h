// SPDX-License-Identifier: Apache-2.0
//
// One request between the codec and the scheduler: validated, its tensors still lying where the network left
// them. And what comes back. Knows nothing of gRPC.
#ifndef HEADLIGHT_SERVER_ATTEND_TASK_H_
#define HEADLIGHT_SERVER_ATTEND_TASK_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/attention/batch.h"
#include "core/runtime/cancellation.h"
#include "core/tensor/dtype.h"
#include "server/byte_segments.h"
#include "server/clock.h"
#include "server/registry.h"

namespace headlight {

// Which tensors the keys and values are projected from. One batch holds one kind.
enum class InputKind : uint8_t {
  kSelf,         // query
  kSharedKey,    // key, for both
  kKeyAndValue,  // key and value
};

// Rows of f32 embeddings, those of each sequence together.
struct InputRows {
  ByteSegments bytes;
  // Rows between the starts of two sequences; 0 means that they follow each other without padding.
  int64_t padded_len = 0;
};

// An explicit mask [batch, num_heads, q_len, kv_len], row-major; a dimension of 1 is shared by all.
struct ExplicitMask {
  ByteSegments bytes;  // empty if there is none
  DType dtype = DType::kBool;
  int64_t batch = 1;
  int64_t num_heads = 1;
  int64_t q_len = 0;
  int64_t kv_len = 0;
};

// The attention weights that a task asks for: [batch, num_heads, q_len, kv_len], without num_heads for the
// mean.
struct WeightsRequest {
  WeightsSink::Mode mode = WeightsSink::Mode::kNone;
  int64_t q_len = 0;
  int64_t kv_len = 0;
  int64_t size_bytes = 0;
};

// What the batch made of one task. The memory belongs to the batch and lives as long as these pointers do.
struct AttendResult {
  std::shared_ptr<const float> output;   // [query tokens, embed_dim], without padding
  std::shared_ptr<const float> weights;  // as WeightsRequest says; null if none were asked for
  // As in attention.proto's TimeBudget.
  int64_t queue_us = 0;
  int64_t compute_us = 0;
  int64_t batch_requests = 0;
  int64_t batch_sequences = 0;
  int64_t batch_tokens = 0;
};

// Everything a batch must know of a request. Valid by construction: whoever makes one has checked each size
// against the others and against the model. The bytes it points at must live until `done` is called.
struct AttendTask {
  std::shared_ptr<const LoadedModel> model;
  InputKind kind = InputKind::kSelf;
  InputRows query;
  InputRows key;                 // empty for kSelf
  InputRows value;               // empty but for kKeyAndValue
  std::vector<int64_t> q_lens;   // one for each sequence, at least 1
  std::vector<int64_t> kv_lens;  // the same; equal to q_lens for kSelf
  int64_t q_tokens = 0;          // sum of q_lens
  int64_t kv_tokens = 0;         // sum of kv_lens
  Visibility visibility;
  ExplicitMask mask;
  WeightsRequest weights;

  int64_t size_bytes = 0;  // memory that the request holds while it waits
  TimePoint arrival;
  TimePoint deadline = TimePoint::max();
  std::shared_ptr<const CancellationToken>
      cancelled;  // never null; shared with whoever hears of the cancellation
  // Called exactly once, on the scheduler's thread or on that of Submit. Must return quickly and not throw.
  std::function<void(absl::StatusOr<AttendResult>)> done;

  int64_t num_sequences() const { return static_cast<int64_t>(q_lens.size()); }
  // What it adds to a batch: rows to project.
  int64_t cost_tokens() const { return kind == InputKind::kSelf ? q_tokens : q_tokens + kv_tokens; }
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ATTEND_TASK_H_
