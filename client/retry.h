// SPDX-License-Identifier: Apache-2.0
//
// When a call that failed is tried again, and how long after. Only failures that say that the server did not
// take the request are: UNAVAILABLE, after a pause that grows, and RESOURCE_EXHAUSTED if the server says
// when. Silence is no failure unless attempt_timeout says so. Where there is another server (kRoundRobin), it
// is asked at once.
#ifndef HEADLIGHT_CLIENT_RETRY_H_
#define HEADLIGHT_CLIENT_RETRY_H_

#include <grpcpp/client_context.h>

#include <chrono>
#include <optional>

#include "absl/status/status.h"

namespace headlight::client {

struct RetryOptions {
  // The first attempt included, 1 to 100; 1: never tries again.
  int max_attempts = 4;
  // Pauses after UNAVAILABLE: this long after the first attempt, twice as long after each that follows, at
  // most max_backoff, each varied by up to a fifth so that many clients do not come back at once. At least 1
  // ms.
  std::chrono::milliseconds initial_backoff{100};
  std::chrono::milliseconds max_backoff{2'000};
  // An attempt of which nothing was heard for so long is given up, and the request sent again at once, to
  // another server where there are several (LoadBalancing::kRoundRobin): for servers that hang without going
  // away. Safe, as an Attend changes nothing, but both servers may compute it, so this should be far above
  // what an answer takes. The last attempt has all the time that is left of the call. 0: never.
  std::chrono::milliseconds attempt_timeout{0};
  // What all calls of a client together may try again, so that servers in trouble do not get several times
  // the load that brought them there: budget_ratio retries for each call, 0 to 100, over the last ten seconds
  // or so, and budget_reserve beside, 0 to 1,000,000, which come back within as long. A call for which
  // nothing is left ends with what its last attempt ended with, or goes on waiting for it.
  double budget_ratio = 0.2;
  int budget_reserve = 10;
};

// INVALID_ARGUMENT, naming the field.
absl::Status CheckRetryOptions(const RetryOptions& options);

// What the server's trailer "grpc-retry-pushback-ms" said of a failed call.
struct Pushback {
  bool given = false;
  std::optional<std::chrono::milliseconds> delay;  // nothing: given, but as "do not try again"
};

// `context` is that of a call that has ended. A negative number, or none at all, means: do not try again.
Pushback ReadPushback(const grpc::ClientContext& context);

// The pause before the next attempt, or nothing if there is to be none, after `attempts` of them of which the
// last one ended with `code`. A pushback takes the place of the backoff, to the millisecond.
// `jitter` is uniform in [0, 1).
std::optional<std::chrono::milliseconds> DelayBeforeRetry(const RetryOptions& options, int attempts,
                                                          absl::StatusCode code, const Pushback& pushback,
                                                          double jitter);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_RETRY_H_
