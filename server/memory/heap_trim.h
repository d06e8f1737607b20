// SPDX-License-Identifier: Apache-2.0
//
// Gives memory back to the system that malloc keeps after a burst of many small objects: calls, say.
#ifndef HEADLIGHT_SERVER_MEMORY_HEAP_TRIM_H_
#define HEADLIGHT_SERVER_MEMORY_HEAP_TRIM_H_

#include <chrono>
#include <cstdint>

namespace headlight {

// Decides when; what it decides on is told to it. Not thread-safe.
class HeapTrim {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  // Whether trimming is worth it now: the resident set is well above what the last trimming left. Where
  // that has been of no use the next one waits twice as long, up to a minute.
  bool IsDue(int64_t resident_bytes, TimePoint now) const;
  // It was done.
  void Trimmed(int64_t before_bytes, int64_t after_bytes, TimePoint now);

 private:
  int64_t left_bytes_ = 0;
  std::chrono::seconds pause_{0};
  TimePoint last_ = TimePoint::min();
};

// Of this process; 0: unknown.
int64_t ResidentBytes();

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_MEMORY_HEAP_TRIM_H_
