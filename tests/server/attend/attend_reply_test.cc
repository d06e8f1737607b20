// SPDX-License-Identifier: Apache-2.0
#include "server/attend/attend_reply.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/server/attend_fixtures.h"
#include "tests/server/checked_attend.h"
#include "tests/testing/slow_crc32c.h"

namespace headlight {
namespace {

using testing::FloatsOf;
using testing::MakeTestModel;
using testing::ParseReply;
using testing::RandomFloats;

// Shares `values` as a result's memory, and tells through `owner` how many still hold it.
template <typename T>
std::shared_ptr<const T> Share(std::vector<T> values, std::shared_ptr<std::vector<T>>* owner = nullptr) {
  auto memory = std::make_shared<std::vector<T>>(std::move(values));
  if (owner != nullptr) *owner = memory;
  return {memory, memory->data()};
}

ReplyPlan PlanOf(const Shape& output) {
  static const auto& model = *new std::shared_ptr<const LoadedModel>(MakeTestModel("small").loaded);
  ReplyPlan plan;
  plan.model = model;
  plan.request_id = "id-1";
  plan.output = output;
  return plan;
}

TEST(AttendReplyTest, WritesEveryFieldOfTheReply) {
  ReplyPlan plan = PlanOf({2, 3, 16});
  plan.weights = {2, 3, 3};
  BatchResult result;
  const std::vector<float> output = RandomFloats(96, 1);
  const std::vector<float> weights = RandomFloats(18, 2);
  result.output = Share(output);
  result.weights = Share(weights);
  v1::TimeBudget budget;
  budget.set_queue_us(5);
  budget.set_kernel("brgemm");

  const v1::AttendResponse response = ParseReply(EncodeAttend(plan, result, budget));
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

// Each payload has the checksum of exactly its bytes.
void ExpectChecksums(const v1::AttendResponse& response) {
  ASSERT_EQ(response.payload_crc32c_size(), response.payloads_size());
  for (int i = 0; i < response.payloads_size(); ++i) {
    EXPECT_EQ(response.payload_crc32c(i), testing::SlowCrc32c(response.payloads(i))) << i;
  }
}

TEST(AttendReplyTest, EveryPayloadHasItsChecksum) {
  ReplyPlan plan = PlanOf({2, 16});
  plan.weights = {1, 1, 6};
  plan.weights_keys = plan.received_mass = {1, 1, 2};
  BatchResult result;
  result.output = Share(RandomFloats(32, 1));
  result.weights = Share(RandomFloats(6, 2));
  result.weights_keys = Share(std::vector<int32_t>{7, -1});
  result.received_mass = Share(RandomFloats(2, 3));
  const v1::AttendResponse response = ParseReply(EncodeAttend(plan, result, {}));
  EXPECT_EQ(response.payloads_size(), 4);
  ExpectChecksums(response);
}

TEST(AttendReplyTest, SeveralOutputsHaveAChecksumForEachOfTheirParts) {
  ReplyPlan plan = PlanOf({});
  PlannedOutput vectors;
  vectors.kind = OutputKind::kPooled;
  vectors.encoding = OutputEncoding::kInt8;
  vectors.shape = {2, 5};
  vectors.scale = {2};
  PlannedOutput sparse;
  sparse.kind = OutputKind::kSparse;
  sparse.shape = {100};
  plan.outputs = {vectors, sparse};
  BatchResult result;
  result.outputs.resize(2);
  result.outputs[0].values = Share(std::vector<int8_t>{1, 2, 3, 4, 5, -1, -2, -3, -4, -5});
  result.outputs[0].scale = Share(std::vector<float>{0.5f, 0.25f});
  result.outputs[1].values = Share(std::vector<float>{3, 2, 1});
  result.outputs[1].indices = Share(std::vector<int32_t>{7, 8, 9});
  result.outputs[1].lens = {1, 2};
  const v1::AttendResponse response = ParseReply(EncodeAttend(plan, result, {}));
  EXPECT_EQ(response.payloads_size(), 4);
  ExpectChecksums(response);
}

TEST(AttendReplyTest, WithoutWeightsThereIsOnePayload) {
  BatchResult result;
  result.output = Share(RandomFloats(16, 1));
  const v1::AttendResponse response = ParseReply(EncodeAttend(PlanOf({1, 16}), result, {}));
  EXPECT_FALSE(response.has_weights());
  EXPECT_EQ(response.payloads_size(), 1);
}

TEST(AttendReplyTest, TheOutputIsReferencedNotCopiedAndReleasedAfterSending) {
  std::shared_ptr<std::vector<float>> owner;
  BatchResult result;
  result.output = Share(RandomFloats(100 * 16, 1), &owner);
  {
    const grpc::ByteBuffer buffer = EncodeAttend(PlanOf({100, 16}), result, {});
    result.output.reset();
    EXPECT_EQ(owner.use_count(), 2);
    std::vector<grpc::Slice> slices;
    ASSERT_TRUE(buffer.Dump(&slices).ok());
    EXPECT_EQ(static_cast<const void*>(slices.back().begin()), owner->data());
  }
  EXPECT_EQ(owner.use_count(), 1);
}

TEST(AttendReplyTest, TopKBringsItsKeys) {
  ReplyPlan plan = PlanOf({1, 16});
  plan.weights = plan.weights_keys = {1, 1, 1, 3};
  BatchResult result;
  result.output = Share(RandomFloats(16, 1));
  result.weights = Share(std::vector<float>{0.5f, 0.25f, 0.0f});
  const std::vector<int32_t> keys = {7, 2, -1};
  result.weights_keys = Share(keys);
  const v1::AttendResponse response = ParseReply(EncodeAttend(plan, result, {}));
  EXPECT_EQ(response.weights_keys().dtype(), v1::DTYPE_I32);
  EXPECT_THAT(response.weights_keys().shape(), ::testing::ElementsAre(1, 1, 1, 3));
  EXPECT_FALSE(response.has_received_mass());
  ASSERT_EQ(response.payloads_size(), 3);
  EXPECT_THAT(FloatsOf(response.payloads(1)), ::testing::ElementsAre(0.5f, 0.25f, 0.0f));
  EXPECT_EQ(response.payloads(2), testing::BytesOf(keys));
}

TEST(AttendReplyTest, ASummaryBringsWhatEachKeyReceives) {
  ReplyPlan plan = PlanOf({2, 16});
  plan.weights = {1, 1, 6};
  plan.received_mass = {1, 1, 2};
  BatchResult result;
  result.output = Share(RandomFloats(32, 1));
  result.weights = Share(RandomFloats(6, 2));
  result.received_mass = Share(std::vector<float>{1.5f, 0.5f});
  const v1::AttendResponse response = ParseReply(EncodeAttend(plan, result, {}));
  EXPECT_EQ(response.received_mass().dtype(), v1::DTYPE_F32);
  EXPECT_THAT(response.received_mass().shape(), ::testing::ElementsAre(1, 1, 2));
  EXPECT_FALSE(response.has_weights_keys());
  ASSERT_EQ(response.payloads_size(), 3);
  EXPECT_EQ(FloatsOf(response.payloads(1)), RandomFloats(6, 2));
  EXPECT_THAT(FloatsOf(response.payloads(2)), ::testing::ElementsAre(1.5f, 0.5f));
}

TEST(AttendReplyTest, NarrowTensorsKeepTheirBytesAndThePaddingIsZero) {
  for (const DType dtype : {DType::kF16, DType::kBf16}) {
    for (const int64_t seq_len : {int64_t{4}, int64_t{1000}}) {  // copied, referenced
      ReplyPlan plan = PlanOf({2, seq_len, 16});
      plan.dtype = dtype;
      plan.padded_len = seq_len;
      plan.q_lens = {3, 1};
      plan.weights = {1, 5};
      BatchResult result;
      std::vector<uint16_t> packed(4 * 16);
      for (size_t i = 0; i < packed.size(); ++i) packed[i] = static_cast<uint16_t>(0x3c00 + i);
      result.output = Share(packed);
      const std::vector<uint16_t> weights = {1, 2, 3, 4, 5};
      result.weights = Share(weights);
      std::vector<uint16_t> wanted(2 * seq_len * 16, 0);
      std::copy_n(packed.begin(), 3 * 16, wanted.begin());
      std::copy_n(packed.begin() + 3 * 16, 16, wanted.begin() + seq_len * 16);
      const v1::AttendResponse response = ParseReply(EncodeAttend(plan, result, {}));
      EXPECT_EQ(response.output().dtype(), dtype == DType::kF16 ? v1::DTYPE_F16 : v1::DTYPE_BF16);
      EXPECT_EQ(response.weights().dtype(), response.output().dtype());
      EXPECT_EQ(response.payloads(0), testing::BytesOf(wanted));
      EXPECT_EQ(response.payloads(1), testing::BytesOf(weights));
    }
  }
}

// Sequences of `seq_len` rows of which 3, 1 and all are real, for small (copied) and large (referenced) ones.
void ExpectPaddingIsZero(int64_t seq_len) {
  ReplyPlan plan = PlanOf({3, seq_len, 16});
  plan.padded_len = seq_len;
  plan.q_lens = {3, 1, seq_len};
  BatchResult result;
  const std::vector<float> packed = RandomFloats((4 + seq_len) * 16, 1);
  result.output = Share(packed);

  std::vector<float> wanted(3 * seq_len * 16, 0.0f);
  std::copy_n(packed.begin(), 3 * 16, wanted.begin());
  std::copy_n(packed.begin() + 3 * 16, 16, wanted.begin() + seq_len * 16);
  std::copy_n(packed.begin() + 4 * 16, seq_len * 16, wanted.begin() + 2 * seq_len * 16);
  const v1::AttendResponse response = ParseReply(EncodeAttend(plan, result, {}));
  EXPECT_EQ(FloatsOf(response.payloads(0)), wanted);
  ExpectChecksums(response);  // padding included
}

TEST(AttendReplyTest, PaddingOfShortSequencesIsZero) { ExpectPaddingIsZero(4); }
TEST(AttendReplyTest, PaddingOfLongSequencesIsZero) { ExpectPaddingIsZero(256); }
TEST(AttendReplyTest, PaddingLongerThanTheSharedZerosIsZero) { ExpectPaddingIsZero(10'000); }

TEST(AttendReplyTest, SequencesOfLongBatchesAreNotCopied) {
  ReplyPlan plan = PlanOf({2, 256, 16});
  plan.padded_len = 256;
  plan.q_lens = {100, 256};
  std::shared_ptr<std::vector<float>> owner;
  BatchResult result;
  result.output = Share(RandomFloats(356 * 16, 1), &owner);
  const grpc::ByteBuffer buffer = EncodeAttend(plan, result, {});
  std::vector<grpc::Slice> slices;
  ASSERT_TRUE(buffer.Dump(&slices).ok());
  EXPECT_EQ(static_cast<const void*>(slices.back().begin()), owner->data() + 100 * 16);
}

}  // namespace
}  // namespace headlight
