// SPDX-License-Identifier: Apache-2.0
//
// One run of a load test: sends prepared requests in one of two ways and counts what comes back.
//
//   closed loop   a fixed number of requests is in flight; the next one is sent when one is answered. Finds
//                 the highest throughput. Says little of latency under load, because a slow server slows the
//                 tester down too.
//   open loop     requests are sent at a rate, whatever is outstanding, as users do. Latency counts from the
//                 time that a request was meant to be sent.
#ifndef HEADLIGHT_CLIENT_LOAD_LOAD_RUN_H_
#define HEADLIGHT_CLIENT_LOAD_LOAD_RUN_H_

#include <grpcpp/channel.h>
#include <grpcpp/support/byte_buffer.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "client/load/arrivals.h"
#include "client/load/load_result.h"
#include "client/load/request_mix.h"
#include "client/wire/reply_scan.h"

namespace headlight::client {

// An encoded Attend; every call that sends it shares its bytes.
struct PreparedRequest {
  grpc::ByteBuffer bytes;
  int64_t tokens = 0;
};

struct LoadPlan {
  std::vector<std::shared_ptr<grpc::Channel>> channels;  // at least one; requests are dealt round them
  std::vector<PreparedRequest> pool;                     // at least one
  RequestMix mix;                                        // its pool_size is set from `pool`

  int concurrency = 0;                     // above 0: a closed loop with so many in flight
  double rate = 0;                         // otherwise: an open loop of so many a second
  std::vector<RateStep> rate_steps;        // of the open loop, since the begin of the measured window
  Arrivals arrivals = Arrivals::kPoisson;  // of the open loop
  int max_in_flight = 1 << 14;             // of the open loop: beyond it requests are late, then unsent

  std::chrono::milliseconds warmup{0};    // runs before the measured window
  std::chrono::milliseconds duration{0};  // the measured window; not looked at with a count
  int64_t count = 0;                      // above 0: measures so many requests, however long that takes

  // The timeline's bins are so wide, or wider where Timeline has no room for all of them. 0: a second, or a
  // hundredth of the window if that is more.
  std::chrono::milliseconds timeline_width{0};

  // If given: hears of each reply, warm-up included, with the request's index in `pool` and the time since it
  // was sent. Called on the thread of the reply's channel, which it must not hold up: of one channel one call
  // at a time.
  std::function<void(size_t request, std::chrono::nanoseconds round_trip, const ReplyFacts& facts)> on_reply;
};

// What happened so far, warm-up included.
struct LoadProgress {
  std::chrono::nanoseconds elapsed{0};
  std::chrono::nanoseconds planned{0};  // warm-up and window; 0 if a count ends the run
  int64_t sent = 0;
  int64_t replies = 0;
  int64_t refused = 0;
};

// Blocks for warm-up and window, and then for the requests in flight, which their timeouts end, but 10 s at
// most; what is in flight even then is cancelled and counted as unfinished. An error never ends the run. In a
// closed loop the place of a request that failed pauses for 1 to 10 ms, longer with each failure in a row, so
// that a dead server is not hammered; an open loop goes on at its rate. Ends early, with what it has, once
// `stop` is true. Calls `on_progress` about twice a second.
LoadResult RunLoad(const LoadPlan& plan, const std::atomic<bool>& stop,
                   const std::function<void(const LoadProgress&)>& on_progress = {});

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_LOAD_LOAD_RUN_H_
