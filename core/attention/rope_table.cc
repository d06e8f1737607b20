// SPDX-License-Identifier: Apache-2.0
#include "core/attention/rope_table.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <vector>

#include "core/base/weak_cache.h"
#include "core/runtime/cpu_topology.h"

namespace headlight {
namespace {

// Positions of one piece of work: some 100 us with 64 pairs.
constexpr int64_t kPositionsAtOnce = 32;

int64_t NumPairs(const RopeConfig& rope) { return rope.rotary_dim / 2; }

int64_t PositionBytes(const RopeConfig& rope, int64_t positions) {
  return positions * NumPairs(rope) * int64_t{sizeof(float)};
}

}  // namespace

RopeTable::RopeTable(const RopeConfig& rope) {
  ComputeArena arena(DetectCpuTopology().ComputeThreads());
  if (!Reserve(rope, 0, kPositions, arena)) throw std::bad_alloc();
}

bool RopeTable::Reserve(const RopeConfig& rope, int64_t begin, int64_t end, ComputeArena& arena) {
  if (rope_ != rope || !cos_.ok() || !sin_.ok()) begin_ = end_ = 0;
  rope_ = rope;
  const int64_t asked = PositionBytes(rope, end - begin);
  if (Holds(begin, end))
    return cos_.Reserve(asked) && sin_.Reserve(asked);  // which says that they are in use
  begin_ = std::min(begin, begin_);
  end_ = std::max(end, end_);
  const int64_t bytes = PositionBytes(rope, end_ - begin_);
  if (!cos_.Reserve(bytes) || !sin_.Reserve(bytes)) {
    begin_ = end_ = 0;
    return false;
  }
  Fill(arena);
  return true;
}

void RopeTable::Fill(ComputeArena& arena) const {
  const int64_t pairs = NumPairs(*rope_);
  std::vector<double> frequencies(pairs);  // radians per position
  for (int64_t pair = 0; pair < pairs; ++pair) frequencies[pair] = RopeFrequency(*rope_, pair);
  const int64_t pieces = (end_ - begin_ + kPositionsAtOnce - 1) / kPositionsAtOnce;
  arena.ForEach(pieces, [&](int64_t piece, int) {
    const int64_t first = begin_ + piece * kPositionsAtOnce;
    int64_t place = (first - begin_) * pairs;
    for (int64_t position = first; position < std::min(first + kPositionsAtOnce, end_); ++position) {
      for (int64_t pair = 0; pair < pairs; ++pair, ++place) {
        const double angle = static_cast<double>(position) * frequencies[pair];
        cos_.floats()[place] = static_cast<float>(rope_->magnitude * std::cos(angle));
        sin_.floats()[place] = static_cast<float>(rope_->magnitude * std::sin(angle));
      }
    }
  });
}

int64_t RopeTable::GrowthFor(const RopeConfig& rope, int64_t begin, int64_t end) const {
  if (rope_ == rope && cos_.ok() && sin_.ok()) {
    begin = std::min(begin, begin_);
    end = std::max(end, end_);
  }
  const int64_t bytes = PositionBytes(rope, end - begin);
  return cos_.GrowthFor(bytes) + sin_.GrowthFor(bytes);
}

int64_t RopeTable::ModelBytes(const RopeConfig& rope) { return RopeTable().GrowthFor(rope, 0, kPositions); }

void RopeTable::ForEachBuffer(absl::FunctionRef<void(Buffer&)> visit) {
  visit(cos_);
  visit(sin_);
}

Rotation RopeTable::From(int64_t first_position) const {
  const int64_t offset = (first_position - begin_) * NumPairs(*rope_);
  return {cos_.floats() + offset, sin_.floats() + offset, NumPairs(*rope_), rope_->interleaved};
}

std::shared_ptr<const RopeTable> SharedRopeTable(const RopeConfig& rope) {
  using Cache = WeakCache<RopeConfig, RopeTable>;
  static Cache& cache = *new Cache;  // never destroyed: models may outlive static objects
  return cache.Get(rope, [&] { return std::make_shared<const RopeTable>(rope); });
}

}  // namespace headlight
