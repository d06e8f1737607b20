// SPDX-License-Identifier: Apache-2.0
//
// First stop of a request: takes a protobuf message apart without copying its tensors. The payload field is
// recorded in place; every other top-level field is copied into a small contiguous message, the envelope,
// which the generated parser then reads. Works on any message whose tensors are one top-level `repeated
// bytes` field, or one field inside of the messages of a top-level one.
#ifndef HEADLIGHT_SERVER_WIRE_ENVELOPE_H_
#define HEADLIGHT_SERVER_WIRE_ENVELOPE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/wire/byte_segments.h"

namespace headlight {

// What the scanner must know of a message type.
struct EnvelopeFormat {
  std::string message_name;                       // for error messages
  uint32_t payload_field = 0;                     // number of the `repeated bytes` field
  int64_t max_envelope_bytes = int64_t{4} << 20;  // all other fields together; room for 10^6 sequence lengths
  int64_t max_payloads = 16;
  const char* payloads_name = "payloads";  // of the field, for error messages
  // A repeated message field of which one field is left in place as well; 0: there is none.
  uint32_t part_field = 0;
  uint32_t part_payload_field = 0;
  const char* part_payload_name = "";
};

struct Envelope {
  std::string fields;                  // the message without its payloads, fit for ParseFromArray
  std::vector<ByteSegments> payloads;  // in the order of the wire, seen inside the scanned message
  // Of each message of part_field, in the order of the wire, its payload; nothing where it has none.
  std::vector<std::optional<ByteSegments>> part_payloads;
};

// Splits `message`. Fields may come in any order, repeatedly, and need not be known; memory used is bounded
// by the limits of `format`, whatever the bytes are. INVALID_ARGUMENT, with the offset of the trouble:
// truncated, a malformed tag or length, a group or unknown wire type, payloads of the wrong wire type, more
// payloads or parts than the limits allow, two payloads of one part. What lies inside the other fields is not
// looked at.
absl::StatusOr<Envelope> ScanEnvelope(const ByteSegments& message, const EnvelopeFormat& format);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_WIRE_ENVELOPE_H_
