// SPDX-License-Identifier: Apache-2.0
#include "server/batch/memory_need.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/runtime/compute_arena.h"
#include "server/batch/batch_executor.h"
#include "server/memory/buffer_pool.h"
#include "server/memory/memory_budget.h"
#include "tests/server/attend_fixtures.h"
#include "tests/server/checked_attend.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using testing::AddFloats;
using testing::CheckAttend;
using testing::CrossConfig;
using testing::EncoderConfig;
using testing::IsOk;
using testing::LoadTestModel;
using testing::MakeIdsRequest;
using testing::MakeRequest;
using testing::MakeTestModel;
using testing::Segmented;

constexpr int kThreads = 2;

std::vector<v1::AttendRequest> RequestsOfEveryKind() {
  std::vector<v1::AttendRequest> requests = {MakeRequest("small", {1, 1, 16}),
                                             MakeRequest("small", {3, 700, 16}),
                                             MakeIdsRequest("encoder", {40, 20})};
  v1::AttendRequest weights = MakeRequest("small", {2, 90, 16});
  weights.mutable_weights()->set_mode(v1::WEIGHTS_MODE_FULL);
  weights.set_output_dtype(v1::DTYPE_F16);
  requests.push_back(weights);
  v1::AttendRequest grids = MakeIdsRequest("encoder", {2, 20});
  grids.mutable_weights()->set_mode(v1::WEIGHTS_MODE_GRID);
  for (const int64_t layer : {0, 1}) grids.mutable_weights()->add_layers(layer);
  requests.push_back(grids);
  v1::AttendRequest masked = MakeRequest("small", {2, 60, 16});
  AddFloats({2, 1, 60, 60}, 1, *masked.mutable_mask(), masked, v1::DTYPE_BF16);
  requests.push_back(masked);
  v1::AttendRequest cross = MakeRequest("cross", {2, 3, 16});
  AddFloats({2, 300, 12}, 2, *cross.mutable_key(), cross);
  AddFloats({2, 300, 8}, 3, *cross.mutable_value(), cross);
  requests.push_back(cross);
  v1::AttendRequest pooled = MakeIdsRequest("encoder", {300});
  for (int i = 0; i < 300; ++i) pooled.add_seq_lens(1);
  pooled.set_pooling(v1::POOLING_MODE_MEAN);
  requests.push_back(pooled);
  return requests;
}

TEST(MemoryNeedTest, ARequestTakesNoMoreThanItWasSaidToNeed) {
  ModelRegistry registry;
  ASSERT_THAT(registry.Add(MakeTestModel("small").loaded), IsOk());
  ASSERT_THAT(registry.Add(MakeTestModel("cross", CrossConfig()).loaded), IsOk());
  ASSERT_THAT(registry.Add(LoadTestModel("encoder", EncoderConfig())), IsOk());
  for (const v1::AttendRequest& request : RequestsOfEveryKind()) {
    const std::string bytes = request.SerializeAsString();
    const auto checked = CheckAttend(Segmented(bytes, 1000), {registry, 1 << 28});
    ASSERT_THAT(checked, IsOk());
    MemoryBudget budget(int64_t{1} << 30);
    ComputeArena arena(kThreads);
    BufferPool pool(/*max_idle_bytes=*/0, &budget);
    AttentionExecutor executor(arena, pool, &budget);
    const BatchInput* const input = &checked->input;
    {
      const auto results = executor.Execute({&input, 1});
      ASSERT_THAT(results, IsOk());
      EXPECT_LE(budget.peak_held(), MemoryNeed(*input, kThreads))
          << request.ShortDebugString().substr(0, 200);
      EXPECT_GT(budget.Held(MemoryKind::kReply), 0);
    }
    EXPECT_EQ(budget.Held(MemoryKind::kReply), 0);
    EXPECT_EQ(budget.Held(MemoryKind::kBatch), 0);
  }
}

TEST(MemoryNeedTest, WorkspacesGoBackAfterABurst) {
  ModelRegistry registry;
  ASSERT_THAT(registry.Add(MakeTestModel("small").loaded), IsOk());
  MemoryBudget budget(int64_t{1} << 30);
  ComputeArena arena(kThreads);
  BufferPool pool(/*max_idle_bytes=*/1 << 20, &budget);
  AttentionExecutor executor(arena, pool, &budget);
  const auto run = [&](int64_t seq_len) {
    const std::string bytes = MakeRequest("small", {1, seq_len, 16}).SerializeAsString();
    const auto checked = CheckAttend(Segmented(bytes, 1 << 20), {registry, 1 << 28});
    ASSERT_THAT(checked, IsOk());
    const BatchInput* const input = &checked->input;
    ASSERT_THAT(executor.Execute({&input, 1}), IsOk());
  };
  run(16);
  executor.Trim();
  const int64_t before = budget.Held(MemoryKind::kWorkspace);
  run(20'000);
  EXPECT_GT(budget.Held(MemoryKind::kWorkspace), 2 * before);
  executor.Trim();  // the burst was since the last one
  pool.Trim();
  executor.Trim();
  pool.Trim();
  EXPECT_LE(budget.Held(MemoryKind::kWorkspace), before + before / 10);
}

class SharedWorkspaceTest : public ::testing::Test {
 protected:
  SharedWorkspaceTest() {
    EXPECT_THAT(registry_.Add(MakeTestModel("small").loaded), IsOk());
    EXPECT_THAT(registry_.Add(MakeTestModel("cross", CrossConfig()).loaded), IsOk());
  }

  absl::StatusOr<CheckedRequest> Check(const v1::AttendRequest& request) {
    // Inputs are seen in place.
    const std::string& bytes = sent_.emplace_back(request.SerializeAsString());
    return CheckAttend(Segmented(bytes, 1 << 20), {registry_, 1 << 28});
  }
  // What a workspace holds after batches of these requests.
  int64_t HeldAfter(const std::vector<std::vector<v1::AttendRequest>>& batches) {
    MemoryBudget budget(int64_t{1} << 30);
    BufferPool pool(/*max_idle_bytes=*/0, &budget);
    AttentionExecutor executor(arena_, pool, &budget);
    for (const std::vector<v1::AttendRequest>& requests : batches) {
      std::vector<CheckedRequest> checked;
      for (const v1::AttendRequest& request : requests) {
        absl::StatusOr<CheckedRequest> one = Check(request);
        EXPECT_THAT(one, IsOk());
        checked.push_back(*std::move(one));
      }
      std::vector<const BatchInput*> inputs;
      for (const CheckedRequest& one : checked) inputs.push_back(&one.input);
      EXPECT_THAT(executor.Execute(inputs), IsOk());
    }
    return budget.Held(MemoryKind::kWorkspace);
  }
  // Many queries of one model, and many keys of the other.
  v1::AttendRequest Small() { return MakeRequest("small", {1, 4000, 16}); }
  v1::AttendRequest Cross() {
    v1::AttendRequest request = MakeRequest("cross", {1, 3, 16});
    AddFloats({1, 9000, 12}, 2, *request.mutable_key(), request);
    AddFloats({1, 9000, 8}, 3, *request.mutable_value(), request);
    return request;
  }

  std::list<std::string> sent_;
  ModelRegistry registry_;
  ComputeArena arena_{kThreads};
};

TEST_F(SharedWorkspaceTest, ModelsTogetherHoldLittleMoreThanTheLargest) {
  const v1::AttendRequest small = Small();
  const v1::AttendRequest cross = Cross();
  EXPECT_LT(HeldAfter({{small}, {cross}, {small}}), (HeldAfter({{small}}) + HeldAfter({{cross}})) * 3 / 4);
}

// Weights of a few tokens take the same room beside a long sequence of another request as by themselves.
TEST_F(SharedWorkspaceTest, ALongNeighbourDoesNotMakeTheWeightsOfAShortRequestDearer) {
  const v1::AttendRequest long_one = MakeRequest("small", {1, 6'000, 16});
  const v1::AttendRequest plain = MakeRequest("small", {1, 20, 16});
  for (const v1::WeightsMode mode : {v1::WEIGHTS_MODE_FULL, v1::WEIGHTS_MODE_GRID}) {
    SCOPED_TRACE(v1::WeightsMode_Name(mode));
    v1::AttendRequest weighted = plain;
    weighted.mutable_weights()->set_mode(mode);
    constexpr int64_t kOfLists = 20'000;
    EXPECT_LE(HeldAfter({{weighted, long_one}}) - HeldAfter({{plain, long_one}}),
              HeldAfter({{weighted}}) - HeldAfter({{plain}}) + kOfLists);
  }
}

// Each fits into the server alone, and finds in the workspace what the other has left.
TEST_F(SharedWorkspaceTest, WhatOneModelLeftGivesWayToAnotherWhereTheBudgetIsShort) {
  const auto small = Check(Small());
  const auto cross = Check(Cross());
  ASSERT_THAT(small, IsOk());
  ASSERT_THAT(cross, IsOk());
  MemoryBudget budget(std::max(MemoryNeed(small->input, kThreads), MemoryNeed(cross->input, kThreads)));
  BufferPool pool(/*max_idle_bytes=*/0, &budget);
  AttentionExecutor executor(arena_, pool, &budget);
  for (int round = 0; round < 3; ++round) {
    for (const BatchInput* const input : {&small->input, &cross->input}) {
      EXPECT_THAT(executor.Execute({&input, 1}), IsOk());
    }
  }
}

TEST(MemoryNeedTest, ABatchThatTheBudgetHasNoRoomForIsRefusedAndLeavesNothing) {
  ModelRegistry registry;
  ASSERT_THAT(registry.Add(MakeTestModel("small").loaded), IsOk());
  MemoryBudget budget(1 << 16);
  ComputeArena arena(1);
  BufferPool pool(/*max_idle_bytes=*/1 << 20, &budget);
  AttentionExecutor executor(arena, pool, &budget);
  const std::string bytes = MakeRequest("small", {1, 4000, 16}).SerializeAsString();
  const auto checked = CheckAttend(Segmented(bytes, 1 << 20), {registry, 1 << 28});
  ASSERT_THAT(checked, IsOk());
  const BatchInput* const input = &checked->input;
  EXPECT_THAT(executor.Execute({&input, 1}).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(budget.held(), 0);
}

}  // namespace
}  // namespace headlight
