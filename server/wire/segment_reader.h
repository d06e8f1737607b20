// SPDX-License-Identifier: Apache-2.0
//
// A walk over the bytes of a protobuf message that lies in pieces.
#ifndef HEADLIGHT_SERVER_WIRE_SEGMENT_READER_H_
#define HEADLIGHT_SERVER_WIRE_SEGMENT_READER_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "server/wire/byte_segments.h"

namespace headlight {

// Wire types of the protobuf encoding; 3 and 4 are the deprecated groups, 6 and 7 do not exist.
enum WireType : uint32_t { kVarint = 0, kFixed64 = 1, kLengthDelimited = 2, kFixed32 = 5 };

inline constexpr int kMaxVarintBytes = 10;
// Tags and lengths are 32-bit numbers, and longer ones are malformed, as protobuf's own parser has it.
inline constexpr int kMaxTagBytes = 5;
inline constexpr int kMaxLengthBytes = 5;

// Walks over the bytes of a message, segment by segment.
class SegmentReader {
 public:
  explicit SegmentReader(const ByteSegments& message) : message_(message), end_(message.size_bytes()) {}

  int64_t offset() const { return offset_; }
  int64_t remaining() const { return end_ - offset_; }

  // Ends the message at `end`, as long as that holds. Returns where it ended.
  int64_t EndAt(int64_t end) { return std::exchange(end_, end); }

  // Requires remaining() >= 1.
  uint8_t ReadByte() {
    const std::byte byte = message_.segment(segment_)[position_];
    Advance(1);
    return static_cast<uint8_t>(byte);
  }

  // Calls visit(span) for each piece of the next num_bytes bytes. Requires remaining() >= num_bytes.
  template <typename Visitor>
  void Read(int64_t num_bytes, Visitor visit) {
    while (num_bytes > 0) {
      const std::span<const std::byte> rest = message_.segment(segment_).subspan(position_);
      const std::span<const std::byte> piece = rest.first(std::min<int64_t>(num_bytes, rest.size()));
      visit(piece);
      Advance(piece.size());
      num_bytes -= static_cast<int64_t>(piece.size());
    }
  }

 private:
  void Advance(size_t num_bytes) {
    position_ += num_bytes;
    offset_ += static_cast<int64_t>(num_bytes);
    if (position_ == message_.segment(segment_).size()) {
      ++segment_;
      position_ = 0;
    }
  }

  const ByteSegments& message_;
  size_t segment_ = 0;
  size_t position_ = 0;  // in the segment
  int64_t offset_ = 0;   // in the message
  int64_t end_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_WIRE_SEGMENT_READER_H_
