// SPDX-License-Identifier: Apache-2.0
#include "client/load/reply_scan.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace headlight::client
