// SPDX-License-Identifier: Apache-2.0
#include "core/tensor/buffer.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <limits>

namespace headlight {
namespace {

constexpr int64_t kHugePageBytes = int64_t{2} << 20;

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
  if (ok() && size_bytes_ >= size_bytes) return true;
  *this = Buffer();  // first give back, then ask: the peak stays at the larger of the two
  *this = Allocate(size_bytes);
  return ok();
}

}  // namespace headlight
