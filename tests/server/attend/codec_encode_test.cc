// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/attend/codec.h"
#include "tests/server/attend_fixtures.h"

namespace headlight {
namespace {

using testing::FloatsOf;
using testing::MakeTestModel;
using testing::RandomFloats;

// Shares `values` as a result's memory, and tells through `owner` how many still hold it.
template <typename T>
std::shared_ptr<const T> Share(std::vector<T> values, std::shared_ptr<std::vector<T>>* owner = nullptr) {
  auto memory = std::make_shared<std::vector<T>>(std::move(values));
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
  ReplyLayout layout;
  layout.model = model;
  layout.request_id = "id-1";
  layout.output = output;
  return layout;
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

TEST(CodecEncodeTest, TopKBringsItsKeys) {
  ReplyLayout layout = LayoutOf({1, 16});
  layout.weights = layout.weights_keys = {1, 1, 1, 3};
  AttendResult result;
  result.output = Share(RandomFloats(16, 1));
  result.weights = Share(std::vector<float>{0.5f, 0.25f, 0.0f});
  const std::vector<int32_t> keys = {7, 2, -1};
  result.weights_keys = Share(keys);
  const v1::AttendResponse response = ParseReply(EncodeAttend(layout, result, {}));
  EXPECT_EQ(response.weights_keys().dtype(), v1::DTYPE_I32);
  EXPECT_THAT(response.weights_keys().shape(), ::testing::ElementsAre(1, 1, 1, 3));
  EXPECT_FALSE(response.has_received_mass());
  ASSERT_EQ(response.payloads_size(), 3);
  EXPECT_THAT(FloatsOf(response.payloads(1)), ::testing::ElementsAre(0.5f, 0.25f, 0.0f));
  EXPECT_EQ(response.payloads(2), testing::BytesOf(keys));
}

TEST(CodecEncodeTest, ASummaryBringsWhatEachKeyReceives) {
  ReplyLayout layout = LayoutOf({2, 16});
  layout.weights = {1, 1, 6};
  layout.received_mass = {1, 1, 2};
  AttendResult result;
  result.output = Share(RandomFloats(32, 1));
  result.weights = Share(RandomFloats(6, 2));
  result.received_mass = Share(std::vector<float>{1.5f, 0.5f});
  const v1::AttendResponse response = ParseReply(EncodeAttend(layout, result, {}));
  EXPECT_EQ(response.received_mass().dtype(), v1::DTYPE_F32);
  EXPECT_THAT(response.received_mass().shape(), ::testing::ElementsAre(1, 1, 2));
  EXPECT_FALSE(response.has_weights_keys());
  ASSERT_EQ(response.payloads_size(), 3);
  EXPECT_EQ(FloatsOf(response.payloads(1)), RandomFloats(6, 2));
  EXPECT_THAT(FloatsOf(response.payloads(2)), ::testing::ElementsAre(1.5f, 0.5f));
}

TEST(CodecEncodeTest, NarrowTensorsKeepTheirBytesAndThePaddingIsZero) {
  for (const DType dtype : {DType::kF16, DType::kBf16}) {
    for (const int64_t seq_len : {int64_t{4}, int64_t{1000}}) {  // copied, referenced
      ReplyLayout layout = LayoutOf({2, seq_len, 16});
      layout.dtype = dtype;
      layout.padded_len = seq_len;
      layout.q_lens = {3, 1};
      layout.weights = {1, 5};
      AttendResult result;
      std::vector<uint16_t> packed(4 * 16);
      for (size_t i = 0; i < packed.size(); ++i) packed[i] = static_cast<uint16_t>(0x3c00 + i);
      result.output = Share(packed);
      const std::vector<uint16_t> weights = {1, 2, 3, 4, 5};
      result.weights = Share(weights);
      std::vector<uint16_t> wanted(2 * seq_len * 16, 0);
      std::copy_n(packed.begin(), 3 * 16, wanted.begin());
      std::copy_n(packed.begin() + 3 * 16, 16, wanted.begin() + seq_len * 16);
      const v1::AttendResponse response = ParseReply(EncodeAttend(layout, result, {}));
      EXPECT_EQ(response.output().dtype(), dtype == DType::kF16 ? v1::DTYPE_F16 : v1::DTYPE_BF16);
      EXPECT_EQ(response.weights().dtype(), response.output().dtype());
      EXPECT_EQ(response.payloads(0), testing::BytesOf(wanted));
      EXPECT_EQ(response.payloads(1), testing::BytesOf(weights));
    }
  }
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
