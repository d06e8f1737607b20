// SPDX-License-Identifier: Apache-2.0
//
// What `headlight capacity` finds out about a server: how long requests take alone, in batches and on a
// server that is never idle.
#ifndef HEADLIGHT_CLIENT_CLI_MEASURE_SERVER_H_
#define HEADLIGHT_CLIENT_CLI_MEASURE_SERVER_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "capacity/profile.h"
#include "client/cli/load_requests.h"
#include "client/client.h"

namespace headlight::client {

struct MeasureOptions {
  std::chrono::milliseconds duration{10'000};  // half of it with one request at a time, half of it busy
  uint64_t seed = 0;
  capacity::SchedulerOptions scheduler;  // those that the server was started with
};

struct MeasuredServer {
  capacity::ServerProfile profile;
  std::vector<capacity::Request> requests;  // of the pool, in its order
  double alone_us = 0;                      // round trip of one request at a time, median
  double busy_rate = 0;                     // requests a second that it answers when it is never idle
  int busy_concurrency = 0;                 // as so many callers find it
  std::vector<std::string> notes;           // what casts doubt on it, a sentence each
};

// Sends the pool's requests. The server should have nothing else to do meanwhile, and the caller should be
// where real callers are. Errors: the server's; FAILED_PRECONDITION if it answers nothing; CANCELLED once
// `stop` is true. `on_progress` as RunLoad's.
absl::StatusOr<MeasuredServer> MeasureServer(const Client& client, const v1::Model& model,
                                             const RequestPool& pool, const MeasureOptions& options,
                                             const std::atomic<bool>& stop,
                                             const std::function<void(const LoadProgress&)>& on_progress);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_CLI_MEASURE_SERVER_H_
