// SPDX-License-Identifier: Apache-2.0
#include "client/attend_stream.h"

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/support/client_callback.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "client/rpc/asked_layers.h"
#include "client/rpc/traceparent.h"
#include "client/wire/wire.h"

namespace headlight::client {

// The stream as gRPC sees it. Operations are started with mutex_ held, which is safe because their reactions
// never run inside of the calls that start them; callbacks are called without it.
class AttendStream::Reactor final : public grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  Reactor(std::shared_ptr<grpc::Channel> channel, std::chrono::milliseconds timeout, int max_unanswered,
          const std::string& traceparent, Checksums checksums)
      : max_unanswered_(static_cast<size_t>(max_unanswered)),
        checksums_(checksums),
        stub_(std::move(channel)) {
    SetTimeout(context_, timeout);
    SetTraceparent(context_, traceparent);
    stub_.PrepareBidiStreamingCall(&context_, kAttendStreamMethod, {}, this);
    AddHold();  // until reading ends: only then does nobody start anything from outside any more
    StartRead(&incoming_);
    StartCall();
  }

  void Attend(AttendCall call, AttendCallback callback) {
    if (const absl::Status status = Submit(std::move(call), callback); !status.ok()) callback(status);
  }

  absl::Status Finish() {
    std::unique_lock lock(mutex_);
    if (!finishing_) {
      finishing_ = true;
      changed_.notify_all();  // who waits for room waits in vain
      Advance();
    }
    changed_.wait(lock, [this] { return done_; });
    return status_;
  }

  void Cancel() { context_.TryCancel(); }

 private:
  // On an error the callback is not called.
  absl::Status Submit(AttendCall call, AttendCallback& callback) {
    if (call.request_id.empty()) call.request_id = absl::StrCat("#", ++next_id_);
    absl::StatusOr<grpc::ByteBuffer> request = EncodeRequest(call);
    if (!request.ok()) return request.status();
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return unanswered_.size() < max_unanswered_ || closed_ || finishing_; });
    if (finishing_) return absl::FailedPreconditionError("the stream is finished: nothing more can be sent");
    if (closed_) {  // why, we are told in a moment
      changed_.wait(lock, [this] { return done_; });
      return status_.ok() ? absl::UnavailableError("the server has ended the stream") : status_;
    }
    if (!unanswered_.emplace(call.request_id, callback).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("request_id: got '", call.request_id, "', which is that of a request under way"));
    }
    to_write_.push_back(*std::move(request));
    Advance();
    return absl::OkStatus();
  }

  void OnWriteDone(bool ok) override {
    const std::lock_guard lock(mutex_);
    writing_ = false;
    if (!ok) to_write_.clear();  // the stream is over; OnDone tells everybody
    outgoing_.Clear();
    if (ok) Advance();
  }

  void OnReadDone(bool ok) override {
    if (ok) {
      Deliver();
      StartRead(&incoming_);
      return;
    }
    const std::lock_guard lock(mutex_);
    closed_ = true;
    to_write_.clear();
    changed_.notify_all();
    RemoveHold();
  }

  // Hands the message in incoming_ to whom it is for.
  void Deliver() {
    absl::StatusOr<StreamReply> reply = DecodeStreamReply(incoming_, checksums_);
    incoming_.Clear();
    AttendCallback callback;
    {
      const std::lock_guard lock(mutex_);
      const auto found = reply.ok() ? unanswered_.find(reply->request_id) : unanswered_.end();
      if (found == unanswered_.end()) {
        if (broken_.ok()) {
          broken_ = reply.ok() ? absl::InternalError(absl::StrCat("the server answered '", reply->request_id,
                                                                  "', which nobody asked"))
                               : reply.status();
        }
        context_.TryCancel();
        return;
      }
      callback = std::move(found->second);
      unanswered_.erase(found);
      changed_.notify_all();
    }
    callback(std::move(reply->reply));
  }

  void OnDone(const grpc::Status& status) override {
    std::map<std::string, AttendCallback> unanswered;
    {
      const std::lock_guard lock(mutex_);
      status_ = broken_.ok() ? ToAbslStatus(status) : broken_;
      if (status_.ok() && !unanswered_.empty()) {
        status_ = absl::InternalError(
            absl::StrCat("the server ended the stream with ", unanswered_.size(), " requests unanswered"));
      }
      unanswered.swap(unanswered_);
    }
    for (const auto& [id, callback] : unanswered) callback(status_);
    const std::lock_guard lock(mutex_);
    done_ = true;
    changed_.notify_all();  // the last thing that touches this object
  }

  // Starts what can be started. Requires mutex_.
  void Advance() {
    if (closed_ || writing_ || writes_done_) return;
    if (!to_write_.empty()) {
      outgoing_ = std::move(to_write_.front());
      to_write_.pop_front();
      writing_ = true;
      StartWrite(&outgoing_);
    } else if (finishing_) {
      writes_done_ = true;
      StartWritesDone();
    }
  }

  const size_t max_unanswered_;
  const Checksums checksums_;
  grpc::GenericStub stub_;
  grpc::ClientContext context_;
  std::atomic<uint64_t> next_id_{0};
  grpc::ByteBuffer incoming_;  // of the read under way
  std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_:
  std::map<std::string, AttendCallback> unanswered_;  // by request_id
  std::deque<grpc::ByteBuffer> to_write_;
  grpc::ByteBuffer outgoing_;  // of the write under way
  bool writing_ = false;
  bool finishing_ = false;    // nothing more is taken
  bool writes_done_ = false;  // and gRPC knows
  bool closed_ = false;       // nothing more comes back
  bool done_ = false;         // every callback has returned
  absl::Status broken_;       // what is wrong with the server's messages
  absl::Status status_;       // of the stream, once done
};

AttendStream::AttendStream(std::shared_ptr<grpc::Channel> channel, std::chrono::milliseconds timeout,
                           int max_unanswered, const std::string& traceparent, Checksums checksums)
    : reactor_(
          std::make_unique<Reactor>(std::move(channel), timeout, max_unanswered, traceparent, checksums)) {}

AttendStream::~AttendStream() {
  reactor_->Cancel();
  reactor_->Finish().IgnoreError();
}

void AttendStream::Attend(const AttendCall& call, AttendCallback callback) {
  reactor_->Attend(
      call, WithLayersChecked(call.weights, static_cast<int64_t>(call.layers.size()), std::move(callback)));
}

absl::Status AttendStream::Finish() { return reactor_->Finish(); }

void AttendStream::Cancel() { reactor_->Cancel(); }

}  // namespace headlight::client
