// SPDX-License-Identifier: Apache-2.0
#include "server/oip/typed_contents.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "inference/grpc_service.pb.h"
#include "tests/server/attend_fixtures.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using testing::Segmented;
using testing::StatusIs;

const std::string kContentsName = "query.contents";

// The elements as raw contents would have them, found and decoded in pieces of every size.
template <typename Stored>
std::vector<Stored> Decoded(const std::string& bytes, DType dtype) {
  std::vector<Stored> elements;
  for (size_t segment_bytes = 1; segment_bytes <= bytes.size(); ++segment_bytes) {
    const ByteSegments contents = Segmented(bytes, segment_bytes);
    const auto found = FindContents(kContentsName, contents, dtype);
    EXPECT_THAT(found, IsOk());
    if (!found.ok()) return {};
    std::vector<Stored> now(found->num_elements);
    DecodeContents(contents, dtype, std::as_writable_bytes(std::span(now)).data());
    if (segment_bytes > 1) {
      EXPECT_EQ(now, elements) << segment_bytes;
    }
    elements = std::move(now);
  }
  return elements;
}

absl::Status FindStatus(const inference::InferTensorContents& contents, DType dtype) {
  const std::string bytes = contents.SerializeAsString();
  return FindContents(kContentsName, Segmented(bytes, 3), dtype).status();
}

TEST(TypedContentsTest, PackedFloatsStayWhereTheyAre) {
  inference::InferTensorContents contents;
  for (float value : {1.0f, -2.5f, 3.0f}) contents.add_fp32_contents(value);
  const std::string bytes = contents.SerializeAsString();
  const auto found = FindContents(kContentsName, Segmented(bytes, 1000), DType::kF32);
  ASSERT_THAT(found, IsOk());
  EXPECT_TRUE(found->in_place);
  EXPECT_EQ(found->num_elements, 3);
  EXPECT_EQ(static_cast<const void*>(found->packed.data()), bytes.data() + 2);
  EXPECT_EQ(Decoded<float>(bytes, DType::kF32), (std::vector<float>{1.0f, -2.5f, 3.0f}));
}

TEST(TypedContentsTest, PackedFloatsInTwoGoesFollowEachOther) {
  inference::InferTensorContents contents;
  contents.add_fp32_contents(1);
  const std::string bytes = contents.SerializeAsString() + contents.SerializeAsString();
  const auto found = FindContents(kContentsName, Segmented(bytes, 1000), DType::kF32);
  ASSERT_THAT(found, IsOk());
  EXPECT_TRUE(found->in_place);
  EXPECT_EQ(found->packed.size_bytes(), 8);
}

TEST(TypedContentsTest, FloatsOneByOneAreDecoded) {
  const float value = 2.0f;
  std::string bits(4, '\0');
  std::memcpy(bits.data(), &value, 4);
  const std::string bytes = "\x35" + bits + "\x35" + bits;  // field 6, wire type 5
  const auto found = FindContents(kContentsName, Segmented(bytes, 1000), DType::kF32);
  ASSERT_THAT(found, IsOk());
  EXPECT_FALSE(found->in_place);
  EXPECT_EQ(Decoded<float>(bytes, DType::kF32), (std::vector<float>{2.0f, 2.0f}));
}

TEST(TypedContentsTest, IntegersAreDecodedPackedAndOneByOne) {
  inference::InferTensorContents contents;
  const std::vector<int64_t> wide = {0, -1, 300, std::numeric_limits<int64_t>::min()};
  contents.mutable_int64_contents()->Assign(wide.begin(), wide.end());
  EXPECT_EQ(Decoded<int64_t>(contents.SerializeAsString(), DType::kI64), wide);
  EXPECT_EQ(Decoded<int64_t>("\x18\x05\x18\x07", DType::kI64), (std::vector<int64_t>{5, 7}));
  contents.Clear();
  const std::vector<int32_t> narrow = {7, -7, std::numeric_limits<int32_t>::min()};
  contents.mutable_int_contents()->Assign(narrow.begin(), narrow.end());
  EXPECT_EQ(Decoded<int32_t>(contents.SerializeAsString(), DType::kI32), narrow);
  contents.Clear();
  for (bool value : {true, false, true}) contents.add_bool_contents(value);
  EXPECT_EQ(Decoded<uint8_t>(contents.SerializeAsString(), DType::kBool), (std::vector<uint8_t>{1, 0, 1}));
}

TEST(TypedContentsTest, ElementsInAnotherFieldAreRefused) {
  inference::InferTensorContents contents;
  contents.add_fp64_contents(1);
  EXPECT_THAT(FindStatus(contents, DType::kF32),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "query.contents: got fp64_contents for FP32, wanted fp32_contents"));
  contents.Clear();
  contents.add_fp32_contents(1);
  contents.add_bytes_contents("x");
  EXPECT_THAT(FindStatus(contents, DType::kF32),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("got bytes_contents for FP32")));
}

TEST(TypedContentsTest, SixteenBitFloatsMustBeRaw) {
  for (const DType dtype : {DType::kF16, DType::kBf16}) {
    EXPECT_THAT(FindStatus({}, dtype),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("wanted raw_input_contents")));
  }
}

TEST(TypedContentsTest, BytesThatAreNoContentsAreRefused) {
  for (const auto& [bytes, dtype] : std::vector<std::pair<std::string, DType>>{
           {"\x32\x03"
            "abc",
            DType::kF32},  // no multiple of four bytes
           {"\x32\x08"
            "abcd",
            DType::kF32},                                                            // truncated
           {"\x30\x01", DType::kF32},                                                // floats as a varint
           {"\x1a\x01\x80", DType::kI64},                                            // a varint without end
           {"\x1a\x0b" + std::string(10, '\x80') + "\x01", DType::kI64},             // one of eleven bytes
           {"\x1d" + std::string(4, 'x'), DType::kI64},                              // integers of four bytes
           {"\x33", DType::kF32},                                                    // a group
           {std::string("\x00", 1), DType::kF32},                                    // field 0
           {"\xc0" + std::string(4, '\x80') + std::string("\0\0", 2), DType::kF32},  // a tag of six bytes
           {"\x1a\x81" + std::string(4, '\x80') + std::string("\0\1", 2), DType::kI64},  // a length of six
           {"\x18\x80", DType::kI64},
           {"\x80", DType::kI64}}) {
    EXPECT_THAT(
        FindContents(kContentsName, Segmented(bytes, 1000), dtype),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("query.contents: malformed at its byte")))
        << ::testing::PrintToString(bytes);
  }
}

TEST(TypedContentsTest, FieldsThatNobodyKnowsArePassedOver) {
  // Field 9 as a varint, field 10 as eight bytes, field 11 as a text.
  const std::string bytes =
      "\x48\x7f"
      "\x51" +
      std::string(8, 'x') +
      "\x5a\x02hi"
      "\x18\x05";
  EXPECT_EQ(Decoded<int64_t>(bytes, DType::kI64), std::vector<int64_t>{5});
}

}  // namespace
}  // namespace headlight
