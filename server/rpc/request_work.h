// SPDX-License-Identifier: Apache-2.0
//
// One request, however it came: from its bytes through codec and scheduler to the bytes of its reply, with
// the lines that the log has of it. Attend has one of these, AttendStream one for each message.
#ifndef HEADLIGHT_SERVER_RPC_REQUEST_WORK_H_
#define HEADLIGHT_SERVER_RPC_REQUEST_WORK_H_

#include <grpcpp/support/byte_buffer.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/runtime/cancellation.h"
#include "server/attend/codec.h"
#include "server/batch/attend_task.h"
#include "server/schedule/clock.h"

namespace headlight {

struct ServiceContext;

// Owns the request's bytes for as long as the task that points at them, so it must live from Submit until the
// task is done and its reply is taken. Not thread-safe: one thing after the other.
class AttendWork {
 public:
  // The request arrives now. `next_call_id` names it in the log if it does not name itself.
  AttendWork(const ServiceContext& service, std::atomic<uint64_t>& next_call_id,
             std::chrono::system_clock::time_point deadline,
             std::shared_ptr<const CancellationToken> cancelled);

  // Checks the request and hands it to the scheduler. OK: `done` is called exactly once, perhaps before this
  // returns, on this thread or the scheduler's, and must be quick; then TakeReply has the outcome. An error:
  // nothing was submitted and `done` is not called.
  absl::Status Submit(const grpc::ByteBuffer& request, std::function<void()> done);

  // The reply, or why there is none. Once, after `done`.
  absl::StatusOr<grpc::ByteBuffer> TakeReply();

  // Logs why the request failed and returns what its caller is told.
  absl::Status Explain(absl::Status status);

  // Whether the request could be read far enough to know what it calls itself.
  bool named() const { return named_; }
  const std::string& request_id() const { return request_id_; }

 private:
  std::string LogId();  // the caller's id, or one of ours; safe to print

  const ServiceContext& service_;
  std::atomic<uint64_t>& next_call_id_;
  const TimePoint arrival_;
  const TimePoint deadline_;
  const std::shared_ptr<const CancellationToken> cancelled_;
  ReceivedMessage message_;
  bool named_ = false;
  std::string request_id_;
  uint64_t call_id_ = 0;
  ReplyLayout layout_;
  absl::StatusOr<AttendResult> result_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_REQUEST_WORK_H_
