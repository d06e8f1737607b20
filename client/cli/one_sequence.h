// SPDX-License-Identifier: Apache-2.0
//
// One sequence out of a request of several.
#ifndef HEADLIGHT_CLIENT_CLI_ONE_SEQUENCE_H_
#define HEADLIGHT_CLIENT_CLI_ONE_SEQUENCE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "client/attend_call.h"

namespace headlight::client {

struct SequenceExtent {
  int64_t num_sequences = 1;  // of the request
  int64_t q_len = 0;
  int64_t kv_len = 0;          // without what the model appends
  bool self_attention = true;  // queries and keys are the same tokens
};

// INVALID_ARGUMENT if the request has no such sequence or its shapes make no sense.
absl::StatusOr<SequenceExtent> ExtentOf(const AttendCall& call, int64_t sequence);

// The request of this sequence alone: its answer has the same bits, without what the others would cost. A
// request that has no other is given back as it is. Refers to the tensors of `call`, but for a mask, of which
// the sequence's part is copied into `mask`. INVALID_ARGUMENT as above.
absl::StatusOr<AttendCall> CallOfSequence(const AttendCall& call, int64_t sequence, Mask& mask);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_CLI_ONE_SEQUENCE_H_
