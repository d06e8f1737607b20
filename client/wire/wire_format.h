// SPDX-License-Identifier: Apache-2.0
//
// What those who read replies byte by byte know of protobuf's encoding and of the contract: tags, sizes, and
// how many bytes an element has. Not installed.
#ifndef HEADLIGHT_CLIENT_WIRE_WIRE_FORMAT_H_
#define HEADLIGHT_CLIENT_WIRE_WIRE_FORMAT_H_

#include <google/protobuf/io/coded_stream.h>

#include <cstdint>
#include <optional>

#include "headlight/v1/attention.pb.h"

namespace headlight::client {

// How a value is written. The group types 3 and 4, which proto3 does not have, are missing.
enum class WireType : uint32_t { kVarint = 0, kFixed64 = 1, kLengthDelimited = 2, kFixed32 = 5 };

// The low three bits of a tag say how its value is written; the rest is the field number.
constexpr uint32_t TagOf(int field, WireType type) {
  return static_cast<uint32_t>(field) << 3 | static_cast<uint32_t>(type);
}
constexpr WireType WireTypeOf(uint32_t tag) { return WireType{tag & 7}; }

inline constexpr uint32_t kPayloadTag =
    TagOf(v1::AttendResponse::kPayloadsFieldNumber, WireType::kLengthDelimited);
static_assert(int{v1::AttendRequest::kPayloadsFieldNumber} == int{v1::AttendResponse::kPayloadsFieldNumber});

// The size before a length-delimited value; nothing if the message, which is `input`'s innermost limit, ends
// before the value does.
inline std::optional<int> ReadSize(google::protobuf::io::CodedInputStream& input) {
  uint32_t size_bytes = 0;
  if (!input.ReadVarint32(&size_bytes) || size_bytes > static_cast<uint32_t>(input.BytesUntilLimit())) {
    return std::nullopt;
  }
  return static_cast<int>(size_bytes);
}

// Nothing for a type that the contract does not name, nor for BITS, which are less than a byte each.
constexpr std::optional<int64_t> ElementBytes(v1::DType dtype) {
  switch (dtype) {
    case v1::DTYPE_BOOL:
    case v1::DTYPE_I8:
      return 1;
    case v1::DTYPE_F16:
    case v1::DTYPE_BF16:
      return 2;
    case v1::DTYPE_F32:
    case v1::DTYPE_I32:
      return 4;
    case v1::DTYPE_I64:
      return 8;
    default:
      return std::nullopt;
  }
}

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_WIRE_WIRE_FORMAT_H_
