// SPDX-License-Identifier: Apache-2.0
//
// Bytes of a message seen in place. A large message arrives in many pieces; this is the list of them, so that
// a tensor is copied once, from where the network left it to where the kernels want it. Knows nothing of
// gRPC.
#ifndef HEADLIGHT_SERVER_WIRE_BYTE_SEGMENTS_H_
#define HEADLIGHT_SERVER_WIRE_BYTE_SEGMENTS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace headlight {

// A sequence of bytes in several segments. Never owns: whoever fills it keeps the memory alive. Reading from
// many threads at once is safe.
class ByteSegments {
 public:
  // Adds `segment` at the end. Empty segments are left out.
  void Append(std::span<const std::byte> segment);

  int64_t size_bytes() const { return size_bytes_; }
  bool empty() const { return size_bytes_ == 0; }

  size_t num_segments() const { return segments_.size(); }
  std::span<const std::byte> segment(size_t index) const { return segments_[index].bytes; }

  // Whether all bytes lie in one piece; data() is then the first of them (null if there is none).
  bool contiguous() const { return segments_.size() <= 1; }
  const std::byte* data() const { return segments_.empty() ? nullptr : segments_.front().bytes.data(); }

  // Copies the bytes [offset, offset + num_bytes) to `to`. They must exist. O(log segments + num_bytes).
  void CopyTo(int64_t offset, int64_t num_bytes, std::byte* to) const;

 private:
  struct Segment {
    int64_t begin;  // offset of its first byte
    std::span<const std::byte> bytes;
  };
  std::vector<Segment> segments_;  // sorted by begin, without gaps
  int64_t size_bytes_ = 0;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_WIRE_BYTE_SEGMENTS_H_
