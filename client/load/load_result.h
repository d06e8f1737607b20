// SPDX-License-Identifier: Apache-2.0
//
// What one run of a load test counts. latency_recorder.h has the rules by which it counts.
#ifndef HEADLIGHT_CLIENT_LOAD_LOAD_RESULT_H_
#define HEADLIGHT_CLIENT_LOAD_LOAD_RESULT_H_

#include <chrono>
#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "client/load/histogram.h"
#include "client/load/timeline.h"

namespace headlight::client {

using LoadClock = std::chrono::steady_clock;

// What is measured: requests that are meant to be sent within [begin, end).
struct Window {
  LoadClock::time_point begin;
  LoadClock::time_point end;

  bool Contains(LoadClock::time_point time) const { return begin <= time && time < end; }
};

// Requests that failed with one code.
struct Refusals {
  int64_t count = 0;
  std::string example;        // message of the first one
  LatencyHistogram intended;  // until the caller heard of it, since the request was meant to be sent
  LatencyHistogram actual;    // and since it was sent
};

struct LoadResult {
  std::chrono::nanoseconds measured{0};  // length of the window; shorter than planned if interrupted

  // Of the requests meant for the window, whenever they ended:
  int64_t sent = 0;
  int64_t sent_bytes = 0;
  LatencyHistogram intended;  // of the replies, since they were meant to be sent
  LatencyHistogram actual;    // of the same replies, since they were handed to gRPC
  LatencyHistogram late;      // how long after its time each was sent
  int64_t received_bytes = 0;
  std::map<absl::StatusCode, Refusals> refusals;
  int64_t cancelled = 0;   // by us, as the plan says
  int64_t unfinished = 0;  // still in flight when the run gave up waiting
  int64_t unsent = 0;      // their deadline passed, or the run ended, before there was room to send them

  // Of what came back within the window, whenever it was sent: what throughput is made of.
  int64_t replies_in_window = 0;
  int64_t tokens_in_window = 0;
  int64_t good_in_window = 0;  // within their timeout of the intended time
  int64_t good_tokens_in_window = 0;

  // Sums over the time budgets of the replies.
  int64_t queue_us = 0;
  int64_t compute_us = 0;
  int64_t server_us = 0;
  int64_t batch_requests = 0;

  Timeline timeline;  // requests by when they were sent, replies and refusals by when they came

  // The tester itself.
  double cpu_cores = 0;  // CPU time of this process within the window, divided by its length
  int threads = 0;
  int cpus = 0;  // that this process may use

  int64_t replies() const { return intended.count(); }
  int64_t refused() const;
  void Merge(const LoadResult& other);  // of another thread of the same run
};

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_LOAD_LOAD_RESULT_H_
