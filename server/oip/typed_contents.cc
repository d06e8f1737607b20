// SPDX-License-Identifier: Apache-2.0
#include "server/oip/typed_contents.h"

#include <cstring>
#include <optional>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "inference/grpc_service.pb.h"
#include "server/oip/oip_datatypes.h"
#include "server/wire/segment_reader.h"

namespace headlight {
namespace {

using inference::InferTensorContents;

// Packed floats in more pieces than this are copied together: a list of pieces costs more than it saves.
constexpr size_t kMaxPieces = 64;

// Those of InferTensorContents, by number; null: no such field.
const char* NameOfField(uint64_t field) {
  static constexpr const char* kNames[] = {"bool_contents", "int_contents",    "int64_contents",
                                           "uint_contents", "uint64_contents", "fp32_contents",
                                           "fp64_contents", "bytes_contents"};
  return field >= 1 && field <= std::size(kNames) ? kNames[field - 1] : nullptr;
}

// The field that holds elements of the type; 0: none does.
uint32_t FieldOfType(DType dtype) {
  switch (dtype) {
    case DType::kBool:
      return InferTensorContents::kBoolContentsFieldNumber;
    case DType::kI32:
      return InferTensorContents::kIntContentsFieldNumber;
    case DType::kI64:
      return InferTensorContents::kInt64ContentsFieldNumber;
    case DType::kF32:
      return InferTensorContents::kFp32ContentsFieldNumber;
    case DType::kF16:
    case DType::kBf16:
      break;
  }
  return 0;
}

bool IsFixed(DType dtype) { return dtype == DType::kF32; }

// Walks over an InferTensorContents. Bytes that are none end it with an error.
class ContentsReader {
 public:
  ContentsReader(const std::string& field, const ByteSegments& contents, DType dtype)
      : field_(field), reader_(contents), dtype_(dtype), wanted_(FieldOfType(dtype)) {}

  bool done() const { return reader_.remaining() == 0; }

  // Goes to the elements of the next field; how many bytes they take, 0 where the field is none of ours.
  absl::StatusOr<int64_t> NextField() {
    HEADLIGHT_ASSIGN_OR_RETURN(const uint64_t tag, Varint(kMaxTagBytes));
    const uint64_t number = tag >> 3;
    wire_type_ = static_cast<uint32_t>(tag & 7);
    if (number == 0 || tag > UINT32_MAX) return Malformed();
    int64_t length = 0;
    switch (wire_type_) {
      case kVarint:
        length = number == wanted_ ? VarintBytes() : 0;
        if (number != wanted_) HEADLIGHT_RETURN_IF_ERROR(Varint().status());
        break;
      case kFixed64:
        length = 8;
        break;
      case kFixed32:
        length = 4;
        break;
      case kLengthDelimited: {
        HEADLIGHT_ASSIGN_OR_RETURN(const uint64_t bytes, Varint(kMaxLengthBytes));
        if (bytes > static_cast<uint64_t>(reader_.remaining())) return Malformed();
        length = static_cast<int64_t>(bytes);
        break;
      }
      default:
        return Malformed();
    }
    if (length < 0 || length > reader_.remaining()) return Malformed();
    if (number == wanted_) {
      const bool fits =
          wire_type_ == kLengthDelimited || wire_type_ == (IsFixed(dtype_) ? kFixed32 : kVarint);
      if (!fits) return Malformed();
      return length;
    }
    if (const char* const other = NameOfField(number)) {
      return absl::InvalidArgumentError(absl::StrCat(field_, ": got ", other, " for ", DatatypeOf(dtype_),
                                                     ", wanted ", NameOfField(wanted_)));
    }
    if (wire_type_ != kVarint) Skip(length);
    return 0;
  }

  bool packed() const { return wire_type_ == kLengthDelimited; }

  // The number of varints in the next num_bytes.
  absl::StatusOr<int64_t> CountVarints(int64_t num_bytes) {
    int64_t count = 0;
    int run = 0;
    bool long_run = false;
    Visit(num_bytes, [&](std::span<const std::byte> piece) {
      for (const std::byte byte : piece) {
        long_run |= ++run > kMaxVarintBytes;
        if ((byte & std::byte{0x80}) != std::byte{0}) continue;
        ++count;
        run = 0;
      }
    });
    if (long_run || run != 0) return Malformed();
    return count;
  }

  template <typename Visitor>
  void Visit(int64_t num_bytes, Visitor visit) {
    reader_.Read(num_bytes, visit);
  }

  absl::StatusOr<uint64_t> Varint(int max_bytes = kMaxVarintBytes) {
    uint64_t value = 0;
    for (int i = 0; i < max_bytes; ++i) {
      if (reader_.remaining() == 0) return Malformed();
      const uint8_t byte = reader_.ReadByte();
      value |= uint64_t{byte & 0x7fu} << (7 * i);
      if (byte < 0x80) return value;
    }
    return Malformed();
  }

  absl::Status Malformed() const {
    return absl::InvalidArgumentError(absl::StrCat(field_, ": malformed at its byte ", reader_.offset(),
                                                   ", wanted an InferTensorContents"));
  }

 private:
  void Skip(int64_t num_bytes) {
    Visit(num_bytes, [](std::span<const std::byte>) {});
  }

  // Of the one that comes next, which is not read; -1: it does not end.
  int64_t VarintBytes() const {
    SegmentReader ahead = reader_;
    for (int64_t bytes = 1; ahead.remaining() > 0 && bytes <= kMaxVarintBytes; ++bytes) {
      if (ahead.ReadByte() < 0x80) return bytes;
    }
    return -1;
  }

  const std::string& field_;
  SegmentReader reader_;
  const DType dtype_;
  const uint32_t wanted_;
  uint32_t wire_type_ = 0;
};

template <typename Stored>
std::byte* PutElement(Stored value, std::byte* to) {
  std::memcpy(to, &value, sizeof(value));
  return to + sizeof(value);
}

std::byte* PutVarint(uint64_t value, DType dtype, std::byte* to) {
  if (dtype == DType::kBool) return PutElement(static_cast<uint8_t>(value != 0), to);
  if (dtype == DType::kI32) return PutElement(static_cast<uint32_t>(value), to);
  return PutElement(value, to);
}

}  // namespace

absl::StatusOr<TypedContents> FindContents(const std::string& field, const ByteSegments& contents,
                                           DType dtype) {
  if (FieldOfType(dtype) == 0) {
    return absl::InvalidArgumentError(absl::StrCat(field, ": got some for ", DatatypeOf(dtype),
                                                   ", wanted raw_input_contents: no typed field holds it"));
  }
  TypedContents found;
  found.in_place = IsFixed(dtype);
  ContentsReader reader(field, contents, dtype);
  while (!reader.done()) {
    HEADLIGHT_ASSIGN_OR_RETURN(const int64_t num_bytes, reader.NextField());
    if (num_bytes == 0) continue;
    if (IsFixed(dtype)) {
      if (num_bytes % SizeOf(dtype) != 0) return reader.Malformed();
      found.in_place = found.in_place && reader.packed() && found.packed.num_segments() < kMaxPieces;
      reader.Visit(num_bytes, [&](std::span<const std::byte> piece) {
        if (found.in_place) found.packed.Append(piece);
      });
      found.num_elements += num_bytes / SizeOf(dtype);
    } else {
      HEADLIGHT_ASSIGN_OR_RETURN(const int64_t count, reader.CountVarints(num_bytes));
      found.num_elements += count;
    }
  }
  return found;
}

void DecodeContents(const ByteSegments& contents, DType dtype, std::byte* to) {
  static const std::string& no_name = *new std::string;
  ContentsReader reader(no_name, contents, dtype);
  while (!reader.done()) {
    const absl::StatusOr<int64_t> num_bytes = reader.NextField();
    if (!num_bytes.ok()) return;  // FindContents has read them all
    if (IsFixed(dtype)) {
      reader.Visit(*num_bytes, [&](std::span<const std::byte> piece) {
        std::memcpy(to, piece.data(), piece.size());
        to += piece.size();
      });
      continue;
    }
    // A varint that lies in two pieces goes on in the second.
    uint64_t value = 0;
    int shift = 0;
    reader.Visit(*num_bytes, [&](std::span<const std::byte> piece) {
      for (const std::byte byte : piece) {
        value |= static_cast<uint64_t>(byte & std::byte{0x7f}) << shift;
        shift += 7;
        if ((byte & std::byte{0x80}) != std::byte{0}) continue;
        to = PutVarint(value, dtype, to);
        value = 0;
        shift = 0;
      }
    });
  }
}

}  // namespace headlight
