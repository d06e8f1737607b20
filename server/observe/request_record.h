// SPDX-License-Identifier: Apache-2.0
//
// All that is known of one request when it is over: filled in on its way, told once.
#ifndef HEADLIGHT_SERVER_OBSERVE_REQUEST_RECORD_H_
#define HEADLIGHT_SERVER_OBSERVE_REQUEST_RECORD_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace headlight {

// What never came to be stays 0 or empty: a request that was refused has no batch.
struct RequestRecord {
  const char* service = "";  // of the RPC: "headlight.v1.AttentionService", ...
  std::string method;        // "Attend", "AttendStream", ...
  std::string tenant;        // on whose behalf; empty where callers have no names
  std::string request_id;    // as the caller chose it: any bytes
  std::string model;         // that was asked for; known to exist only if `version` is set
  std::string version;       // that it was for

  int64_t tokens = 0;  // of all sequences
  int64_t sequences = 0;
  int64_t bytes_in = 0;      // of its message
  int64_t bytes_out = 0;     // of its reply
  int64_t bytes_copied = 0;  // on its way through the batch, see BatchResult

  int64_t queue_us = 0;  // from arrival to the start of its batch, or to its end without one
  int64_t pack_us = 0;   // of its batch, as are the next two
  int64_t compute_us = 0;
  int64_t unpack_us = 0;
  int64_t encode_us = 0;     // of its reply
  int64_t total_us = 0;      // from the arrival of its last byte to the handing over of its reply
  int64_t predicted_us = 0;  // what it alone was predicted to take

  absl::StatusCode code = absl::StatusCode::kOk;
  std::string reason;   // why it was refused, in one word ("queue_full"); empty if it was not
  std::string message;  // of its error

  std::string traceparent;  // of this request's own span; empty where the caller sent none
  std::string parent_span;  // the span of the caller

  int64_t batch_requests = 0;  // in its batch, itself included
  int64_t batch_sequences = 0;
  int64_t batch_tokens = 0;
};

// Whether the code says that this server went wrong, rather than its caller or its load.
inline bool IsOurFault(absl::StatusCode code) {
  return code == absl::StatusCode::kInternal || code == absl::StatusCode::kDataLoss ||
         code == absl::StatusCode::kUnknown;
}

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OBSERVE_REQUEST_RECORD_H_
