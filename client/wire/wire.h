// SPDX-License-Identifier: Apache-2.0
//
// Between the client's types and the bytes that gRPC carries. Tensor payloads never pass through protobuf: a
// request is its small fields, serialised, followed by one slice per payload; a reply is scanned for its
// payloads and only the rest is parsed. Inside: client.h is the interface for ordinary use, and this one is
// for who sends a request many times, as the load tester does.
#ifndef HEADLIGHT_CLIENT_WIRE_WIRE_H_
#define HEADLIGHT_CLIENT_WIRE_WIRE_H_

#include <grpcpp/support/byte_buffer.h>

#include <string>

#include "absl/status/statusor.h"
#include "client/attend_call.h"

namespace headlight::client {

inline constexpr char kAttendMethod[] = "/headlight.v1.AttentionService/Attend";
inline constexpr char kAttendStreamMethod[] = "/headlight.v1.AttentionService/AttendStream";

// The request in wire form. Tensors are copied once, into slices that belong to the result, because gRPC may
// hold on to them after a call has timed out; copies of the result share these slices. INVALID_ARGUMENT if a
// tensor's shape and its number of values disagree or `dtype` is none of the three; the server judges
// everything else.
absl::StatusOr<grpc::ByteBuffer> EncodeRequest(const AttendCall& call);

// The request without payloads, as EstimateCost takes it. Tensors need shapes alone: their values, if they
// have any, are not looked at. INVALID_ARGUMENT if `dtype` is none of the three.
absl::StatusOr<v1::AttendRequest> DescribeRequest(const AttendCall& call);

// The reply in full: payload bytes are copied once, into its tensors; other types than f32 once more.
// INTERNAL if the bytes are not a reply or its payloads do not match their descriptions; DATA_LOSS if they do
// not match their checksums.
absl::StatusOr<AttendReply> DecodeReply(const grpc::ByteBuffer& bytes,
                                        Checksums checksums = Checksums::kCheck);

// A message of AttendStream: what became of one of its requests.
struct StreamReply {
  std::string request_id;
  absl::StatusOr<AttendReply> reply;  // the server's code and message, or those of DecodeReply
};

// INTERNAL if the bytes are not a reply at all, so that nobody knows whose.
absl::StatusOr<StreamReply> DecodeStreamReply(const grpc::ByteBuffer& bytes,
                                              Checksums checksums = Checksums::kCheck);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_WIRE_WIRE_H_
