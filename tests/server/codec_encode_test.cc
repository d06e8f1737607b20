// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/codec.h"
#include "tests/server/attend_fixtures.h"

namespace headlight {
namespace {

using testing::FloatsOf;
using testing::MakeTestModel;
using testing::RandomFloats;

// Shares `values` as a result's memory, and tells through `owner` how many still hold it.
std::shared_ptr<const float> Share(std::vector<float> values,
                                   std::shared_ptr<std::vector<float>>* owner = nullptr) {
  auto memory = std::make_shared<std::vector<float>>(std::move(values));
  if (owner != nullptr) *owner = memory;
  return {memory, memory->data()};
}

v1::AttendResponse ParseReply(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  EXPECT_TRUE(buffer.Dump(&slices).ok());
  std::string bytes;
  for (const grpc::Slice& slice : slices) bytes.append(slice.begin(), slice.end());
  v1::AttendResponse response;
  EXPECT_TRUE(response.ParseFromString(bytes));
  return response;
}

ReplyLayout LayoutOf(const Shape& output) {
  static const auto& model = *new std::shared_ptr<const LoadedModel>(MakeTestModel("small").loaded);
  return {model, "id-1", output};
}

TEST(CodecEncodeTest, WritesEveryFieldOfTheReply) {
  ReplyLayout layout = LayoutOf({2, 3, 16});
  layout.weights = {2, 3, 3};
  AttendResult result;
  const std::vector<float> output = RandomFloats(96, 1);
  const std::vector<float> weights = RandomFloats(18, 2);
  result.output = Share(output);
  result.weights = Share(weights);
  v1::TimeBudget budget;
  budget.set_queue_us(5);
  budget.set_kernel("brgemm");

  const v1::AttendResponse response = ParseReply(EncodeAttend(layout, result, budget));
  EXPECT_EQ(response.model(), "small");
  EXPECT_EQ(response.model_version(), "1");
  EXPECT_EQ(response.request_id(), "id-1");
  EXPECT_EQ(response.output().dtype(), v1::DTYPE_F32);
  EXPECT_THAT(response.output().shape(), ::testing::ElementsAre(2, 3, 16));
  EXPECT_EQ(response.weights().dtype(), v1::DTYPE_F32);
  EXPECT_THAT(response.weights().shape(), ::testing::ElementsAre(2, 3, 3));
  EXPECT_EQ(response.time_budget().queue_us(), 5);
  EXPECT_EQ(response.time_budget().kernel(), "brgemm");
  ASSERT_EQ(response.payloads_size(), 2);
  EXPECT_EQ(FloatsOf(response.payloads(0)), output);
  EXPECT_EQ(FloatsOf(response.payloads(1)), weights);
}

TEST(CodecEncodeTest, WithoutWeightsThereIsOnePayload) {
  AttendResult result;
  result.output = Share(RandomFloats(16, 1));
  const v1::AttendResponse response = ParseReply(EncodeAttend(LayoutOf({1, 16}), result, {}));
  EXPECT_FALSE(response.has_weights());
  EXPECT_EQ(response.payloads_size(), 1);
}

TEST(CodecEncodeTest, TheOutputIsReferencedNotCopiedAndReleasedAfterSending) {
  std::shared_ptr<std::vector<float>> owner;
  AttendResult result;
  result.output = Share(RandomFloats(100 * 16, 1), &owner);
  {
    const grpc::ByteBuffer buffer = EncodeAttend(LayoutOf({100, 16}), result, {});
    result.output.reset();
    EXPECT_EQ(owner.use_count(), 2);
    std::vector<grpc::Slice> slices;
    ASSERT_TRUE(buffer.Dump(&slices).ok());
    EXPECT_EQ(static_cast<const void*>(slices.back().begin()), owner->data());
  }
  EXPECT_EQ(owner.use_count(), 1);
}

// Sequences of `seq_len` rows of which 3, 1 and all are real, for small (copied) and large (referenced) ones.
void ExpectPaddingIsZero(int64_t seq_len) {
  ReplyLayout layout = LayoutOf({3, seq_len, 16});
  layout.padded_len = seq_len;
  layout.q_lens = {3, 1, seq_len};
  AttendResult result;
  const std::vector<float> packed = RandomFloats((4 + seq_len) * 16, 1);
  result.output = Share(packed);

  std::vector<float> wanted(3 * seq_len * 16, 0.0f);
  std::copy_n(packed.begin(), 3 * 16, wanted.begin());
  std::copy_n(packed.begin() + 3 * 16, 16, wanted.begin() + seq_len * 16);
  std::copy_n(packed.begin() + 4 * 16, seq_len * 16, wanted.begin() + 2 * seq_len * 16);
  EXPECT_EQ(FloatsOf(ParseReply(EncodeAttend(layout, result, {})).payloads(0)), wanted);
}

TEST(CodecEncodeTest, PaddingOfShortSequencesIsZero) { ExpectPaddingIsZero(4); }
TEST(CodecEncodeTest, PaddingOfLongSequencesIsZero) { ExpectPaddingIsZero(256); }
TEST(CodecEncodeTest, PaddingLongerThanTheSharedZerosIsZero) { ExpectPaddingIsZero(10'000); }

TEST(CodecEncodeTest, SequencesOfLongBatchesAreNotCopied) {
  ReplyLayout layout = LayoutOf({2, 256, 16});
  layout.padded_len = 256;
  layout.q_lens = {100, 256};
  std::shared_ptr<std::vector<float>> owner;
  AttendResult result;
  result.output = Share(RandomFloats(356 * 16, 1), &owner);
  const grpc::ByteBuffer buffer = EncodeAttend(layout, result, {});
  std::vector<grpc::Slice> slices;
  ASSERT_TRUE(buffer.Dump(&slices).ok());
  EXPECT_EQ(static_cast<const void*>(slices.back().begin()), owner->data() + 100 * 16);
}

}  // namespace
}  // namespace headlight
