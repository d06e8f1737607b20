// SPDX-License-Identifier: Apache-2.0
#include "client/load/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <numeric>

namespace headlight::client {
namespace {

// Values are written as mantissa * 2^exponent with a mantissa of 8 bits; each pair is a bucket. Mantissas
// below 128 occur with exponent 0 only, so every exponent beyond it adds 128 buckets.
constexpr int kMantissaBits = 8;
constexpr uint64_t kHalf = uint64_t{1} << (kMantissaBits - 1);

size_t BucketOf(uint64_t value) {
  const int exponent = std::max(0, static_cast<int>(std::bit_width(value)) - kMantissaBits);
  return static_cast<size_t>(exponent * kHalf + (value >> exponent));
}

// The largest value of a bucket.
uint64_t BucketEnd(size_t bucket) {
  if (bucket < 2 * kHalf) return bucket;
  const uint64_t exponent = bucket / kHalf - 1;
  const uint64_t mantissa = bucket - exponent * kHalf;
  return ((mantissa + 1) << exponent) - 1;
}

}  // namespace

void LatencyHistogram::Record(std::chrono::nanoseconds latency) {
  latency = std::max(latency, std::chrono::nanoseconds(0));
  const size_t bucket = BucketOf(static_cast<uint64_t>(latency.count()));
  if (bucket >= counts_.size()) counts_.resize(bucket + 1);
  ++counts_[bucket];
  ++count_;
  sum_ += latency;
  max_ = std::max(max_, latency);
}

void LatencyHistogram::Merge(const LatencyHistogram& other) {
  counts_.resize(std::max(counts_.size(), other.counts_.size()));
  for (size_t bucket = 0; bucket < other.counts_.size(); ++bucket) counts_[bucket] += other.counts_[bucket];
  count_ += other.count_;
  sum_ += other.sum_;
  max_ = std::max(max_, other.max_);
}

std::chrono::nanoseconds LatencyHistogram::mean() const {
  return count_ == 0 ? std::chrono::nanoseconds(0) : sum_ / count_;
}

std::chrono::nanoseconds LatencyHistogram::Percentile(double percent) const {
  // Less what rounding may have added: 99.9 % of 1000 is rank 999.
  const double rank = percent / 100 * static_cast<double>(count_);
  return AtRank(std::max<int64_t>(1, std::llround(std::ceil(rank * (1 - 1e-12)))));
}

std::chrono::nanoseconds LatencyHistogram::AtRank(int64_t rank) const {
  int64_t seen = 0;
  for (size_t bucket = 0; bucket < counts_.size(); ++bucket) {
    seen += counts_[bucket];
    if (seen >= rank) return std::min(max_, std::chrono::nanoseconds(BucketEnd(bucket)));
  }
  return max_;
}

int64_t LatencyHistogram::CountUpTo(std::chrono::nanoseconds latency) const {
  const size_t end =
      std::min(counts_.size(), BucketOf(static_cast<uint64_t>(std::max<int64_t>(0, latency.count()))) + 1);
  return std::accumulate(counts_.begin(), counts_.begin() + static_cast<std::ptrdiff_t>(end), int64_t{0});
}

}  // namespace headlight::client
