// SPDX-License-Identifier: Apache-2.0
#include "client/rpc/pending_call.h"

#include <grpc/support/time.h>
#include <grpcpp/generic/generic_stub.h>

#include <algorithm>
#include <random>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "client/client.h"
#include "client/rpc/traceparent.h"
#include "client/rpc/trailer.h"
#include "client/wire/refusal.h"
#include "client/wire/wire.h"
#include "headlight/v1/metadata.h"

namespace headlight::client {
namespace {

using SteadyTime = std::chrono::steady_clock::time_point;
using std::chrono::milliseconds;

// After a silence, or UNAVAILABLE, whose server has not said when to come again.
constexpr milliseconds kFirstRest{500};

// How long a pause lasts before it is looked whether another server could do without it.
constexpr milliseconds kLook{20};

// As late as a clock can tell if the timeout is longer than that.
SteadyTime After(milliseconds timeout) {
  const SteadyTime now = std::chrono::steady_clock::now();
  return timeout >= std::chrono::duration_cast<milliseconds>(SteadyTime::max() - now) ? SteadyTime::max()
                                                                                      : now + timeout;
}

double UniformRandom() {
  thread_local std::minstd_rand generator{std::random_device{}()};
  return std::uniform_real_distribution<double>(0, 1)(generator);
}

}  // namespace

CallGate::~CallGate() {
  std::unique_lock lock(mutex_);
  empty_.wait(lock, [this] { return passes_ == 0; });
}

CallGate::Pass::Pass(CallGate& gate) : gate_(gate) {
  const std::lock_guard lock(gate_.mutex_);
  ++gate_.passes_;
}

CallGate::Pass::~Pass() {
  const std::lock_guard lock(gate_.mutex_);
  if (--gate_.passes_ == 0) gate_.empty_.notify_all();
}

PendingCall::PendingCall(CallContext& client, grpc::ByteBuffer request, std::string traceparent,
                         milliseconds timeout, AttendCallback callback)
    : pass_(client.gate),
      client_(client),
      request_(std::move(request)),
      traceparent_(std::move(traceparent)),
      deadline_(After(timeout)),
      callback_(std::move(callback)) {}

void PendingCall::Start() {
  client_.budget.NoteCall(std::chrono::steady_clock::now());
  Attempt();
}

void PendingCall::Cancel() {
  const std::lock_guard lock(mutex_);
  cancelled_ = true;
  if (context_ != nullptr) context_->TryCancel();
  if (pause_ != nullptr) pause_->Cancel();
}

void PendingCall::Attempt() {
  const auto left = deadline_ - std::chrono::steady_clock::now();
  if (left <= left.zero()) return End(absl::DeadlineExceededError("Deadline Exceeded"));
  {
    const std::lock_guard lock(mutex_);
    if (!cancelled_) {
      ++attempts_;
      reply_.Clear();
      context_ = std::make_unique<grpc::ClientContext>();
      // Rounded up, so that no attempt is cut off a moment before the deadline.
      SetTimeout(*context_, std::chrono::ceil<milliseconds>(left));
      SetTraceparent(*context_, traceparent_);
      AnnounceMessage(*context_, static_cast<int64_t>(request_.Length()));
      const ServerPool::Choice choice = client_.pool.Pick(tried_);
      server_ = choice.server;
      server_->CallBegins(std::chrono::steady_clock::now());
      grpc::GenericStub(choice.channel)
          .UnaryCall(context_.get(), kAttendMethod, {}, &request_, &reply_,
                     [self = shared_from_this()](const grpc::Status& status) { self->AttemptEnded(status); });
      LimitAttempt();
      return;
    }
  }
  End(absl::CancelledError("cancelled by the caller"));
}

void PendingCall::AttemptEnded(const grpc::Status& status) {
  const bool given_up = WasGivenUp(status);
  JudgeServer(status, ReadPushback(*context_), given_up);
  if (status.ok()) return End(DecodeReply(reply_, client_.checksums));
  if (given_up) return Attempt();
  if (!TryAgain(status)) End(Refused(status));
}

void PendingCall::JudgeServer(const grpc::Status& status, const Pushback& pushback, bool given_up) {
  server_->CallEnds();
  if (client_.pool.LeadsToAny(*server_)) server_ = client_.pool.AtPeer(context_->peer());
  const SteadyTime now = std::chrono::steady_clock::now();
  const absl::StatusCode code = static_cast<absl::StatusCode>(status.error_code());
  if (given_up) {
    server_->Failed(now, kFirstRest);
  } else if (code == absl::StatusCode::kUnavailable && LacksModel()) {
    server_->Unjudged();  // it is well, for others
  } else if (code == absl::StatusCode::kUnavailable) {
    server_->Failed(now, pushback.delay.value_or(kFirstRest));
  } else if (code == absl::StatusCode::kResourceExhausted && pushback.delay) {
    server_->Failed(now, *pushback.delay);
  } else if (code == absl::StatusCode::kCancelled || code == absl::StatusCode::kDeadlineExceeded) {
    server_->Unjudged();  // these two may be of our making
  } else {
    server_->Answered();
  }
  tried_.push_back(server_);
}

void PendingCall::LimitAttempt() {
  under_way_ = true;
  given_up_ = false;
  patience_.reset();
  const milliseconds timeout = client_.retry.attempt_timeout;
  if (timeout.count() == 0 || attempts_ >= client_.retry.max_attempts) return;
  // Not a deadline of the attempt: the server would believe that its answer is of no use after it.
  patience_ = std::make_unique<grpc::Alarm>();
  patience_->Set(
      gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(timeout.count(), GPR_TIMESPAN)),
      [weak = weak_from_this(), attempt = attempts_](bool expired) {
        const auto self = weak.lock();
        if (expired && self != nullptr) self->GiveUp(attempt);
      });
}

void PendingCall::GiveUp(int attempt) {
  const std::lock_guard lock(mutex_);
  if (attempt != attempts_ || !under_way_ || cancelled_ || given_up_) return;
  if (!client_.budget.TakeRetry(std::chrono::steady_clock::now())) return;
  given_up_ = true;
  context_->TryCancel();
}

bool PendingCall::WasGivenUp(const grpc::Status& status) {
  const std::lock_guard lock(mutex_);
  under_way_ = false;
  if (!given_up_) return false;
  if (!cancelled_ && status.error_code() == grpc::StatusCode::CANCELLED) return true;
  client_.budget.GiveBackRetry();  // its end was faster than we
  return false;
}

bool PendingCall::LacksModel() const {
  return ReadTrailer(*context_, v1::kReasonTrailer) == v1::kReasonModelUnavailable;
}

bool PendingCall::TryAgain(const grpc::Status& status) {
  const std::lock_guard lock(mutex_);
  if (cancelled_) return false;
  const auto code = static_cast<absl::StatusCode>(status.error_code());
  auto delay = DelayBeforeRetry(client_.retry, attempts_, code, ReadPushback(*context_), UniformRandom());
  if (!delay) return false;
  const bool has_other = client_.pool.HasOther(tried_);
  if (has_other) delay = milliseconds(0);  // who failed us is not asked again
  // All of them lack it. Behind one address there may be more.
  if (LacksModel() && client_.pool.HasSeveral() && !client_.pool.HasUntried(tried_)) return false;
  const SteadyTime now = std::chrono::steady_clock::now();
  // What the server said is worth more than that the time ran out while we waited.
  if (now + *delay >= deadline_) return false;
  if (LacksModel() && has_other) {
    client_.budget.NoteFreeRetry();  // to refuse it took nothing
  } else if (!client_.budget.TakeRetry(now)) {
    return false;
  }
  again_at_ = now + *delay;
  Pause(*delay);
  return true;
}

void PendingCall::Pause(milliseconds delay) {
  if (client_.pool.HasSeveral()) delay = std::min(delay, kLook);
  kept_ = shared_from_this();
  pause_ = std::make_unique<grpc::Alarm>();
  pause_->Set(gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(delay.count(), GPR_TIMESPAN)),
              [this](bool) { PauseOver(); });
}

absl::Status PendingCall::Refused(const grpc::Status& status) {
  const std::lock_guard lock(mutex_);
  const Pushback pushback = ReadPushback(*context_);
  const Refusal refusal{.retry_delay = pushback.delay.value_or(milliseconds(0)),
                        .reason = ReadTrailer(*context_, v1::kReasonTrailer).value_or("")};
  return WithRefusal(ToAbslStatus(status), refusal);
}

void PendingCall::PauseOver() {
  std::shared_ptr<PendingCall> self;
  {
    const std::lock_guard lock(mutex_);
    self = std::move(kept_);
    const auto left = std::chrono::ceil<milliseconds>(again_at_ - std::chrono::steady_clock::now());
    if (left.count() > 0 && !cancelled_ && !client_.pool.HasOther(tried_)) return Pause(left);
  }
  self->Attempt();
}

void PendingCall::End(absl::StatusOr<AttendReply> reply) {
  const AttendCallback callback = std::exchange(callback_, nullptr);
  callback(std::move(reply));
}

}  // namespace headlight::client
