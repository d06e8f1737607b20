// SPDX-License-Identifier: Apache-2.0
#include "client/load/timeline.h"

#include <utility>

namespace headlight::client {

void TimelineBin::Merge(const TimelineBin& other) {
  sent += other.sent;
  replies += other.replies;
  refused += other.refused;
  good += other.good;
  good_tokens += other.good_tokens;
  latency.Merge(other.latency);
}

TimelineBin* Timeline::At(std::chrono::nanoseconds since_start) {
  if (since_start.count() < 0) return nullptr;
  while (since_start / width_ >= static_cast<int64_t>(kMaxBins)) Coarsen();
  const auto index = static_cast<size_t>(since_start / width_);
  if (index >= bins_.size()) bins_.resize(index + 1);
  return &bins_[index];
}

void Timeline::Merge(const Timeline& other) {
  while (width_ < other.width_) Coarsen();
  for (size_t i = 0; i < other.bins_.size(); ++i) {
    At(other.width_ * static_cast<int64_t>(i))->Merge(other.bins_[i]);
  }
}

void Timeline::Coarsen() {
  width_ *= 2;
  for (size_t i = 0; i < bins_.size(); ++i) {
    if (i % 2 == 1) {
      bins_[i / 2].Merge(bins_[i]);
    } else if (i > 0) {
      bins_[i / 2] = std::move(bins_[i]);
    }
  }
  bins_.resize((bins_.size() + 1) / 2);
}

}  // namespace headlight::client
