// SPDX-License-Identifier: Apache-2.0
#include "server/wire/grpc_status.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <cstddef>
#include <string>

namespace headlight {
namespace {

using google::protobuf::io::CodedOutputStream;

constexpr uint32_t Tag(uint32_t field, uint32_t wire_type) { return field << 3 | wire_type; }

// One field of a message: a number, or bytes.
std::string NumberField(uint32_t field, uint64_t value) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream to(&bytes);
    CodedOutputStream out(&to);
    out.WriteTag(Tag(field, 0));
    out.WriteVarint64(value);
  }
  return bytes;
}
std::string BytesField(uint32_t field, const std::string& value) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream to(&bytes);
    CodedOutputStream out(&to);
    out.WriteTag(Tag(field, 2));
    out.WriteVarint64(value.size());
    out.WriteString(value);
  }
  return bytes;
}

// A serialised google.rpc.Status that holds one google.rpc.RetryInfo. Field by field, because Debian packages no
// definitions of them and ours would clash with those that a program may bring.
//   Status {code = 1, message = 2, repeated Any details = 3}; Any {type_url = 1, value = 2}
//   RetryInfo {Duration retry_delay = 1}; Duration {seconds = 1, nanos = 2}
std::string RetryDetails(const grpc::Status& status, int64_t delay_ms) {
  const std::string duration =
      NumberField(1, delay_ms / 1000) + NumberField(2, delay_ms % 1000 * 1'000'000);
  const std::string any =
      BytesField(1, "type.googleapis.com/google.rpc.RetryInfo") + BytesField(2, BytesField(1, duration));
  return NumberField(1, status.error_code()) + BytesField(2, status.error_message()) + BytesField(3, any);
}

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status) {
  constexpr size_t kMaxMessageBytes = 2048;
  if (status.ok()) return grpc::Status::OK;
  // Both enumerations follow google.rpc.Code number by number.
  const auto code = static_cast<grpc::StatusCode>(status.raw_code());
  std::string message(status.message());
  if (message.size() > kMaxMessageBytes) message = message.substr(0, kMaxMessageBytes) + "...";
  return grpc::Status(code, message);
}

grpc::Status ToGrpcStatus(const Refusal& refusal) {
  grpc::Status status = ToGrpcStatus(refusal.status);
  const int64_t delay_ms = RetryDelayMs(refusal);
  if (status.ok() || delay_ms == 0) return status;
  return grpc::Status(status.error_code(), status.error_message(), RetryDetails(status, delay_ms));
}

int64_t RetryDelayMs(const Refusal& refusal) {
  return refusal.retry_after_us <= 0 ? 0 : (refusal.retry_after_us + 999) / 1000;
}

}  // namespace headlight
