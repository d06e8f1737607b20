// SPDX-License-Identifier: Apache-2.0
#include "core/attention/tiled/rope_table.h"

#include <algorithm>
#include <cmath>

namespace headlight {

bool RopeTable::Reserve(const RopeConfig& rope, int64_t begin, int64_t end) {
  if (frequencies_.empty()) {
    interleaved_ = rope.interleaved;
    for (int64_t pair = 0; pair < rope.rotary_dim / 2; ++pair) {
      frequencies_.push_back(RopeFrequency(rope, pair));
    }
  }
  if (!cos_.ok() || !sin_.ok()) begin_ = end_ = 0;
  if (begin >= begin_ && end <= end_) return true;
  // At least doubled, so that slowly growing lengths do not compute the table each time.
  const int64_t grown = 2 * (end_ - begin_);
  begin_ = std::min(begin, begin_);
  end_ = std::max({end, end_, begin_ + grown});
  const auto pairs = static_cast<int64_t>(frequencies_.size());
  const int64_t bytes = (end_ - begin_) * pairs * int64_t{sizeof(float)};
  if (!cos_.Reserve(bytes) || !sin_.Reserve(bytes)) {
    begin_ = end_ = 0;
    return false;
  }
  for (int64_t position = begin_; position < end_; ++position) {
    for (int64_t pair = 0; pair < pairs; ++pair) {
      const double angle = static_cast<double>(position) * frequencies_[pair];
      const int64_t place = (position - begin_) * pairs + pair;
      cos_.floats()[place] = static_cast<float>(std::cos(angle));
      sin_.floats()[place] = static_cast<float>(std::sin(angle));
    }
  }
  return true;
}

int64_t RopeTable::Bytes(const RopeConfig& rope, int64_t positions) {
  // Twice: see Reserve.
  return 2 * Buffer::RoundedBytes(2 * positions * (rope.rotary_dim / 2) * int64_t{sizeof(float)});
}

void RopeTable::ForEachBuffer(absl::FunctionRef<void(Buffer&)> visit) {
  visit(cos_);
  visit(sin_);
}

Rotation RopeTable::From(int64_t first_position) const {
  const auto pairs = static_cast<int64_t>(frequencies_.size());
  const int64_t offset = (first_position - begin_) * pairs;
  return {cos_.floats() + offset, sin_.floats() + offset, pairs, interleaved_};
}

}  // namespace headlight
