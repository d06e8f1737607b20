// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/scan_as_envelope.h"

#include <google/protobuf/unknown_field_set.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "server/wire/byte_segments.h"
#include "server/wire/envelope.h"
#include "tests/fuzz/promise.h"

namespace headlight::testing {
namespace {

constexpr uint32_t kPayloadField = 3;
constexpr int64_t kMaxEnvelopeBytes = 512;
constexpr int64_t kMaxPayloads = 4;

EnvelopeFormat Format() {
  return {.message_name = "Fuzzed",
          .payload_field = kPayloadField,
          .max_envelope_bytes = kMaxEnvelopeBytes,
          .max_payloads = kMaxPayloads};
}

ByteSegments Cut(std::span<const std::byte> bytes, size_t segment_bytes) {
  ByteSegments segments;
  for (size_t begin = 0; begin < bytes.size(); begin += segment_bytes) {
    segments.Append(bytes.subspan(begin, std::min(segment_bytes, bytes.size() - begin)));
  }
  return segments;
}

std::string Copied(const ByteSegments& segments) {
  std::string copy(static_cast<size_t>(segments.size_bytes()), '\0');
  void* const to = copy.data();
  segments.CopyTo(0, segments.size_bytes(), static_cast<std::byte*>(to));
  return copy;
}

std::vector<std::string> PayloadsOf(const Envelope& envelope) {
  std::vector<std::string> payloads;
  for (const ByteSegments& payload : envelope.payloads) payloads.push_back(Copied(payload));
  return payloads;
}

// What protobuf reads of any message: fields by number, their values uninterpreted.
void Parse(const void* data, size_t size, google::protobuf::UnknownFieldSet& fields) {
  Check(fields.ParseFromArray(data, static_cast<int>(size)), "protobuf takes what the scanner takes");
}

void CheckAgainstProtobuf(std::span<const std::byte> bytes, const Envelope& envelope) {
  google::protobuf::UnknownFieldSet whole, rest;
  Parse(bytes.data(), bytes.size(), whole);
  Parse(envelope.fields.data(), envelope.fields.size(), rest);
  std::vector<std::string> payloads;
  for (int i = 0; i < whole.field_count(); ++i) {
    const google::protobuf::UnknownField& field = whole.field(i);
    if (field.number() == static_cast<int>(kPayloadField)) payloads.push_back(field.length_delimited());
  }
  Check(PayloadsOf(envelope) == payloads, "payloads are what protobuf finds, in its order");
  whole.DeleteByNumber(static_cast<int>(kPayloadField));
  std::string expected, got;
  whole.SerializeToString(&expected);
  rest.SerializeToString(&got);
  Check(expected == got, "all other fields are in the envelope, in their order");
}

}  // namespace

bool ScanAsEnvelope(std::span<const std::byte> bytes) {
  const EnvelopeFormat format = Format();
  const absl::StatusOr<Envelope> whole = ScanEnvelope(Cut(bytes, std::max<size_t>(bytes.size(), 1)), format);
  for (const size_t segment_bytes : {1, 3, 37}) {
    const absl::StatusOr<Envelope> cut = ScanEnvelope(Cut(bytes, segment_bytes), format);
    Check(cut.status() == whole.status(), "where a message is cut changes nothing of what is said of it");
    if (!whole.ok()) continue;
    Check(cut->fields == whole->fields, "where a message is cut changes no field");
    Check(PayloadsOf(*cut) == PayloadsOf(*whole), "where a message is cut changes no payload");
  }
  if (!whole.ok()) {
    CheckRefusal(whole.status());
    return false;
  }
  Check(static_cast<int64_t>(whole->fields.size()) <= kMaxEnvelopeBytes, "the envelope keeps its limit");
  Check(static_cast<int64_t>(whole->payloads.size()) <= kMaxPayloads, "payloads keep their limit");
  for (const ByteSegments& payload : whole->payloads) {
    for (size_t i = 0; i < payload.num_segments(); ++i) {
      const std::span<const std::byte> segment = payload.segment(i);
      Check(bytes.data() <= segment.data() && segment.data() + segment.size() <= bytes.data() + bytes.size(),
            "payloads lie inside the message");
    }
  }
  CheckAgainstProtobuf(bytes, *whole);
  return true;
}

}  // namespace headlight::testing
