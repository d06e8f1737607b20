// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/control_call.h"

#include <cstdint>
#include <utility>

#include "server/rpc/guarded.h"
#include "server/rpc/refusals.h"
#include "server/wire/control_message.h"
#include "server/wire/grpc_status.h"

namespace headlight {

ControlCall* ControlCall::Begin(const Pipeline& pipeline, ArrivalWatch& arrivals, const ControlMethod& method,
                                grpc::CallbackServerContext& context) {
  const auto call = std::make_shared<ControlCall>(pipeline, arrivals, method, context);
  call->self_ = call;
  call->Start();
  return call.get();
}

ControlCall::ControlCall(const Pipeline& pipeline, ArrivalWatch& arrivals, const ControlMethod& method,
                         grpc::CallbackServerContext& context, const std::string& peer)
    : pipeline_(pipeline),
      arrivals_(arrivals),
      method_(method),
      context_(context),
      connection_(arrivals.Find(peer)),
      conduct_(pipeline, context, peer, method.is_for_anybody) {}

void ControlCall::Start() {
  if (const absl::Status admitted = Admit(); !admitted.ok()) return Finish(ToGrpcStatus(admitted));
  const std::lock_guard lock(mutex_);
  reading_ = true;
  arrivals_.Expect(*connection_, self_, /*leased_bytes=*/0, kMaxControlBytes);
  StartRead(&message_);
}

absl::Status ControlCall::Admit() {
  if (method_.is_for_anybody) return absl::OkStatus();
  absl::StatusOr<ControlMethod::Who> who = pipeline_.gate.Admit(context_.client_metadata());
  if (!who.ok()) return who.status();
  who_ = *std::move(who);
  return absl::OkStatus();
}

void ControlCall::OnReadDone(bool ok) {
  const int64_t message_bytes = ok ? static_cast<int64_t>(message_.Length()) : 0;
  arrivals_.End(*connection_, *this, message_bytes);
  conduct_.MessageCame(message_bytes);
  if (!TakeMessage(ok)) return;
  if (!ok) return Reply(EndedEarly().status);
  // The token may have been taken away since the call began.
  if (const absl::Status admitted = Admit(); !admitted.ok()) return Reply(admitted);
  grpc::ByteBuffer message;  // goes when it was read, even if the answer comes later
  message.Swap(&message_);
  const absl::Status thrown = Guarded("answer", [&] {
    method_.answer(who_, message,
                   [this](absl::StatusOr<grpc::ByteBuffer> response) { Reply(std::move(response)); });
    return absl::OkStatus();
  });
  if (!thrown.ok()) Reply(thrown);
}

bool ControlCall::TakeMessage(bool ok) {
  const std::lock_guard lock(mutex_);
  was_read_ = ok;
  return std::exchange(reading_, false);
}

void ControlCall::Reply(absl::StatusOr<grpc::ByteBuffer> response) {
  if (!response.ok()) return Finish(ToGrpcStatus(response.status()));
  response_ = *std::move(response);
  StartWriteAndFinish(&response_, grpc::WriteOptions(), grpc::Status::OK);
}

void ControlCall::EndReading(absl::Status why) {
  {
    const std::lock_guard lock(mutex_);
    if (!std::exchange(reading_, false)) return;
  }
  const Refusal refusal{std::move(why), kReasonMemory, kMemoryRetryUs};
  AddTrailers(refusal, context_);
  Finish(ToGrpcStatus(refusal));
}

void ControlCall::BreakOff() {
  const std::lock_guard lock(mutex_);
  if (!done_) context_.TryCancel();
}

void ControlCall::OnCancel() {
  const std::lock_guard lock(mutex_);
  cancelled_ = true;
}

void ControlCall::OnDone() {
  const std::shared_ptr<ControlCall> self = std::move(self_);
  bool cancelled = false, was_read = false;
  {
    const std::lock_guard lock(mutex_);
    done_ = true;
    cancelled = cancelled_;
    was_read = was_read_;
  }
  arrivals_.End(*connection_, *this, 0);
  conduct_.Ended(cancelled, was_read);
}

}  // namespace headlight
