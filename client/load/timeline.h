// SPDX-License-Identifier: Apache-2.0
//
// How a load test went over time: stalls, restarts and recoveries that percentiles of the whole run hide.
#ifndef HEADLIGHT_CLIENT_LOAD_TIMELINE_H_
#define HEADLIGHT_CLIENT_LOAD_TIMELINE_H_

#include <chrono>
#include <cstdint>
#include <vector>

#include "client/load/histogram.h"

namespace headlight::client {

// What happened within one stretch of time.
struct TimelineBin {
  int64_t sent = 0;
  int64_t replies = 0;
  int64_t refused = 0;
  int64_t good = 0;          // replies within their timeout of the intended time,
  int64_t good_tokens = 0;   // and their tokens
  LatencyHistogram latency;  // of all replies

  void Merge(const TimelineBin& other);
};

// Bins of equal width from the start of the measurement on. When there are too many, each two become one, so
// that a run of unknown length fits. Times before the start do not count. Not thread-safe: give each thread
// its own and merge them.
class Timeline {
 public:
  static constexpr size_t kMaxBins = 256;

  Timeline() = default;  // of a second each
  explicit Timeline(std::chrono::nanoseconds width) : width_(width) {}

  // The bin of the time `since_start`; null if that is negative. Valid until the next call.
  TimelineBin* At(std::chrono::nanoseconds since_start);

  // `other` must have begun with the same width.
  void Merge(const Timeline& other);

  std::chrono::nanoseconds width() const { return width_; }
  const std::vector<TimelineBin>& bins() const { return bins_; }

 private:
  void Coarsen();

  std::chrono::nanoseconds width_ = std::chrono::seconds(1);
  std::vector<TimelineBin> bins_;
};

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_LOAD_TIMELINE_H_
