// SPDX-License-Identifier: Apache-2.0
#include "server/wire/byte_segments.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <iterator>

namespace headlight {

void ByteSegments::Append(std::span<const std::byte> segment) {
  if (segment.empty()) return;
  segments_.push_back({size_bytes_, segment});
  size_bytes_ += static_cast<int64_t>(segment.size());
}

void ByteSegments::CopyTo(int64_t offset, int64_t num_bytes, std::byte* to) const {
  assert(offset >= 0 && num_bytes >= 0 && offset <= size_bytes_ - num_bytes);
  if (num_bytes == 0) return;
  const auto after =
      std::upper_bound(segments_.begin(), segments_.end(), offset,
                       [](int64_t wanted, const Segment& segment) { return wanted < segment.begin; });
  for (auto segment = std::prev(after); num_bytes > 0; ++segment) {
    const int64_t skip = offset - segment->begin;
    const int64_t take = std::min(num_bytes, static_cast<int64_t>(segment->bytes.size()) - skip);
    std::memcpy(to, segment->bytes.data() + skip, take);
    to += take;
    offset += take;
    num_bytes -= take;
  }
}

}  // namespace headlight
