// SPDX-License-Identifier: Apache-2.0
#include "client/load/load_call.h"

#include <grpc/support/time.h>

#include <algorithm>
#include <chrono>
#include <string>

#include "client/client.h"
#include "client/wire/wire.h"

namespace headlight::client {
namespace {

void Increment(std::atomic<int64_t>& counter) { counter.fetch_add(1, std::memory_order_relaxed); }

}  // namespace

SentRequest LoadCall::Start(grpc::GenericStub& stub, const PreparedRequest& request,
                            const RequestChoice& choice, LoadClock::time_point intended,
                            grpc::CompletionQueue& queue) {
  static const std::string* const method = new std::string(kAttendMethod);  // once, not for each call
  request_.intended = intended;
  request_.timeout = choice.timeout;
  request_.index = choice.request;
  request_.tokens = request.tokens;
  request_.bytes = static_cast<int64_t>(request.bytes.Length());
  reply_.Clear();
  {
    const std::lock_guard lock(mutex_);
    context_.emplace();
    in_flight_ = true;
    ++starts_;
    cancelled_as_planned_ = false;
  }
  request_.sent = LoadClock::now();
  // The caller's patience began at the intended time.
  const std::chrono::nanoseconds left = std::max<std::chrono::nanoseconds>(
      choice.timeout - (request_.sent - intended), std::chrono::milliseconds(1));
  context_->set_deadline(gpr_time_from_nanos(left.count(), GPR_TIMESPAN));
  AnnounceMessage(*context_, request_.bytes);
  reader_ = stub.PrepareUnaryCall(&*context_, *method, request.bytes, &queue);
  const SentRequest sent = request_;
  reader_->StartCall();
  reader_->Finish(&reply_, &status_, this);
  return sent;
}

bool LoadCall::Count(LoadClock::time_point now, bool unfinished, LatencyRecorder& recorder,
                     LoadShared& shared) {
  bool cancelled = false;
  {
    const std::lock_guard lock(mutex_);
    in_flight_ = false;
    cancelled = cancelled_as_planned_;
    reader_.reset();
    context_.reset();
  }
  if (status_.ok()) {
    if (const std::optional<ReplyFacts> facts = ScanReply(reply_)) {
      Increment(shared.replies);
      recorder.Replied(request_, now, *facts);
      if (shared.plan.on_reply) shared.plan.on_reply(request_.index, now - request_.sent, *facts);
      return true;
    }
    recorder.Refused(request_, now, absl::StatusCode::kInternal, "the server's reply is malformed");
  } else if (status_.error_code() == grpc::StatusCode::CANCELLED && (cancelled || unfinished)) {
    if (cancelled) {
      recorder.Cancelled(request_);
      return true;  // as we wished
    }
    recorder.Unfinished(request_);
    return false;
  } else {
    recorder.Refused(request_, now, static_cast<absl::StatusCode>(status_.error_code()),
                     status_.error_message());
  }
  Increment(shared.refused);
  return false;
}

void LoadCall::Cancel(uint64_t start, bool planned) {
  const std::lock_guard lock(mutex_);
  if (!in_flight_ || starts_ != start) return;
  cancelled_as_planned_ = planned;
  context_->TryCancel();
}

void LoadCall::CancelAny() {
  const std::lock_guard lock(mutex_);
  if (in_flight_) context_->TryCancel();
}

void CancelList::CancelDue(LoadClock::time_point now) {
  while (!entries_.empty() && entries_.top().at <= now) {
    entries_.top().call->Cancel(entries_.top().start, /*planned=*/true);
    entries_.pop();
  }
}

LoadClock::time_point CancelList::NextAt(LoadClock::time_point otherwise) const {
  return entries_.empty() ? otherwise : std::min(entries_.top().at, otherwise);
}

}  // namespace headlight::client
