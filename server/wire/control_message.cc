// SPDX-License-Identifier: Apache-2.0
#include "server/wire/control_message.h"

#include <grpcpp/support/slice.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace headlight {

absl::Status ReadControlMessage(const grpc::ByteBuffer& message, grpc::protobuf::Message& out) {
  const auto num_bytes = static_cast<int64_t>(message.Length());
  if (num_bytes > kMaxControlBytes) {
    return absl::ResourceExhaustedError(absl::StrCat(out.GetTypeName(), ": got a message of ", num_bytes,
                                                     " bytes, wanted at most ", kMaxControlBytes));
  }
  grpc::ByteBuffer bytes = message;  // shared; the reader wants to change what it reads
  grpc::ProtoBufferReader reader(&bytes);
  if (!reader.status().ok() || !out.ParseFromZeroCopyStream(&reader)) {
    return absl::InvalidArgumentError(
        absl::StrCat(out.GetTypeName(), ": protobuf cannot read its fields; wanted such a message"));
  }
  out.DiscardUnknownFields();
  return absl::OkStatus();
}

grpc::ByteBuffer WriteControlMessage(const grpc::protobuf::Message& message) {
  const std::string bytes = message.SerializeAsString();
  const grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

}  // namespace headlight
