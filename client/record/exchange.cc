// SPDX-License-Identifier: Apache-2.0
#include "client/record/exchange.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "client/wire/wire.h"

namespace headlight::client {
namespace {

using std::chrono::milliseconds;

// The reply's checksums, and the model and kernel that made them. What a reply does not say of its model, and
// the server's version, GetModel says of the same name and version; no request.
absl::StatusOr<v1::RecordedExchange> DescribeReply(const Client& client, const AttendReply& reply,
                                                   milliseconds timeout) {
  if (reply.checksums.empty()) {
    return absl::FailedPreconditionError(
        "the server's reply has no payload_crc32c, so there is nothing to compare later");
  }
  grpc::ClientContext context;
  SetTimeout(context, timeout);
  v1::GetModelRequest request;
  request.set_model(reply.model);
  request.set_model_version(reply.model_version);
  v1::GetModelResponse response;
  const grpc::Status status =
      v1::AttentionService::NewStub(client.channel())->GetModel(&context, request, &response);
  if (!status.ok()) return ToAbslStatus(status);
  v1::RecordedExchange exchange;
  *exchange.mutable_model() = std::move(*response.mutable_model());
  exchange.mutable_model()->set_kernel(reply.time_budget.kernel());
  exchange.set_server_version(response.server_version());
  for (const PayloadChecksum& checksum : reply.checksums) {
    v1::RecordedPayload& payload = *exchange.add_payloads();
    payload.set_field(checksum.field);
    payload.set_crc32c(checksum.crc32c);
  }
  return exchange;
}

std::string Flattened(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  std::string bytes;
  if (!buffer.Dump(&slices).ok()) return bytes;
  bytes.reserve(buffer.Length());
  for (const grpc::Slice& slice : slices) bytes.append(slice.begin(), slice.end());
  return bytes;
}

}  // namespace

absl::StatusOr<v1::RecordedExchange> MakeExchange(const Client& client, const AttendCall& call,
                                                  const AttendReply& reply, milliseconds timeout) {
  const absl::StatusOr<grpc::ByteBuffer> request = EncodeRequest(call);
  if (!request.ok()) return request.status();
  absl::StatusOr<v1::RecordedExchange> exchange = DescribeReply(client, reply, timeout);
  if (exchange.ok() && !exchange->mutable_request()->ParseFromString(Flattened(*request))) {
    return absl::InternalError("the request cannot be read back");
  }
  return exchange;
}

absl::StatusOr<v1::RecordedExchange> RepeatRequest(const Client& client, const v1::AttendRequest& request,
                                                   milliseconds timeout) {
  const absl::StatusOr<AttendReply> reply = client.AttendMessage(request, timeout);
  if (!reply.ok()) return reply.status();
  return DescribeReply(client, *reply, timeout);
}

}  // namespace headlight::client
