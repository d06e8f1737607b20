// SPDX-License-Identifier: Apache-2.0
//
// From the bytes of an AttendRequest to the fields that every protocol shares. Tensors are not copied.
#ifndef HEADLIGHT_SERVER_ATTEND_ATTEND_REQUEST_H_
#define HEADLIGHT_SERVER_ATTEND_ATTEND_REQUEST_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "headlight/v1/attention.pb.h"
#include "server/request/request_fields.h"
#include "server/wire/byte_segments.h"

namespace headlight {

// A request whose wire form is sound and nothing more.
struct ParsedAttend {
  v1::AttendRequest request;           // without payloads
  std::vector<ByteSegments> payloads;  // inside the received message
  int64_t size_bytes = 0;              // of the message
};

// INVALID_ARGUMENT as ScanEnvelope, and where protobuf cannot read the rest.
absl::StatusOr<ParsedAttend> ParseAttend(const ByteSegments& message);

// Its fields, which point into `parsed`. INVALID_ARGUMENT: a number that no enumeration of the proto has. RequestFields::payloads: not
// not one payload for each tensor.
absl::StatusOr<RequestFields> FieldsOf(const ParsedAttend& parsed);

// The same of a request that is only described, for an estimate: it brings no payloads. INVALID_ARGUMENT also
// if it does.
absl::StatusOr<RequestFields> DescribedFieldsOf(const v1::AttendRequest& request);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ATTEND_ATTEND_REQUEST_H_
