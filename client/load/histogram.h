// SPDX-License-Identifier: Apache-2.0
//
// Where a load test keeps its latencies: fixed memory however long it runs, percentiles within 1 %.
#ifndef HEADLIGHT_CLIENT_LOAD_HISTOGRAM_H_
#define HEADLIGHT_CLIENT_LOAD_HISTOGRAM_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace headlight::client {

// Counts durations in buckets that are 1 ns wide up to 256 ns and at most 1/128 of their value beyond. Count,
// mean and maximum are exact. Not thread-safe: give each thread its own and merge them.
class LatencyHistogram {
 public:
  void Record(std::chrono::nanoseconds latency);  // a negative one counts as 0
  void Merge(const LatencyHistogram& other);

  int64_t count() const { return count_; }
  std::chrono::nanoseconds max() const { return max_; }
  std::chrono::nanoseconds mean() const;  // 0 if nothing was recorded

  // The smallest recorded latency that at least `percent` of all do not exceed (the nearest-rank percentile),
  // rounded up to its bucket's end but never beyond max(). 0 if nothing was recorded; `percent` is within [0,
  // 100].
  std::chrono::nanoseconds Percentile(double percent) const;

  // The recorded latency of this rank, counted from 1 for the smallest; rounded as above.
  std::chrono::nanoseconds AtRank(int64_t rank) const;

  // How many are at most `latency`, or share a bucket with it.
  int64_t CountUpTo(std::chrono::nanoseconds latency) const;

 private:
  std::vector<int64_t> counts_;  // by bucket, as long as the largest latency so far needs
  int64_t count_ = 0;
  std::chrono::nanoseconds sum_{0};
  std::chrono::nanoseconds max_{0};
};

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_LOAD_HISTOGRAM_H_
