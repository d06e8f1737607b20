// SPDX-License-Identifier: Apache-2.0
#include "server/wire/envelope.h"

#include <google/protobuf/io/coded_stream.h>

#include <cstddef>
#include <optional>
#include <span>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "server/wire/segment_reader.h"

namespace headlight {
namespace {

std::string VarintOf(uint64_t value) {
  uint8_t bytes[kMaxVarintBytes];
  return {bytes, google::protobuf::io::CodedOutputStream::WriteVarint64ToArray(value, bytes)};
}

class Scanner {
 public:
  Scanner(const ByteSegments& message, const EnvelopeFormat& format) : reader_(message), format_(format) {}

  absl::StatusOr<Envelope> Scan() && {
    while (reader_.remaining() > 0) HEADLIGHT_RETURN_IF_ERROR(ScanField());
    return std::move(envelope_);
  }

 private:
  struct Tag {
    uint32_t field;
    uint32_t wire_type;
    int64_t begin;  // where it stands in the message
  };

  // One tag and its value. Bytes go to the envelope as they are read; those of a payload are taken back.
  absl::Status ScanField() {
    const size_t envelope_size = envelope_.fields.size();
    HEADLIGHT_ASSIGN_OR_RETURN(const Tag tag, ReadTag());
    if (tag.field == format_.payload_field) {
      HEADLIGHT_ASSIGN_OR_RETURN(const int64_t length, ReadLengthOf(tag, format_.payloads_name));
      envelope_.fields.resize(envelope_size);
      return TakePayload(length);
    }
    if (tag.field == format_.part_field && tag.wire_type == kLengthDelimited) {
      const size_t tag_size = envelope_.fields.size() - envelope_size;
      HEADLIGHT_ASSIGN_OR_RETURN(const int64_t length, ReadLength());
      envelope_.fields.resize(envelope_size + tag_size);
      return ScanPart(length);
    }
    return CopyValue(tag);
  }

  // A message whose own payload stays in place. Its length in the envelope is that of what is left.
  absl::Status ScanPart(int64_t num_bytes) {
    if (static_cast<int64_t>(envelope_.part_payloads.size()) >= format_.max_payloads) {
      return Error(
          absl::StrCat("more than ", format_.max_payloads, " messages of field ", format_.part_field),
          reader_.offset());
    }
    envelope_.part_payloads.emplace_back();
    const size_t begin = envelope_.fields.size();
    const int64_t end = reader_.EndAt(reader_.offset() + num_bytes);
    while (reader_.remaining() > 0) HEADLIGHT_RETURN_IF_ERROR(ScanPartField());
    reader_.EndAt(end);
    HEADLIGHT_RETURN_IF_ERROR(CheckRoom(kMaxLengthBytes));
    envelope_.fields.insert(begin, VarintOf(envelope_.fields.size() - begin));
    return absl::OkStatus();
  }

  absl::Status ScanPartField() {
    const size_t envelope_size = envelope_.fields.size();
    HEADLIGHT_ASSIGN_OR_RETURN(const Tag tag, ReadTag());
    if (tag.field != format_.part_payload_field) return CopyValue(tag);
    HEADLIGHT_ASSIGN_OR_RETURN(const int64_t length, ReadLengthOf(tag, format_.part_payload_name));
    envelope_.fields.resize(envelope_size);
    std::optional<ByteSegments>& payload = envelope_.part_payloads.back();
    // Protobuf would merge them, which seen in place are bytes that may be malformed each and sound together.
    if (payload) return Error(absl::StrCat("a second ", format_.part_payload_name), tag.begin);
    AppendTo(payload.emplace(), length);
    return absl::OkStatus();
  }

  absl::StatusOr<Tag> ReadTag() {
    const int64_t begin = reader_.offset();
    HEADLIGHT_ASSIGN_OR_RETURN(const uint64_t tag, ReadVarint(kMaxTagBytes, "field tag"));
    if (tag >> 3 == 0 || tag > UINT32_MAX) return Error("malformed field tag", begin);
    return Tag{static_cast<uint32_t>(tag >> 3), static_cast<uint32_t>(tag & 7), begin};
  }

  // Of a field that must be bytes.
  absl::StatusOr<int64_t> ReadLengthOf(const Tag& tag, const char* name) {
    if (tag.wire_type == kLengthDelimited) return ReadLength();
    return Error(
        absl::StrCat(name, " (field ", tag.field, ") has wire type ", tag.wire_type, ", wanted 2 (bytes)"),
        tag.begin);
  }

  absl::Status CopyValue(const Tag& tag) {
    switch (tag.wire_type) {
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
        return Error(
            absl::StrCat("field ", tag.field, " has wire type ", tag.wire_type, ", which is not accepted"),
            tag.begin);
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
      return Error(absl::StrCat("more than ", format_.max_payloads, " ", format_.payloads_name),
                   reader_.offset());
    }
    AppendTo(envelope_.payloads.emplace_back(), num_bytes);
    return absl::OkStatus();
  }

  void AppendTo(ByteSegments& payload, int64_t num_bytes) {
    reader_.Read(num_bytes, [&payload](std::span<const std::byte> piece) { payload.Append(piece); });
  }

  absl::Status CheckRoom(int64_t num_bytes) const {
    if (static_cast<int64_t>(envelope_.fields.size()) + num_bytes <= format_.max_envelope_bytes) {
      return absl::OkStatus();
    }
    return Error(absl::StrCat("the fields beside ", format_.payloads_name, " take more than ",
                              format_.max_envelope_bytes, " bytes"),
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
