// SPDX-License-Identifier: Apache-2.0
//
// The load generator: keeps a fixed number of requests in flight for a while and counts what comes back. A
// closed loop sends the next request when the last one is answered, so it finds the highest throughput of a
// server; it cannot tell how latency grows with a load that does not wait.
#ifndef HEADLIGHT_CLIENT_LOAD_CLOSED_LOOP_H_
#define HEADLIGHT_CLIENT_LOAD_CLOSED_LOOP_H_

#include <grpcpp/channel.h>
#include <grpcpp/support/byte_buffer.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/load/histogram.h"
#include "headlight/v1/attention.pb.h"

namespace headlight::client {

struct ClosedLoopPlan {
  std::vector<std::shared_ptr<grpc::Channel>> channels;  // at least one; requests are dealt round them
  grpc::ByteBuffer request;                              // an encoded Attend; every call shares its bytes
  int concurrency = 1;                                   // requests in flight, at least 1
  std::chrono::milliseconds warmup{0};                   // runs before the measured window
  std::chrono::milliseconds duration{0};                 // the measured window
  std::chrono::milliseconds timeout{0};                  // of each request
};

// Requests that failed with one code.
struct Refusals {
  int64_t count = 0;
  std::string example;  // message of the first one
};

// What came back within the measured window.
struct LoadResult {
  std::chrono::nanoseconds measured{0};  // length of the window, shorter than planned if interrupted
  LatencyHistogram latency;  // of the replies, from handing the request to gRPC to having the whole reply
  int64_t reply_bytes = 0;
  std::map<absl::StatusCode, Refusals> refusals;
  int64_t unfinished = 0;  // requests in flight when the window closed; counted nowhere else

  // Sums over the replies' time budgets.
  int64_t queue_us = 0;
  int64_t compute_us = 0;
  int64_t server_us = 0;
  int64_t batch_requests = 0;

  int64_t replies() const { return latency.count(); }
  int64_t refused() const;
  void Merge(const LoadResult& other);
};

// Blocks for warm-up and duration, and at most a second longer for requests still in flight. An error never
// ends the run: the request counts as refused and its place in the loop pauses for 1 to 10 ms, longer with
// each refusal in a row, so that a dead server is not hammered. Ends early, with what it has, once `stop` is
// true.
LoadResult RunClosedLoop(const ClosedLoopPlan& plan, const std::atomic<bool>& stop);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_LOAD_CLOSED_LOOP_H_
