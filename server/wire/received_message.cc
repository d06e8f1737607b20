// SPDX-License-Identifier: Apache-2.0
#include "server/wire/received_message.h"

#include <cstddef>
#include <span>

#include "absl/status/status.h"

namespace headlight {

absl::StatusOr<ReceivedMessage> Receive(const grpc::ByteBuffer& buffer) {
  ReceivedMessage message;
  const grpc::Status status = buffer.Dump(&message.slices);
  // A call that ends before its message has come in full is handed over without one.
  if (!status.ok()) return absl::CancelledError("the caller went away before the request had arrived");
  for (const grpc::Slice& slice : message.slices) {
    message.segments.Append(std::as_bytes(std::span(slice.begin(), slice.size())));
  }
  return message;
}

}  // namespace headlight
