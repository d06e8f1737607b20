// SPDX-License-Identifier: Apache-2.0
//
// Messages of methods about the server and its models: they carry no tensors, so they are small. Unknown
// fields become some 30 times as large in protobuf's memory, so a message is measured before it is parsed.
#ifndef HEADLIGHT_SERVER_WIRE_CONTROL_MESSAGE_H_
#define HEADLIGHT_SERVER_WIRE_CONTROL_MESSAGE_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/proto_buffer_reader.h>

#include <cstdint>

#include "absl/status/status.h"

namespace headlight {

// Of what is asked. Names take a few hundred bytes; an estimate's 30,000 lengths of sequences fit too.
inline constexpr int64_t kMaxControlBytes = int64_t{64} << 10;

// Parses `message`. `out` has no unknown fields. RESOURCE_EXHAUSTED: it is larger than
// kMaxControlBytes; nothing of it was parsed. INVALID_ARGUMENT: it is no such message.
absl::Status ReadControlMessage(const grpc::ByteBuffer& message, grpc::protobuf::Message& out);

grpc::ByteBuffer WriteControlMessage(const grpc::protobuf::Message& message);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_WIRE_CONTROL_MESSAGE_H_
