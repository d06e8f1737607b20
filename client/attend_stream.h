// SPDX-License-Identifier: Apache-2.0
//
// Many requests over one AttendStream RPC: less work for both sides than an RPC for each, and an order of
// replies that nobody waits for.
#ifndef HEADLIGHT_CLIENT_ATTEND_STREAM_H_
#define HEADLIGHT_CLIENT_ATTEND_STREAM_H_

#include <grpcpp/channel.h>

#include <chrono>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "client/attend_call.h"

namespace headlight::client {

// Made by Client::OpenStream. Thread-safe; not to be destroyed, and Finish not to be called, from a callback.
class AttendStream {
 public:
  // `timeout` is that of the stream with all its requests; at most `max_unanswered` are under way.
  // `traceparent` is empty or valid, as Client::OpenStream checks.
  AttendStream(std::shared_ptr<grpc::Channel> channel, std::chrono::milliseconds timeout, int max_unanswered,
               const std::string& traceparent = "", Checksums checksums = Checksums::kCheck);

  // Cancels what is under way and waits for its callbacks.
  ~AttendStream();
  AttendStream(const AttendStream&) = delete;
  AttendStream& operator=(const AttendStream&) = delete;

  // Sends a request; its tensors are copied before this returns. Without a request_id it gets one of its own,
  // "#1" and so on, which the reply bears. First waits while `max_unanswered` requests are under way, so do
  // not call it from a callback. `callback` is called exactly once, with the reply or the error of this
  // request, on a thread of gRPC's that reads nothing more of this stream until it returns. Or on this
  // thread, before this returns: INVALID_ARGUMENT if a tensor contradicts itself or the id is that of a
  // request under way; FAILED_PRECONDITION after Finish; the status of the stream if that has ended. Requests
  // of a stream are never sent twice: what should be tried again is for the caller to say.
  void Attend(const AttendCall& call, AttendCallback callback);

  // Sends nothing more, waits until all requests are answered and every callback has returned, and says how
  // the stream ended: OK; DEADLINE_EXCEEDED; UNAVAILABLE if the server went away or is shutting down;
  // CANCELLED. Errors of single requests are not among these.
  absl::Status Finish();

  // Ends the stream and what is under way with CANCELLED; does not wait.
  void Cancel();

 private:
  class Reactor;
  std::unique_ptr<Reactor> reactor_;
};

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_ATTEND_STREAM_H_
