// SPDX-License-Identifier: Apache-2.0
#include "core/tensor/buffer.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <limits>

namespace headlight {
namespace {

constexpr int64_t kHugePageBytes = int64_t{2} << 20;
constexpr int64_t kLeastStepped = int64_t{256} << 10;
constexpr int64_t kStepsPerDoubling = 4;

int64_t AlignmentOf(int64_t size_bytes) {
  return size_bytes >= kHugePageBytes ? kHugePageBytes : kCacheLineBytes;
}

}  // namespace

void Buffer::Free::operator()(std::byte* data) const { std::free(data); }

Buffer Buffer::Allocate(int64_t size_bytes) {
  Buffer buffer;
  if (size_bytes < 0 || size_bytes > std::numeric_limits<int64_t>::max() - kHugePageBytes) return buffer;
  const int64_t alignment = AlignmentOf(size_bytes);
  const int64_t rounded = RoundedBytes(size_bytes);
  void* data = std::aligned_alloc(alignment, rounded);
  if (data == nullptr) return buffer;
  if (alignment == kHugePageBytes) madvise(data, rounded, MADV_HUGEPAGE);  // a hint: failure costs only speed
  buffer.data_.reset(static_cast<std::byte*>(data));
  buffer.size_bytes_ = rounded;
  return buffer;
}

int64_t Buffer::RoundedBytes(int64_t size_bytes) {
  const int64_t alignment = AlignmentOf(size_bytes);
  return std::max((size_bytes + alignment - 1) / alignment * alignment, alignment);
}

bool Buffer::Reserve(int64_t size_bytes) {
  const int64_t asked_bytes = std::max(asked_bytes_, size_bytes);
  if (!ok() || size_bytes_ < size_bytes) {
    *this = Buffer();  // first give back, then ask: the peak stays at the larger of the two
    *this = Allocate(ReservedBytes(size_bytes));
  }
  asked_bytes_ = asked_bytes;
  return ok();
}

int64_t Buffer::GrowthFor(int64_t size_bytes) const {
  if (ok() && size_bytes_ >= size_bytes) return 0;
  return ReservedBytes(size_bytes) - (ok() ? size_bytes_ : 0);
}

void Buffer::GiveBackUnused() {
  if (RoundedBytes(asked_bytes_) < size_bytes_ / 2) *this = Buffer();
  asked_bytes_ = 0;
}

int64_t Buffer::ReservedBytes(int64_t size_bytes) {
  if (size_bytes > std::numeric_limits<int64_t>::max() / 2) return size_bytes;  // too large, and stays so
  if (size_bytes < kLeastStepped) return RoundedBytes(size_bytes);
  const auto below = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(size_bytes - 1)));
  const int64_t step = below / kStepsPerDoubling;
  return RoundedBytes((size_bytes + step - 1) / step * step);
}

}  // namespace headlight
