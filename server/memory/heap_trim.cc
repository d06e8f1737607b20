// SPDX-License-Identifier: Apache-2.0
#include "server/memory/heap_trim.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>

namespace headlight {
namespace {

constexpr int64_t kWorthBytes = int64_t{16} << 20;
constexpr std::chrono::seconds kLongestPause{64};

}  // namespace

bool HeapTrim::IsDue(int64_t resident_bytes, TimePoint now) const {
  if (resident_bytes <= left_bytes_ + kWorthBytes) return false;
  return last_ == TimePoint::min() || now - last_ >= pause_;
}

void HeapTrim::Trimmed(int64_t before_bytes, int64_t after_bytes, TimePoint now) {
  const bool was_of_use = before_bytes - after_bytes >= kWorthBytes / 2;
  pause_ =
      was_of_use ? std::chrono::seconds(0) : std::clamp(2 * pause_, std::chrono::seconds(2), kLongestPause);
  left_bytes_ = after_bytes;
  last_ = now;
}

int64_t ResidentBytes() {
  std::ifstream facts("/proc/self/statm");
  int64_t all_pages = 0;
  int64_t resident_pages = 0;
  facts >> all_pages >> resident_pages;
  return facts ? resident_pages * sysconf(_SC_PAGESIZE) : 0;
}

}  // namespace headlight
