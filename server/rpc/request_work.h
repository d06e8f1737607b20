// SPDX-License-Identifier: Apache-2.0
//
// One request between the exchange and the scheduler: read and checked on the way in, written and logged on
// the way out.
#ifndef HEADLIGHT_SERVER_RPC_REQUEST_WORK_H_
#define HEADLIGHT_SERVER_RPC_REQUEST_WORK_H_

#include <grpcpp/support/byte_buffer.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "server/observe/request_record.h"
#include "server/observe/trace_context.h"
#include "server/request/face.h"
#include "server/request/reply_plan.h"
#include "server/rpc/pipeline.h"
#include "server/schedule/clock.h"
#include "server/schedule/ticket.h"
#include "server/security/identity.h"

namespace headlight {

// What all requests of an exchange have in common.
struct CallFacts {
  TimePoint deadline = TimePoint::max();
  std::shared_ptr<const Identity> identity;  // null: nobody that may call
  std::optional<TraceContext> trace;         // the caller's
  bool may_be_held_back = false;  // a stream: requests without a deadline wait rather than being refused
};

// Not thread-safe: one thing after the other.
class RequestWork {
 public:
  // The request arrives now. All of it must outlive this, `facts` only the call.
  RequestWork(const Pipeline& pipeline, const Face& face, const CallFacts& facts);

  // Reads and checks the message, for which `memory` was reserved before its size was known. A ticket that is
  // ready but for its `done`, or why there is none; RESOURCE_EXHAUSTED: there is no memory for it now.
  absl::StatusOr<std::unique_ptr<Ticket>> MakeTicket(const grpc::ByteBuffer& message, Lease memory);

  // Why it is too much for now what the caller asks for with `ticket`, if it is.
  std::optional<Refusal> TakeOfRate(const Ticket& ticket);

  // The reply to a ticket that has come back, or why there is none.
  absl::StatusOr<grpc::ByteBuffer> TakeReply(std::unique_ptr<Ticket> ticket, const Outcome& outcome);

  // What the caller is told of a refusal. The request is over with it, as it is with TakeReply's reply: its
  // record is told.
  Refusal Explain(Refusal refusal);

  // A message that tells it and beside which the exchange goes on, if the protocol has one.
  std::optional<grpc::ByteBuffer> WriteError(const Refusal& refusal) const;

 private:
  TimePoint Deadline(int64_t timeout_us) const;
  std::string NameOfRequest();  // the caller's id, or else one of ours; safe to print
  void TellRecord();

  const Pipeline& pipeline_;
  const Face& face_;
  const CallFacts facts_;
  const TimePoint arrival_;
  std::unique_ptr<FaceRequest> request_;  // what of it must be known for replies; null before it is read
  ReplyPlan plan_;
  RequestRecord record_;
  double taken_s_ = 0;  // of the caller's rate
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_REQUEST_WORK_H_
