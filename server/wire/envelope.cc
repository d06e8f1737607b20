// SPDX-License-Identifier: Apache-2.0
#include "server/wire/envelope.h"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace headlight {
namespace {

// Wire types of the protobuf encoding; 3 and 4 are the deprecated groups, 6 and 7 do not exist.
enum WireType : uint32_t { kVarint = 0, kFixed64 = 1, kLengthDelimited = 2, kFixed32 = 5 };

constexpr int kMaxVarintBytes = 10;
constexpr int kMaxTagBytes = 5;  // tags and lengths are 32-bit numbers, as protobuf's own parser has them
constexpr int kMaxLengthBytes = 5;

// Walks over the bytes of a message, segment by segment.
class SegmentReader {
 public:
  explicit SegmentReader(const ByteSegments& message) : message_(message) {}

  int64_t offset() const { return offset_; }
  int64_t remaining() const { return message_.size_bytes() - offset_; }

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
};

class Scanner {
 public:
  Scanner(const ByteSegments& message, const EnvelopeFormat& format) : reader_(message), format_(format) {}

  absl::StatusOr<Envelope> Scan() && {
    while (reader_.remaining() > 0) HEADLIGHT_RETURN_IF_ERROR(ScanField());
    return std::move(envelope_);
  }

 private:
  // One tag and its value. Bytes go to the envelope as they are read; those of a payload are taken back.
  absl::Status ScanField() {
    const size_t envelope_size = envelope_.fields.size();
    const int64_t begin = reader_.offset();
    HEADLIGHT_ASSIGN_OR_RETURN(const uint64_t tag, ReadVarint(kMaxTagBytes, "field tag"));
    const uint64_t field = tag >> 3;
    const uint32_t wire_type = tag & 7;
    if (field == 0 || tag > UINT32_MAX) return Error("malformed field tag", begin);
    if (field == format_.payload_field) {
      if (wire_type != kLengthDelimited) {
        return Error(
            absl::StrCat("payloads (field ", field, ") has wire type ", wire_type, ", wanted 2 (bytes)"),
            begin);
      }
      HEADLIGHT_ASSIGN_OR_RETURN(const int64_t length, ReadLength());
      envelope_.fields.resize(envelope_size);
      return TakePayload(length);
    }
    switch (wire_type) {
      case kVarint:
        return ReadVarint(kMaxVarintBytes, "number").status();
      case kFixed64:
        return CopyToEnvelope(8);
      case kFixed32:
        return CopyToEnvelope(4);
      case kLengthDelimited: {
        HEADLIGHT_ASSIGN_OR_RETURN(const int64_t length, ReadLength());
        return CopyToEnvelope(length);
      }
      default:
        return Error(absl::StrCat("field ", field, " has wire type ", wire_type, ", which is not accepted"),
                     begin);
    }
  }

  absl::StatusOr<uint64_t> ReadVarint(int max_bytes, const char* what) {
    const int64_t begin = reader_.offset();
    uint64_t value = 0;
    for (int i = 0; i < max_bytes; ++i) {
      if (reader_.remaining() == 0) return Truncated();
      const uint8_t byte = reader_.ReadByte();
      HEADLIGHT_RETURN_IF_ERROR(CheckRoom(1));
      envelope_.fields.push_back(static_cast<char>(byte));
      value |= uint64_t{byte & 0x7fu} << (7 * i);
      if (byte < 0x80) return value;
    }
    return Error(absl::StrCat("malformed ", what), begin);
  }

  absl::StatusOr<int64_t> ReadLength() {
    HEADLIGHT_ASSIGN_OR_RETURN(const uint64_t length, ReadVarint(kMaxLengthBytes, "length"));
    if (length > static_cast<uint64_t>(reader_.remaining())) return Truncated();
    return static_cast<int64_t>(length);
  }

  absl::Status CopyToEnvelope(int64_t num_bytes) {
    if (num_bytes > reader_.remaining()) return Truncated();
    HEADLIGHT_RETURN_IF_ERROR(CheckRoom(num_bytes));
    reader_.Read(num_bytes, [this](std::span<const std::byte> piece) {
      envelope_.fields.append(static_cast<const char*>(static_cast<const void*>(piece.data())), piece.size());
    });
    return absl::OkStatus();
  }

  absl::Status TakePayload(int64_t num_bytes) {
    if (static_cast<int64_t>(envelope_.payloads.size()) >= format_.max_payloads) {
      return Error(absl::StrCat("more than ", format_.max_payloads, " payloads"), reader_.offset());
    }
    ByteSegments& payload = envelope_.payloads.emplace_back();
    reader_.Read(num_bytes, [&payload](std::span<const std::byte> piece) { payload.Append(piece); });
    return absl::OkStatus();
  }

  absl::Status CheckRoom(int64_t num_bytes) const {
    if (static_cast<int64_t>(envelope_.fields.size()) + num_bytes <= format_.max_envelope_bytes) {
      return absl::OkStatus();
    }
    return Error(
        absl::StrCat("the fields beside payloads take more than ", format_.max_envelope_bytes, " bytes"),
        reader_.offset());
  }

  absl::Status Truncated() const {
    return absl::InvalidArgumentError(
        absl::StrCat(format_.message_name, ": truncated at byte ", reader_.offset() + reader_.remaining()));
  }

  absl::Status Error(const std::string& what, int64_t offset) const {
    return absl::InvalidArgumentError(absl::StrCat(format_.message_name, ": ", what, " at byte ", offset));
  }

  SegmentReader reader_;
  const EnvelopeFormat& format_;
  Envelope envelope_;
};

}  // namespace

absl::StatusOr<Envelope> ScanEnvelope(const ByteSegments& message, const EnvelopeFormat& format) {
  return Scanner(message, format).Scan();
}

}  // namespace headlight
