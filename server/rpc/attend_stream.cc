// SPDX-License-Identifier: Apache-2.0
//
// AttentionService::AttendStream: many requests over one stream.
#include <grpcpp/alarm.h>

#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "server/rpc/attention_service.h"
#include "server/rpc/grpc_status.h"
#include "server/rpc/request_work.h"

namespace headlight {
namespace {

grpc::ByteBuffer EncodeError(const std::string& request_id, const absl::Status& error) {
  const grpc::Status status = ToGrpcStatus(error);
  v1::AttendResponse response;
  response.set_request_id(request_id);
  response.mutable_error()->set_code(status.error_code());
  response.mutable_error()->set_message(status.error_message());
  const grpc::Slice slice(response.SerializeAsString());
  return grpc::ByteBuffer(&slice, 1);
}

}  // namespace

// One stream, from its beginning until gRPC is done with it. Reads, computations and writes overlap; mutex_
// makes their reactions agree. gRPC's operations are started with it held, which is safe because their
// reactions never run inside of the calls that start them, and needed because a stream that has been finished
// may be gone.
class AttentionService::StreamCall final
    : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  StreamCall(AttentionService& service, const grpc::CallbackServerContext& context)
      : service_(service), deadline_(context.deadline()) {}

  void Start(bool ending) {
    const std::lock_guard lock(mutex_);
    if (ending) ending_with_ = ShuttingDown();
    Advance();
  }

  // Reads nothing more; ends with UNAVAILABLE when all is answered.
  void End() {
    const std::lock_guard lock(mutex_);
    if (!ending_with_) ending_with_ = ShuttingDown();
    Advance();
  }

 private:
  // One request of the stream; deletes itself once its reply is queued.
  struct Element {
    explicit Element(StreamCall& stream)
        : work(stream.service_.context_, stream.service_.next_call_id_, stream.deadline_, stream.cancelled_) {
    }
    AttendWork work;
    grpc::Alarm hop;
  };

  static absl::Status ShuttingDown() { return absl::UnavailableError("the server is shutting down"); }

  void OnReadDone(bool ok) override {
    if (!ok) {
      const std::lock_guard lock(mutex_);
      reading_ = false;
      caller_is_done_ = true;
      Advance();
      return;
    }
    service_.CallBegins();
    grpc::ByteBuffer request;
    bool wanted = false;
    {
      const std::lock_guard lock(mutex_);
      reading_ = false;
      wanted = !finished_ && WantsMore();  // it may have ended since this read began
      request.Swap(&incoming_);
      if (wanted) ++unanswered_;
    }
    if (wanted) {
      Begin(request);
    } else {
      service_.CallEnds();
    }
    const std::lock_guard lock(mutex_);
    Advance();
  }

  void OnWriteDone(bool ok) override {
    size_t answered = 1;
    {
      const std::lock_guard lock(mutex_);
      if (!ok) {  // nobody reads any more
        answered += replies_.size();
        replies_.clear();
        broken_ = true;
      }
    }
    outgoing_.Clear();  // writing_ still keeps others away
    ForgetCalls(answered);
    const std::lock_guard lock(mutex_);
    writing_ = false;
    unanswered_ -= static_cast<int>(answered);
    Advance();
  }

  void OnCancel() override {
    cancelled_->Cancel();
    const std::lock_guard lock(mutex_);
    broken_ = true;
  }

  void OnDone() override {
    AttentionService& service = service_;
    {
      const std::lock_guard lock(service.mutex_);
      service.streams_.erase(this);
    }
    { const std::lock_guard lock(mutex_); }  // whoever called Finish has let go of it
    delete this;
  }

  void Begin(const grpc::ByteBuffer& request) {
    auto element = std::make_unique<Element>(*this);
    Element* const begun = element.get();
    const absl::Status status = begun->work.Submit(request, [this, begun] {
      // On the scheduler's thread, which has batches to run: the reply is written elsewhere.
      begun->hop.Set(gpr_inf_past(GPR_CLOCK_MONOTONIC),
                     [this, begun](bool) { Answer(std::unique_ptr<Element>(begun)); });
    });
    if (status.ok()) {
      element.release();  // Answer's from here on
      return;
    }
    const absl::Status told = begun->work.Explain(status);
    if (begun->work.named()) {
      Queue(EncodeError(begun->work.request_id(), told));
      return;
    }
    // No reply could say whom it answers.
    cancelled_->Cancel();
    ForgetCalls(1);
    const std::lock_guard lock(mutex_);
    --unanswered_;
    ending_with_ = told;
  }

  void Answer(std::unique_ptr<Element> element) {
    absl::StatusOr<grpc::ByteBuffer> reply = element->work.TakeReply();
    if (!reply.ok()) {
      reply = EncodeError(element->work.request_id(), element->work.Explain(reply.status()));
    }
    element.reset();
    Queue(*std::move(reply));
  }

  void Queue(grpc::ByteBuffer reply) {
    {
      const std::lock_guard lock(mutex_);
      if (!broken_) {
        replies_.push_back(std::move(reply));
        Advance();
        return;
      }
    }
    ForgetCalls(1);
    const std::lock_guard lock(mutex_);
    --unanswered_;
    Advance();
  }

  // Comes before unanswered_ says so: afterwards stream and service may be gone.
  void ForgetCalls(size_t count) {
    for (size_t i = 0; i < count; ++i) service_.CallEnds();
  }

  // Requires mutex_.
  bool WantsMore() const { return !caller_is_done_ && !ending_with_ && !broken_; }

  // Starts what can be started. Requires mutex_.
  void Advance() {
    if (finished_) return;
    if (!writing_ && !replies_.empty()) {
      outgoing_ = std::move(replies_.front());
      replies_.pop_front();
      writing_ = true;
      StartWrite(&outgoing_);
    }
    if (!reading_ && WantsMore() && unanswered_ < kMaxStreamRequests) {
      reading_ = true;
      StartRead(&incoming_);
    }
    if (!WantsMore() && unanswered_ == 0 && !writing_) {
      finished_ = true;
      Finish(ToGrpcStatus(ending_with_ ? *ending_with_ : absl::OkStatus()));
    }
  }

  AttentionService& service_;
  const std::chrono::system_clock::time_point deadline_;
  // Shared with the tasks of all requests.
  const std::shared_ptr<CancellationToken> cancelled_ = std::make_shared<CancellationToken>();
  std::mutex mutex_;
  // Guarded by mutex_, but for what a read or write under way uses:
  grpc::ByteBuffer incoming_;
  grpc::ByteBuffer outgoing_;
  std::deque<grpc::ByteBuffer> replies_;  // that wait for the one being written
  int unanswered_ = 0;                    // requests read whose replies are neither written nor given up
  bool reading_ = false;
  bool writing_ = false;
  bool caller_is_done_ = false;
  bool broken_ = false;  // cancelled, or cannot be written to: replies go nowhere
  bool finished_ = false;
  std::optional<absl::Status> ending_with_;  // why no more is read
};

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* AttentionService::AttendStream(
    grpc::CallbackServerContext* context) {
  auto* call = new StreamCall(*this, *context);  // deletes itself in OnDone
  bool ending = false;
  {
    const std::lock_guard lock(mutex_);
    streams_.insert(call);
    ending = ending_streams_;
  }
  call->Start(ending);
  return call;
}

void AttentionService::EndStreams() {
  const std::lock_guard lock(mutex_);
  ending_streams_ = true;
  for (StreamCall* stream : streams_) stream->End();
}

}  // namespace headlight
