// SPDX-License-Identifier: Apache-2.0
//
// Between the bytes of an RPC and the scheduler's tasks: reads and validates AttendRequest, writes
// AttendResponse. Every size is checked here against every other and against the model, so nothing behind has
// to. Tensors are not copied, neither in nor out.
#ifndef HEADLIGHT_SERVER_ATTEND_CODEC_H_
#define HEADLIGHT_SERVER_ATTEND_CODEC_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/slice.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/tensor/shape.h"
#include "headlight/v1/attention.pb.h"
#include "server/batch/attend_task.h"
#include "server/models/registry.h"
#include "server/wire/byte_segments.h"

namespace headlight {

// The bytes of a received message: keeps gRPC's memory alive and shows it as segments. Movable; `segments`
// stays valid.
struct ReceivedMessage {
  std::vector<grpc::Slice> slices;  // small ones hold their bytes themselves, so this vector must not change
  ByteSegments segments;
};

// CANCELLED if the call ended before the bytes had arrived.
absl::StatusOr<ReceivedMessage> Receive(const grpc::ByteBuffer& buffer);

// A request whose wire form is sound and nothing more.
struct ParsedAttend {
  v1::AttendRequest request;           // without payloads
  std::vector<ByteSegments> payloads;  // inside the received message
  int64_t size_bytes = 0;              // of the message
};

// INVALID_ARGUMENT as ScanEnvelope, and where protobuf cannot read the rest.
absl::StatusOr<ParsedAttend> ParseAttend(const ByteSegments& message);

// What a reply must know beside the result.
struct ReplyLayout {
  std::shared_ptr<const LoadedModel> model;
  std::string request_id;
  DType dtype = DType::kF32;  // of output, weights and received_mass
  Shape output;
  Shape weights;  // empty if there are none, and so are the next two
  Shape weights_keys;
  Shape received_mass;
  int64_t padded_len = 0;       // 0: output rows follow each other; else rows of output between two sequences
  std::vector<int64_t> q_lens;  // real rows of each sequence; used with padded_len only
};

// What the server allows and holds.
struct CodecContext {
  const ModelRegistry& registry;
  int64_t max_message_bytes;
};

struct DecodedAttend {
  AttendTask task;  // arrival, deadline, cancelled and done are left to the caller
  ReplyLayout reply;
};

// Whether requests to a model may bring keys and values: layers of a stack attend to their own input.
bool TakesKey(const ModelConfig& config);

// Checks all that attention.proto promises and makes the task. INVALID_ARGUMENT, NOT_FOUND and UNIMPLEMENTED
// as that file says; the message names the field, what it got and what it wanted.
absl::StatusOr<DecodedAttend> DecodeAttend(const ParsedAttend& parsed, const CodecContext& context);

// The reply's message, ready to send. Its slices hold on to the result's memory until gRPC has sent them.
// `budget` is filled in by the caller.
grpc::ByteBuffer EncodeAttend(const ReplyLayout& layout, const AttendResult& result,
                              const v1::TimeBudget& budget);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ATTEND_CODEC_H_
