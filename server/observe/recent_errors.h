// SPDX-License-Identifier: Apache-2.0
//
// The last requests that went wrong, for people who look at a server.
#ifndef HEADLIGHT_SERVER_OBSERVE_RECENT_ERRORS_H_
#define HEADLIGHT_SERVER_OBSERVE_RECENT_ERRORS_H_

#include <chrono>
#include <cstddef>
#include <deque>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/observe/request_log.h"

namespace headlight {

struct RecentError {
  std::chrono::system_clock::time_point time;
  absl::StatusCode code;
  std::string reason;
  std::string method;
  std::string model;    // as the caller named it: any bytes, cut off
  std::string message;  // cut off
};

// Thread-safe. Keeps errors of this server and refusals apart, so that a flood of refusals hides no error.
class RecentErrors final : public RequestObserver {
 public:
  static constexpr size_t kKept = 20;  // of each

  void RequestEnded(const RequestRecord& record) override;

  std::vector<RecentError> OurFaults() const;  // the latest first
  std::vector<RecentError> Refusals() const;

 private:
  mutable std::mutex mutex_;
  std::deque<RecentError> our_faults_;  // guarded by mutex_
  std::deque<RecentError> refusals_;    // guarded by mutex_
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OBSERVE_RECENT_ERRORS_H_
