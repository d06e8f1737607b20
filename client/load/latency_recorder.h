// SPDX-License-Identifier: Apache-2.0
//
// The rules by which a load test counts. Latency is recorded from the time that a request was meant to be
// sent, so that a server which holds the tester up cannot hide it, and from the time that it was sent.
#ifndef HEADLIGHT_CLIENT_LOAD_LATENCY_RECORDER_H_
#define HEADLIGHT_CLIENT_LOAD_LATENCY_RECORDER_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "client/load/load_result.h"
#include "client/wire/reply_scan.h"

namespace headlight::client {

// One request on its way.
struct SentRequest {
  LoadClock::time_point intended;  // when it was meant to be sent: latency counts from here,
  LoadClock::time_point sent;      // and from here
  std::chrono::nanoseconds timeout{0};
  size_t index = 0;  // in the pool
  int64_t tokens = 0;
  int64_t bytes = 0;
};

// Counts into a LoadResult. Not thread-safe: each thread has its own.
class LatencyRecorder {
 public:
  LatencyRecorder(const Window& window, std::chrono::nanoseconds timeline_width) : window_(window) {
    result_.timeline = Timeline(timeline_width);
  }

  void Sent(const SentRequest& request);
  void Replied(const SentRequest& request, LoadClock::time_point now, const ReplyFacts& facts);
  void Refused(const SentRequest& request, LoadClock::time_point now, absl::StatusCode code,
               const std::string& message);
  void Cancelled(const SentRequest& request);
  void Unfinished(const SentRequest& request);
  void Unsent(LoadClock::time_point intended);

  LoadResult& result() { return result_; }
  // When the last reply or refusal of the window came; the epoch if none did.
  LoadClock::time_point last_end() const { return last_end_; }

 private:
  const Window window_;
  LoadResult result_;
  LoadClock::time_point last_end_;
};

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_LOAD_LATENCY_RECORDER_H_
