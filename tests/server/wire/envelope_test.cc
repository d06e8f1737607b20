// SPDX-License-Identifier: Apache-2.0
#include "server/wire/envelope.h"

#include <gmock/gmock.h>
#include <google/protobuf/stubs/logging.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "headlight/v1/attention.pb.h"
#include "tests/server/attend_fixtures.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::Segmented;
using testing::StatusIs;

EnvelopeFormat Format() { return {"AttendRequest", 15, /*max_envelope_bytes=*/1000, /*max_payloads=*/4}; }

std::string Flat(const ByteSegments& segments) {
  std::string bytes(segments.size_bytes(), '\0');
  segments.CopyTo(0, segments.size_bytes(), std::as_writable_bytes(std::span(bytes)).data());
  return bytes;
}

absl::Status ScanStatus(const std::string& bytes, size_t segment_bytes = 1000) {
  return ScanEnvelope(Segmented(bytes, segment_bytes), Format()).status();
}

// Field 15 of wire type 2.
std::string Payload(const std::string& bytes) {
  return "\x7a" + std::string(1, static_cast<char>(bytes.size())) + bytes;
}

TEST(EnvelopeTest, SeparatesPayloadsFromTheOtherFieldsInAnyOrder) {
  const std::string model =
      "\x0a\x04"
      "demo";
  const std::string causal = "\x50\x01";
  const std::string bytes = Payload("first") + model + Payload("") + causal + Payload("third");
  for (size_t segment_bytes = 1; segment_bytes <= bytes.size(); ++segment_bytes) {
    const ByteSegments message = Segmented(bytes, segment_bytes);
    const auto envelope = ScanEnvelope(message, Format());
    ASSERT_THAT(envelope, IsOk());
    EXPECT_EQ(envelope->fields, model + causal);
    ASSERT_EQ(envelope->payloads.size(), 3u);
    EXPECT_EQ(Flat(envelope->payloads[0]), "first");
    EXPECT_EQ(Flat(envelope->payloads[1]), "");
    EXPECT_EQ(Flat(envelope->payloads[2]), "third");
  }
}

TEST(EnvelopeTest, PayloadsAreSeenInPlace) {
  const std::string bytes = Payload("0123456789");
  const ByteSegments message = Segmented(bytes, 1000);
  const auto envelope = ScanEnvelope(message, Format());
  ASSERT_THAT(envelope, IsOk());
  EXPECT_EQ(static_cast<const void*>(envelope->payloads[0].data()), bytes.data() + 2);
}

TEST(EnvelopeTest, AnEmptyMessageIsAnEmptyEnvelope) {
  const auto envelope = ScanEnvelope(ByteSegments(), Format());
  ASSERT_THAT(envelope, IsOk());
  EXPECT_EQ(envelope->fields, "");
  EXPECT_TRUE(envelope->payloads.empty());
}

TEST(EnvelopeTest, EveryTruncationOfEveryWireTypeSaysWhere) {
  const std::string varint = "\x50\xff\x01";
  const std::string fixed64 = "\x09" + std::string(8, 'x');
  const std::string fixed32 = "\x15" + std::string(4, 'x');
  const std::string text =
      "\x0a\x04"
      "demo";
  for (const std::string& field : {varint, fixed64, fixed32, text, Payload("data")}) {
    ASSERT_THAT(ScanStatus(field), IsOk());
    for (size_t length = 1; length < field.size(); ++length) {
      EXPECT_THAT(ScanStatus(field.substr(0, length), /*segment_bytes=*/2),
                  StatusIs(absl::StatusCode::kInvalidArgument,
                           "AttendRequest: truncated at byte " + std::to_string(length)));
    }
  }
}

TEST(EnvelopeTest, ALengthBeyondTheMessageIsTruncationHoweverLarge) {
  EXPECT_THAT(ScanStatus("\x7a\xff\xff\xff\xff\x07"),
              StatusIs(absl::StatusCode::kInvalidArgument, "AttendRequest: truncated at byte 6"));
}

TEST(EnvelopeTest, RefusesMalformedTags) {
  const auto malformed =
      StatusIs(absl::StatusCode::kInvalidArgument, "AttendRequest: malformed field tag at byte 0");
  EXPECT_THAT(ScanStatus(std::string("\x00\x01", 2)), malformed);                  // field number 0
  EXPECT_THAT(ScanStatus("\xff\xff\xff\xff\xff\x01"), malformed);                  // more than five bytes
  EXPECT_THAT(ScanStatus(std::string("\xf8\xff\xff\xff\x7f\x00", 6)), malformed);  // more than 32 bits
}

TEST(EnvelopeTest, RefusesMalformedNumbersAndLengths) {
  EXPECT_THAT(ScanStatus("\x50" + std::string(10, '\xff')),
              StatusIs(absl::StatusCode::kInvalidArgument, "AttendRequest: malformed number at byte 1"));
  EXPECT_THAT(ScanStatus("\x7a" + std::string(5, '\xff')),
              StatusIs(absl::StatusCode::kInvalidArgument, "AttendRequest: malformed length at byte 1"));
}

TEST(EnvelopeTest, RefusesPayloadsOfTheWrongWireType) {
  EXPECT_THAT(ScanStatus("\x78\x01"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "AttendRequest: payloads (field 15) has wire type 0, wanted 2 (bytes) at byte 0"));
}

TEST(EnvelopeTest, RefusesGroupsAndUnknownWireTypes) {
  for (const char wire_type : {3, 4, 6, 7}) {
    EXPECT_THAT(ScanStatus(std::string(1, static_cast<char>(0x08 | wire_type))),
                StatusIs(absl::StatusCode::kInvalidArgument, "AttendRequest: field 1 has wire type " +
                                                                 std::to_string(wire_type) +
                                                                 ", which is not accepted at byte 0"));
  }
}

TEST(EnvelopeTest, BoundsTheEnvelopeButNotThePayloads) {
  const std::string long_text = std::string("\x0a\xe7\x07") + std::string(999, 'x');
  EXPECT_THAT(ScanStatus(long_text),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("the fields beside payloads take more than 1000 bytes")));
  const std::string long_payload = std::string("\x7a\x88\x27") + std::string(5000, 'x');
  EXPECT_THAT(ScanStatus(long_payload), IsOk());
  std::string many_small;
  for (int i = 0; i < 501; ++i) many_small += "\x50\x01";
  EXPECT_THAT(ScanStatus(many_small),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("more than 1000 bytes")));
}

TEST(EnvelopeTest, BoundsTheNumberOfPayloads) {
  std::string bytes;
  for (int i = 0; i < 4; ++i) bytes += Payload("x");
  EXPECT_THAT(ScanStatus(bytes), IsOk());
  EXPECT_THAT(ScanStatus(bytes + Payload("x")),
              StatusIs(absl::StatusCode::kInvalidArgument, "AttendRequest: more than 4 payloads at byte 14"));
}

// A request with random fields, serialised.
std::string RandomRequest(std::mt19937_64& random) {
  v1::AttendRequest request;
  if (random() % 2) request.set_model(std::string(random() % 20, 'm'));
  if (random() % 2) request.set_request_id("id");
  if (random() % 2) request.set_causal(true);
  if (random() % 2) request.set_window_left(static_cast<int64_t>(random()));
  for (uint64_t i = random() % 4; i > 0; --i)
    request.mutable_query()->add_shape(static_cast<int64_t>(random()));
  for (uint64_t i = random() % 9; i > 0; --i) request.add_seq_lens(static_cast<int64_t>(random() % 300));
  for (uint64_t i = random() % 4; i > 0; --i) request.add_payloads(std::string(random() % 200, 'p'));
  return request.SerializeAsString();
}

// What the scanner and the generated parser make of `bytes` together. OK exactly if both accept it.
absl::StatusOr<v1::AttendRequest> ParseInTwoSteps(const ByteSegments& message) {
  EnvelopeFormat format = Format();
  format.max_payloads = 1000;
  format.max_envelope_bytes = 1 << 20;
  const auto envelope = ScanEnvelope(message, format);
  if (!envelope.ok()) return envelope.status();
  v1::AttendRequest request;
  if (!request.ParseFromString(envelope->fields)) return absl::InvalidArgumentError("protobuf");
  for (const ByteSegments& payload : envelope->payloads) request.add_payloads(Flat(payload));
  return request;
}

TEST(EnvelopeTest, AgreesWithProtobufOnRandomAndMutatedMessages) {
  const google::protobuf::LogSilencer silencer;  // it says on stderr what it does not like
  std::mt19937_64 random(20170612);
  int accepted = 0;
  int refused = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string bytes = RandomRequest(random) + RandomRequest(random);  // merged: any order, repeated fields
    for (uint64_t i = random() % 4; i > 0 && !bytes.empty(); --i) {
      switch (random() % 3) {
        case 0:
          bytes[random() % bytes.size()] = static_cast<char>(random());
          break;
        case 1:
          bytes.resize(random() % bytes.size());
          break;
        default:
          bytes.insert(random() % bytes.size(), 1, static_cast<char>(random()));
          break;
      }
    }
    v1::AttendRequest whole;
    const bool wanted = whole.ParseFromString(bytes);
    const auto got = ParseInTwoSteps(Segmented(bytes, 1 + random() % 50));
    if (!wanted) {
      ++refused;
      ASSERT_FALSE(got.ok()) << "only protobuf refuses";
    } else if (got.ok()) {
      ++accepted;
      ASSERT_TRUE(google::protobuf::util::MessageDifferencer::Equals(whole, *got));
    } else {  // stricter than protobuf on purpose
      ASSERT_THAT(std::string(got.status().message()),
                  AnyOf(HasSubstr("payloads (field 15) has wire type"), HasSubstr("which is not accepted"),
                        HasSubstr("malformed field tag")));
    }
  }
  EXPECT_GT(accepted, 1000);
  EXPECT_GT(refused, 1000);
}

// --- payloads inside of messages ---

// Field 15 has payloads as before, and field 3 messages whose field 2 is one.
EnvelopeFormat PartFormat() {
  EnvelopeFormat format = Format();
  format.payloads_name = "bodies";
  format.part_field = 3;
  format.part_payload_field = 2;
  format.part_payload_name = "parts.body";
  return format;
}

std::string Text(int field, const std::string& bytes) {
  return std::string(1, static_cast<char>(field << 3 | 2)) + std::string(1, static_cast<char>(bytes.size())) +
         bytes;
}

TEST(EnvelopeTest, PayloadsInsideOfMessagesStayInPlace) {
  const std::string bytes = Text(1, "demo") + Text(3, Text(1, "a") + Text(2, "first") + Text(4, "b")) +
                            Text(3, "") + Text(3, Text(2, "second") + Text(1, "c")) + Payload("third");
  for (size_t segment_bytes = 1; segment_bytes <= bytes.size(); ++segment_bytes) {
    const ByteSegments message = Segmented(bytes, segment_bytes);
    const auto envelope = ScanEnvelope(message, PartFormat());
    ASSERT_THAT(envelope, IsOk());
    EXPECT_EQ(envelope->fields,
              Text(1, "demo") + Text(3, Text(1, "a") + Text(4, "b")) + Text(3, "") + Text(3, Text(1, "c")));
    ASSERT_EQ(envelope->part_payloads.size(), 3u);
    ASSERT_TRUE(envelope->part_payloads[0].has_value());
    EXPECT_EQ(Flat(*envelope->part_payloads[0]), "first");
    EXPECT_FALSE(envelope->part_payloads[1].has_value());
    ASSERT_TRUE(envelope->part_payloads[2].has_value());
    EXPECT_EQ(Flat(*envelope->part_payloads[2]), "second");
    ASSERT_EQ(envelope->payloads.size(), 1u);
  }
}

TEST(EnvelopeTest, APayloadOfAMessageIsLargerThanTheEnvelope) {
  const std::string body(5000, 'x');
  const std::string inner = "\x12\x88\x27" + body;
  const std::string bytes = "\x1a\x8b\x27" + inner;
  const auto envelope = ScanEnvelope(Segmented(bytes, 100), PartFormat());
  ASSERT_THAT(envelope, IsOk());
  EXPECT_EQ(envelope->fields, Text(3, ""));
  EXPECT_EQ(Flat(*envelope->part_payloads[0]), body);
}

TEST(EnvelopeTest, WhatIsInsideOfAMessageEndsWithIt) {
  const auto status = [](const std::string& bytes) {
    return ScanEnvelope(Segmented(bytes, 3), PartFormat()).status();
  };
  const std::string behind = Text(1, "behind");
  EXPECT_THAT(status(std::string("\x1a\x03\x12\x05x") + behind),
              StatusIs(absl::StatusCode::kInvalidArgument, "AttendRequest: truncated at byte 5"));
  EXPECT_THAT(status(std::string("\x1a\x02\x0a\x80") + behind),
              StatusIs(absl::StatusCode::kInvalidArgument, "AttendRequest: truncated at byte 4"));
  EXPECT_THAT(status(std::string("\x1a\x02\x10\x01") + behind),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "AttendRequest: parts.body (field 2) has wire type 0, wanted 2 (bytes) at byte 2"));
  EXPECT_THAT(status(std::string("\x1a\x01\x23") + behind),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "AttendRequest: field 4 has wire type 3, which is not accepted at byte 2"));
  EXPECT_THAT(status(std::string("\x1a\x7f\x0a")),
              StatusIs(absl::StatusCode::kInvalidArgument, "AttendRequest: truncated at byte 3"));
}

TEST(EnvelopeTest, AMessageHasOnePayload) {
  const std::string bytes = Text(3, Text(2, "") + Text(1, "c") + Text(2, "x"));
  EXPECT_THAT(ScanEnvelope(Segmented(bytes, 100), PartFormat()),
              StatusIs(absl::StatusCode::kInvalidArgument, "AttendRequest: a second parts.body at byte 7"));
}

TEST(EnvelopeTest, ThereAreAsManyMessagesAsPayloads) {
  std::string bytes;
  for (int i = 0; i < 4; ++i) bytes += Text(3, "");
  EXPECT_THAT(ScanEnvelope(Segmented(bytes, 100), PartFormat()), IsOk());
  bytes += Text(3, "");
  EXPECT_THAT(ScanEnvelope(Segmented(bytes, 100), PartFormat()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "AttendRequest: more than 4 messages of field 3 at byte 10"));
}

TEST(EnvelopeTest, MessagesNameThePayloadsAsTheFormatDoes) {
  std::string bytes;
  for (int i = 0; i < 5; ++i) bytes += Payload("x");
  EXPECT_THAT(ScanEnvelope(Segmented(bytes, 100), PartFormat()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("more than 4 bodies at byte")));
  EXPECT_THAT(ScanEnvelope(Segmented(std::string(1100, '\x08'), 100), PartFormat()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("the fields beside bodies take more than 1000")));
}

}  // namespace
}  // namespace headlight
