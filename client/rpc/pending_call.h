// SPDX-License-Identifier: Apache-2.0
//
// One Attend under way: attempts, the pauses between them, and one deadline over all of it.
#ifndef HEADLIGHT_CLIENT_RPC_PENDING_CALL_H_
#define HEADLIGHT_CLIENT_RPC_PENDING_CALL_H_

#include <grpcpp/alarm.h>
#include <grpcpp/client_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/status.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/statusor.h"
#include "client/attend_call.h"
#include "client/retry.h"
#include "client/rpc/retry_budget.h"
#include "client/rpc/server_pool.h"

namespace headlight::client {

// Counts the calls of an owner that must not go before them: the last reference to a channel must not be
// dropped on a thread that serves the channel, which would then wait for itself. Thread-safe.
class CallGate {
 public:
  CallGate() = default;
  CallGate(const CallGate&) = delete;
  CallGate& operator=(const CallGate&) = delete;
  ~CallGate();  // waits until every pass is gone

  class Pass {
   public:
    explicit Pass(CallGate& gate);
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;
    ~Pass();

   private:
    CallGate& gate_;
  };

 private:
  std::mutex mutex_;
  std::condition_variable empty_;
  int64_t passes_ = 0;  // guarded by mutex_
};

// What the calls of a client share; outlives them.
struct CallContext {
  ServerPool pool;
  RetryOptions retry;
  RetryBudget budget;
  Checksums checksums = Checksums::kCheck;
  CallGate gate;  // last, so that calls go before all that they use
};

// Keeps itself alive until its callback has returned. Thread-safe.
class PendingCall : public std::enable_shared_from_this<PendingCall> {
 public:
  // Every attempt sends the slices of `request`, which are shared and not copied. `client` outlives it.
  PendingCall(CallContext& client, grpc::ByteBuffer request, std::string traceparent,
              std::chrono::milliseconds timeout, AttendCallback callback);

  // Once.
  void Start();

  // Ends it with CANCELLED, if it has not ended yet.
  void Cancel();

 private:
  void Attempt();
  void AttemptEnded(const grpc::Status& status);
  void JudgeServer(const grpc::Status& status, const Pushback& pushback, bool given_up);
  void LimitAttempt();                               // has GiveUp called in due time; with mutex_ held
  void GiveUp(int attempt);                          // cancels it, if it is still the one under way
  bool WasGivenUp(const grpc::Status& status);       // from here on it cannot be
  bool LacksModel() const;                           // the server of the last attempt, and is well
  bool TryAgain(const grpc::Status& status);         // whether there will be another attempt
  absl::Status Refused(const grpc::Status& status);  // with what the trailer says of coming again
  void Pause(std::chrono::milliseconds delay);       // or less; with mutex_ held
  void PauseOver();
  void End(absl::StatusOr<AttendReply> reply);

  const CallGate::Pass pass_;  // first, so that it goes last
  CallContext& client_;
  const grpc::ByteBuffer request_;
  const std::string traceparent_;  // valid or empty
  const std::chrono::steady_clock::time_point deadline_;
  AttendCallback callback_;
  grpc::ByteBuffer reply_;  // of the attempt under way
  int attempts_ = 0;
  std::shared_ptr<Server> server_;  // of the attempt under way
  ServerPool::Servers tried_;       // those of the attempts before

  std::mutex mutex_;
  // Guarded by mutex_:
  std::unique_ptr<grpc::ClientContext> context_;  // of the last attempt
  std::unique_ptr<grpc::Alarm> pause_;            // new each time, as it is set while the one before calls
  std::unique_ptr<grpc::Alarm> patience_;         // likewise, for each attempt
  std::chrono::steady_clock::time_point
      again_at_;                       // when the pause ends, if no other server can be had before
  bool under_way_ = false;             // an attempt is
  bool given_up_ = false;              // that attempt: its successor is paid for
  std::shared_ptr<PendingCall> kept_;  // itself, during a pause; the alarm would keep it for ever
  bool cancelled_ = false;
};

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_RPC_PENDING_CALL_H_
