// SPDX-License-Identifier: Apache-2.0
//
// What a load test reads of a reply: its time budget, and whether its payloads have the bytes that they
// should. Everything else is skipped where it lies, because a tester that parses replies measures itself.
#ifndef HEADLIGHT_CLIENT_WIRE_REPLY_SCAN_H_
#define HEADLIGHT_CLIENT_WIRE_REPLY_SCAN_H_

#include <grpcpp/support/byte_buffer.h>

#include <cstdint>
#include <optional>

namespace headlight::client {

struct ReplyFacts {
  int64_t bytes = 0;  // of the message
  // Of its time budget; 0 without one.
  int64_t queue_us = 0;
  int64_t compute_us = 0;
  int64_t total_us = 0;
  int64_t pack_us = 0;
  int64_t unpack_us = 0;
  int64_t batch_requests = 0;
  int64_t batch_tokens = 0;
};

// Nothing if the bytes are no AttendResponse, or one without an output, or if its payloads are not one for
// each tensor with as many bytes as its shape and dtype say. What the bytes of payloads are is not looked at.
// `reply` is mutable for gRPC's reader; its bytes stay.
std::optional<ReplyFacts> ScanReply(grpc::ByteBuffer& reply);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_WIRE_REPLY_SCAN_H_
