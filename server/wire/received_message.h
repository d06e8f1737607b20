// SPDX-License-Identifier: Apache-2.0
//
// The bytes of a message that has arrived: keeps gRPC's memory alive and shows it as segments.
#ifndef HEADLIGHT_SERVER_WIRE_RECEIVED_MESSAGE_H_
#define HEADLIGHT_SERVER_WIRE_RECEIVED_MESSAGE_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/slice.h>

#include <vector>

#include "absl/status/statusor.h"
#include "server/wire/byte_segments.h"

namespace headlight {

// Movable; `segments` stays valid.
struct ReceivedMessage {
  std::vector<grpc::Slice> slices;  // small ones hold their bytes themselves, so this vector must not change
  ByteSegments segments;
};

// CANCELLED if the call ended before the bytes had arrived.
absl::StatusOr<ReceivedMessage> Receive(const grpc::ByteBuffer& buffer);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_WIRE_RECEIVED_MESSAGE_H_
