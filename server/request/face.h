// SPDX-License-Identifier: Apache-2.0
//
// What an exchange must know of a protocol: how its messages are read and written, and in which order replies
// go out.
#ifndef HEADLIGHT_SERVER_REQUEST_FACE_H_
#define HEADLIGHT_SERVER_REQUEST_FACE_H_

#include <grpcpp/support/byte_buffer.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/batch/batch_result.h"
#include "server/request/exchange_rules.h"
#include "server/request/reply_plan.h"
#include "server/request/request_fields.h"
#include "server/schedule/ticket.h"
#include "server/wire/byte_segments.h"

namespace headlight {

// A message that was read: the fields, and what they point at. It is kept until the reply is written, longer
// than the message.
class FaceRequest {
 public:
  virtual ~FaceRequest() = default;

  // Brings what does not lie in the message, or not in the form that fields have, and completes the fields
  // with it. Once, before they are used.
  virtual absl::Status Fetch(const std::string& /*tenant*/) { return absl::OkStatus(); }

  // What Fetch brought is needed no longer.
  virtual void LetGo() {}

  RequestFields fields;
  absl::Status unreadable;  // what is wrong with the fields, of which only the id then counts
};

// Where the time of a request went, beside what its BatchResult says.
struct ReplyTimes {
  int64_t queue_us = 0;
  int64_t total_us = 0;
  int64_t predicted_us = 0;
  int compute_threads = 0;
};

// Immutable; its functions are called from many threads at once.
class Face {
 public:
  virtual ~Face() = default;

  // Of the RPC, for logs and metrics: "headlight.v1.AttentionService", "Attend".
  virtual const char* service() const = 0;
  virtual const char* method() const = 0;

  virtual ExchangeRules rules() const = 0;

  // `message` must live on. INVALID_ARGUMENT: it is none of this protocol's requests.
  virtual absl::StatusOr<std::unique_ptr<FaceRequest>> Read(const ByteSegments& message) const = 0;

  // To `request`, whose message is gone by now.
  virtual absl::StatusOr<grpc::ByteBuffer> WriteReply(const FaceRequest& request, const ReplyPlan& plan,
                                                      const BatchResult& result,
                                                      const ReplyTimes& times) const = 0;

  // A message that tells of the error, beside which the exchange goes on. Nothing: the protocol has none, or
  // it could not be told whose request it was; the exchange then ends with the error.
  virtual std::optional<grpc::ByteBuffer> WriteError(const FaceRequest* request,
                                                     const Refusal& refusal) const = 0;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_REQUEST_FACE_H_
