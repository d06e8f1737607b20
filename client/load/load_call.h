// SPDX-License-Identifier: Apache-2.0
//
// One call of a load test, from being sent to being counted. Its object is used again and again, so that
// sending allocates nothing of ours.
#ifndef HEADLIGHT_CLIENT_LOAD_LOAD_CALL_H_
#define HEADLIGHT_CLIENT_LOAD_LOAD_CALL_H_

#include <grpcpp/client_context.h>
#include <grpcpp/completion_queue.h>
#include <grpcpp/generic/generic_stub.h>

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <queue>
#include <vector>

#include "client/load/latency_recorder.h"
#include "client/load/load_worker.h"

namespace headlight::client {

// One thread may start it and another count its end, which the completion queue puts in order; Cancel may
// come from any thread at any time.
class LoadCall {
 public:
  // The tag of the call on `queue` is `this`. `stub` must outlive the call. Returns what was sent: another
  // thread may be counting the call by then.
  SentRequest Start(grpc::GenericStub& stub, const PreparedRequest& request, const RequestChoice& choice,
                    LoadClock::time_point intended, grpc::CompletionQueue& queue);

  // Counts the call, whose tag came, and makes it ready for another Start. `unfinished`: it was ended because
  // nobody waits any longer. Whether it was answered.
  bool Count(LoadClock::time_point now, bool unfinished, LatencyRecorder& recorder, LoadShared& shared);

  // Cancels the call, if it is in flight and `start` is its number; counted as cancelled if `planned`.
  void Cancel(uint64_t start, bool planned);
  void CancelAny();  // whichever it is

  uint64_t starts() const { return starts_; }  // number of the latest start; for the thread that starts

 private:
  SentRequest request_;
  std::unique_ptr<grpc::GenericClientAsyncResponseReader> reader_;
  grpc::ByteBuffer reply_;
  grpc::Status status_;

  std::mutex mutex_;                            // guards the rest: cancelling against starting and ending
  std::optional<grpc::ClientContext> context_;  // new for each call, as gRPC wants it
  uint64_t starts_ = 0;
  bool in_flight_ = false;
  bool cancelled_as_planned_ = false;
};

// Calls to be cancelled, by time. Not thread-safe.
class CancelList {
 public:
  void Add(LoadClock::time_point at, LoadCall& call) { entries_.push({at, &call, call.starts()}); }
  void CancelDue(LoadClock::time_point now);

  // When something has to be done, or `otherwise` if that is earlier.
  LoadClock::time_point NextAt(LoadClock::time_point otherwise) const;

 private:
  struct Entry {
    LoadClock::time_point at;
    LoadCall* call;
    uint64_t start;
    bool operator>(const Entry& other) const { return at > other.at; }
  };
  std::priority_queue<Entry, std::vector<Entry>, std::greater<Entry>> entries_;
};

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_LOAD_LOAD_CALL_H_
