// SPDX-License-Identifier: Apache-2.0
#include "client/wire/reply_scan.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "headlight/v1/attention.pb.h"

namespace headlight::client {
namespace {

// The bytes in slices of `slice_bytes`.
grpc::ByteBuffer InSlices(const std::string& bytes, size_t slice_bytes) {
  std::vector<grpc::Slice> slices;
  for (size_t i = 0; i < bytes.size(); i += slice_bytes) slices.emplace_back(bytes.substr(i, slice_bytes));
  return grpc::ByteBuffer(slices.data(), slices.size());
}

v1::AttendResponse Reply() {
  v1::AttendResponse reply;
  reply.set_model("demo");
  reply.mutable_output()->set_dtype(v1::DTYPE_F32);
  reply.mutable_output()->add_shape(10);
  reply.add_payloads(std::string(40, 'x'));
  v1::TimeBudget& budget = *reply.mutable_time_budget();
  budget.set_queue_us(300);
  budget.set_compute_us(200'000);
  budget.set_total_us(200'400);
  budget.set_batch_requests(3);
  budget.set_kernel("brgemm");
  return reply;
}

TEST(ReplyScanTest, FindsTheTimeBudgetHoweverTheBytesAreCut) {
  const std::string bytes = Reply().SerializeAsString();
  for (size_t slice_bytes : {size_t{1}, size_t{7}, bytes.size()}) {
    grpc::ByteBuffer buffer = InSlices(bytes, slice_bytes);
    const std::optional<ReplyFacts> facts = ScanReply(buffer);
    ASSERT_TRUE(facts.has_value());
    EXPECT_EQ(facts->bytes, static_cast<int64_t>(bytes.size()));
    EXPECT_EQ(facts->queue_us, 300);
    EXPECT_EQ(facts->compute_us, 200'000);
    EXPECT_EQ(facts->total_us, 200'400);
    EXPECT_EQ(facts->batch_requests, 3);
    EXPECT_EQ(buffer.Length(), bytes.size());
  }
}

TEST(ReplyScanTest, AReplyWithoutABudgetHasZeros) {
  v1::AttendResponse reply = Reply();
  reply.clear_time_budget();
  grpc::ByteBuffer buffer = InSlices(reply.SerializeAsString(), 1000);
  const std::optional<ReplyFacts> facts = ScanReply(buffer);
  ASSERT_TRUE(facts.has_value());
  EXPECT_EQ(facts->total_us, 0);
}

TEST(ReplyScanTest, RefusesWhatIsNoReply) {
  const std::string whole = Reply().SerializeAsString();
  // Cut anywhere, it lacks its payload or ends within a field, or both.
  for (size_t size = 0; size < whole.size(); ++size) {
    grpc::ByteBuffer buffer = InSlices(whole.substr(0, size), 1000);
    EXPECT_FALSE(ScanReply(buffer).has_value()) << size;
  }
  v1::AttendResponse without_output = Reply();
  without_output.clear_output();
  grpc::ByteBuffer buffer = InSlices(without_output.SerializeAsString(), 1000);
  EXPECT_FALSE(ScanReply(buffer).has_value());
}

bool IsReply(const std::string& bytes) {
  grpc::ByteBuffer buffer = InSlices(bytes, 1000);
  return ScanReply(buffer).has_value();
}

TEST(ReplyScanTest, RefusesAPayloadThatDoesNotFitItsShapeAndDtype) {
  for (const size_t size_bytes : {0, 1, 39, 41, 80}) {
    v1::AttendResponse reply = Reply();
    reply.set_payloads(0, std::string(size_bytes, 'x'));
    EXPECT_FALSE(IsReply(reply.SerializeAsString())) << size_bytes;
  }
  for (const v1::DType dtype : {v1::DTYPE_UNSPECIFIED, v1::DTYPE_F16, v1::DTYPE_I64, v1::DType(99)}) {
    v1::AttendResponse reply = Reply();
    reply.mutable_output()->set_dtype(dtype);
    EXPECT_FALSE(IsReply(reply.SerializeAsString())) << dtype;
  }
  const int64_t largest = std::numeric_limits<int64_t>::max();
  for (const std::vector<int64_t>& shape : std::vector<std::vector<int64_t>>{
           {}, {11}, {5, 3}, {-10}, {-1, -10}, {0, 10}, {largest, largest}, {largest / 5, 2, 10}}) {
    v1::AttendResponse reply = Reply();
    reply.mutable_output()->mutable_shape()->Assign(shape.begin(), shape.end());
    EXPECT_FALSE(IsReply(reply.SerializeAsString())) << ::testing::PrintToString(shape);
  }
}

TEST(ReplyScanTest, OutputsHaveTheirTensorsOneAfterTheOther) {
  v1::AttendResponse reply;
  v1::OutputTensor& pooled = *reply.add_outputs();
  pooled.mutable_values()->set_dtype(v1::DTYPE_I8);
  pooled.mutable_scale()->set_dtype(v1::DTYPE_F32);
  for (const int64_t dim : {2, 5}) pooled.mutable_values()->add_shape(dim);
  pooled.mutable_scale()->add_shape(2);
  v1::OutputTensor& bits = *reply.add_outputs();
  bits.mutable_values()->set_dtype(v1::DTYPE_BITS);
  for (const int64_t dim : {3, 16}) bits.mutable_values()->add_shape(dim);
  for (const size_t size : {10, 8, 6}) reply.add_payloads(std::string(size, 'x'));
  EXPECT_TRUE(IsReply(reply.SerializeAsString()));
  for (int i = 0; i < 3; ++i) {
    v1::AttendResponse wrong = reply;
    *wrong.mutable_payloads(i) += "x";
    EXPECT_FALSE(IsReply(wrong.SerializeAsString())) << i;
  }
  reply.mutable_payloads()->RemoveLast();
  EXPECT_FALSE(IsReply(reply.SerializeAsString()));
}

TEST(ReplyScanTest, TakesEveryShapeThatFits) {
  for (const std::vector<int64_t>& shape : std::vector<std::vector<int64_t>>{{1, 10, 2}, {20}, {4, 5}}) {
    v1::AttendResponse reply = Reply();
    reply.mutable_output()->set_dtype(v1::DTYPE_BF16);
    reply.mutable_output()->mutable_shape()->Assign(shape.begin(), shape.end());
    EXPECT_TRUE(IsReply(reply.SerializeAsString())) << ::testing::PrintToString(shape);
  }
  // One dimension at a time, as writers may that do not pack numbers: 2 x 5.
  v1::AttendResponse rest = Reply();
  rest.mutable_output()->clear_shape();
  EXPECT_TRUE(IsReply(rest.SerializeAsString() + std::string("\x22\x04\x10\x02\x10\x05", 6)));
}

TEST(ReplyScanTest, FieldsMayComeInAnyOrder) {
  v1::AttendResponse payloads, rest = Reply();
  payloads.mutable_payloads()->Swap(rest.mutable_payloads());
  EXPECT_TRUE(IsReply(payloads.SerializeAsString() + rest.SerializeAsString()));
}

TEST(ReplyScanTest, WantsOnePayloadForEachTensorInTheirOrder) {
  v1::AttendResponse reply = Reply();
  for (v1::TensorSpec* tensor : {reply.mutable_weights(), reply.mutable_weights_keys()}) tensor->add_shape(3);
  reply.mutable_weights()->set_dtype(v1::DTYPE_F16);
  reply.mutable_weights_keys()->set_dtype(v1::DTYPE_I32);
  reply.add_payloads(std::string(6, 'x'));
  EXPECT_FALSE(IsReply(reply.SerializeAsString()));
  reply.add_payloads(std::string(12, 'x'));
  EXPECT_TRUE(IsReply(reply.SerializeAsString()));
  reply.mutable_payloads()->SwapElements(1, 2);
  EXPECT_FALSE(IsReply(reply.SerializeAsString()));
  reply.mutable_payloads()->SwapElements(1, 2);
  reply.add_payloads("x");
  EXPECT_FALSE(IsReply(reply.SerializeAsString()));
  for (int i = 0; i < 100; ++i) reply.add_payloads("x");  // no reply has so many
  EXPECT_FALSE(IsReply(reply.SerializeAsString()));
}

}  // namespace
}  // namespace headlight::client
