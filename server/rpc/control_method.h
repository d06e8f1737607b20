// SPDX-License-Identifier: Apache-2.0
//
// Methods about the server and its models, as what serves them sees them: bytes in, bytes out. Made of
// functions from request to response, so that a service knows nothing of how its messages travel.
#ifndef HEADLIGHT_SERVER_RPC_CONTROL_METHOD_H_
#define HEADLIGHT_SERVER_RPC_CONTROL_METHOD_H_

#include <grpcpp/support/byte_buffer.h>

#include <functional>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/security/identity.h"
#include "server/wire/control_message.h"

namespace headlight {

// Immutable; called from many threads at once.
struct ControlMethod {
  using Who = std::shared_ptr<const Identity>;
  // Called once, perhaps before `answer` returns.
  using Reply = std::function<void(absl::StatusOr<grpc::ByteBuffer> response)>;

  bool is_for_anybody = false;  // and `who` is null then
  // Nobody has looked at the size of `request`. Replies with an error as ReadControlMessage.
  std::function<void(const Who& who, const grpc::ByteBuffer& request, Reply reply)> answer;
};

// What `answer`, a function of a Request and a Response that returns a status, makes of `message`.
template <typename Request, typename Response, typename Answer>
absl::StatusOr<grpc::ByteBuffer> AnswerMessage(const grpc::ByteBuffer& message, const Answer& answer) {
  Request request;
  Response response;
  absl::Status status = ReadControlMessage(message, request);
  if (status.ok()) status = answer(request, response);
  if (!status.ok()) return status;
  return WriteControlMessage(response);
}

// A method of `service`, which must live on, for callers whom the gate admits.
template <typename Service, typename Request, typename Response>
ControlMethod MethodOf(const Service& service,
                       absl::Status (Service::*method)(const Identity&, const Request&, Response&) const) {
  return {.answer = [&service, method](const ControlMethod::Who& who, const grpc::ByteBuffer& message,
                                       const ControlMethod::Reply& reply) {
    reply(AnswerMessage<Request, Response>(message, [&](const Request& request, Response& response) {
      return (service.*method)(*who, request, response);
    }));
  }};
}

// One for anybody: probes have no token.
template <typename Service, typename Request, typename Response>
ControlMethod MethodOf(const Service& service,
                       absl::Status (Service::*method)(const Request&, Response&) const) {
  return {.is_for_anybody = true,
          .answer = [&service, method](const ControlMethod::Who&, const grpc::ByteBuffer& message,
                                       const ControlMethod::Reply& reply) {
            reply(AnswerMessage<Request, Response>(message, [&](const Request& request, Response& response) {
              return (service.*method)(request, response);
            }));
          }};
}

// One that answers later, by calling its last argument.
template <typename Service, typename Request, typename Response>
ControlMethod MethodOf(const Service& service,
                       void (Service::*method)(const ControlMethod::Who&, const Request&,
                                               const std::shared_ptr<Response>&,
                                               std::function<void(absl::Status)>) const) {
  return {.answer = [&service, method](const ControlMethod::Who& who, const grpc::ByteBuffer& message,
                                       ControlMethod::Reply reply) {
    Request request;
    const absl::Status status = ReadControlMessage(message, request);
    if (!status.ok()) return reply(status);
    const auto response = std::make_shared<Response>();
    (service.*method)(who, request, response, [response, reply = std::move(reply)](const absl::Status& done) {
      done.ok() ? reply(WriteControlMessage(*response)) : reply(done);
    });
  }};
}

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_CONTROL_METHOD_H_
