// SPDX-License-Identifier: Apache-2.0
#include "client/load/closed_loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

#include "client/client.h"
#include "tests/client/fake_server.h"

namespace headlight::client {
namespace {

using namespace std::chrono_literals;
using ::headlight::testing::FakeServer;
using ::testing::SizeIs;

const std::atomic<bool> kNeverStop = false;

ClosedLoopPlan MakePlan(const FakeServer& server, int concurrency, int num_channels) {
  static const Tensor query{.shape = {1, 1, 4}, .values = {1, 2, 3, 4}};
  ClosedLoopPlan plan{.request = *EncodeRequest({.model = "demo", .query = query.View()}),
                      .concurrency = concurrency,
                      .duration = 300ms,
                      .timeout = 5s};
  for (int i = 0; i < num_channels; ++i) {
    plan.channels.push_back(Client::Create(server.target(), {.connection = Connection::kOwn})->channel());
  }
  return plan;
}

TEST(ClosedLoopTest, CountsRepliesTheirBytesAndTheirBudgets) {
  FakeServer server;
  const LoadResult result = RunClosedLoop(MakePlan(server, 3, 2), kNeverStop);
  ASSERT_GT(result.replies(), 0);
  EXPECT_EQ(result.refused(), 0);
  EXPECT_EQ(result.measured, 300ms);
  EXPECT_EQ(result.queue_us, 100 * result.replies());
  EXPECT_EQ(result.compute_us, 200 * result.replies());
  EXPECT_EQ(result.server_us, 400 * result.replies());
  EXPECT_EQ(result.batch_requests, 2 * result.replies());
  EXPECT_EQ(result.reply_bytes % result.replies(), 0);
  EXPECT_GT(result.reply_bytes / result.replies(), 16);
  EXPECT_GT(result.latency.Percentile(50), 0ns);
  EXPECT_LE(result.latency.max(), 5s);
}

TEST(ClosedLoopTest, KeepsExactlySoManyInFlight) {
  std::atomic<int> in_flight = 0, most = 0;
  FakeServer server(
      [&](grpc::ServerContext& context, const v1::AttendRequest& request, v1::AttendResponse& response) {
        const int now = ++in_flight;
        for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
        }
        while (most < 6 && !context.IsCancelled())
          std::this_thread::sleep_for(1ms);  // until all six have come
        std::this_thread::sleep_for(5ms);
        --in_flight;
        return FakeServer::Echo(context, request, response);
      });
  RunClosedLoop(MakePlan(server, 6, 2), kNeverStop);
  EXPECT_EQ(most, 6);
}

TEST(ClosedLoopTest, EachChannelIsAConnection) {
  FakeServer server;
  RunClosedLoop(MakePlan(server, 6, 3), kNeverStop);
  EXPECT_THAT(server.peers(), SizeIs(3));
}

TEST(ClosedLoopTest, ChannelsBeyondTheConcurrencyStayUnused) {
  FakeServer server;
  EXPECT_GT(RunClosedLoop(MakePlan(server, 1, 3), kNeverStop).replies(), 0);
  EXPECT_THAT(server.peers(), SizeIs(1));
}

TEST(ClosedLoopTest, ErrorsAreCountedByCodeAndNeverEndTheRun) {
  std::atomic<int> calls = 0;
  FakeServer server(
      [&](grpc::ServerContext& context, const v1::AttendRequest& request, v1::AttendResponse& response) {
        switch (++calls % 4) {
          case 0:
            return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "the queue is full");
          case 1:
            return grpc::Status(grpc::StatusCode::INTERNAL, "broken");
          case 2:
            return grpc::Status::OK;  // an empty reply, which is malformed
          default:
            return FakeServer::Echo(context, request, response);
        }
      });
  const LoadResult result = RunClosedLoop(MakePlan(server, 2, 1), kNeverStop);
  EXPECT_GT(result.replies(), 1);
  ASSERT_THAT(result.refusals, SizeIs(2));
  const Refusals& full = result.refusals.at(absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(full.example, "the queue is full");
  EXPECT_GT(full.count, 1);
  EXPECT_GT(result.refusals.at(absl::StatusCode::kInternal).count, full.count);
  EXPECT_EQ(result.measured, 300ms);
}

TEST(ClosedLoopTest, ADeadServerIsNotHammered) {
  std::unique_ptr<FakeServer> server = std::make_unique<FakeServer>();
  const ClosedLoopPlan plan = MakePlan(*server, 1, 1);
  server.reset();
  const LoadResult result = RunClosedLoop(plan, kNeverStop);
  EXPECT_EQ(result.replies(), 0);
  ASSERT_THAT(result.refusals, SizeIs(1));
  const Refusals& unavailable = result.refusals.at(absl::StatusCode::kUnavailable);
  EXPECT_GE(unavailable.count, 1);
  // Pauses of 1, 2, 4, 8, 10, 10, ... ms leave room for 33 attempts in 300 ms.
  EXPECT_LE(unavailable.count, 33);
}

TEST(ClosedLoopTest, WarmupIsLeftOut) {
  const auto started_at = std::chrono::steady_clock::now();
  FakeServer server(
      [&](grpc::ServerContext& context, const v1::AttendRequest& request, v1::AttendResponse& response) {
        if (std::chrono::steady_clock::now() - started_at < 200ms) {
          return grpc::Status(grpc::StatusCode::UNAVAILABLE, "starting");
        }
        return FakeServer::Echo(context, request, response);
      });
  ClosedLoopPlan plan = MakePlan(server, 2, 1);
  plan.warmup = 400ms;
  const LoadResult result = RunClosedLoop(plan, kNeverStop);
  EXPECT_GT(result.replies(), 0);
  EXPECT_EQ(result.refused(), 0);
  EXPECT_EQ(result.measured, 300ms);
  EXPECT_LT(static_cast<size_t>(result.replies()), server.requests().size());
}

TEST(ClosedLoopTest, SlowRequestsCountAsRefusedAtTheirDeadline) {
  FakeServer server([](grpc::ServerContext& context, const v1::AttendRequest&, v1::AttendResponse&) {
    while (!context.IsCancelled()) std::this_thread::sleep_for(1ms);
    return grpc::Status::CANCELLED;
  });
  ClosedLoopPlan plan = MakePlan(server, 2, 1);
  plan.timeout = 20ms;
  const LoadResult result = RunClosedLoop(plan, kNeverStop);
  EXPECT_EQ(result.replies(), 0);
  EXPECT_GE(result.refusals.at(absl::StatusCode::kDeadlineExceeded).count, 2);
}

TEST(ClosedLoopTest, StoppingCancelsWhatIsInFlightAndKeepsWhatWasGathered) {
  std::atomic<bool> stop = false;
  std::atomic<int> calls = 0;
  FakeServer server(
      [&](grpc::ServerContext& context, const v1::AttendRequest& request, v1::AttendResponse& response) {
        if (++calls <= 10) return FakeServer::Echo(context, request, response);
        stop = true;
        while (!context.IsCancelled()) std::this_thread::sleep_for(1ms);
        return grpc::Status::CANCELLED;
      });
  ClosedLoopPlan plan = MakePlan(server, 1, 1);
  plan.duration = 60s;
  plan.timeout = 60s;
  const LoadResult result = RunClosedLoop(plan, stop);
  EXPECT_EQ(result.replies(), 10);
  EXPECT_EQ(result.refused(), 0);
  EXPECT_EQ(result.unfinished, 1);
  EXPECT_LT(result.measured, 60s);
}

TEST(LoadResultTest, MergeAddsUp) {
  LoadResult one{.measured = 2s, .reply_bytes = 10, .unfinished = 1, .queue_us = 5};
  one.latency.Record(1ms);
  one.refusals[absl::StatusCode::kInternal] = {.count = 2, .example = "first"};
  LoadResult other{.measured = 1s, .reply_bytes = 20, .unfinished = 2, .queue_us = 7};
  other.latency.Record(3ms);
  other.refusals[absl::StatusCode::kInternal] = {.count = 3, .example = "second"};
  other.refusals[absl::StatusCode::kNotFound] = {.count = 1, .example = "third"};
  one.Merge(other);
  EXPECT_EQ(one.measured, 2s);
  EXPECT_EQ(one.replies(), 2);
  EXPECT_EQ(one.reply_bytes, 30);
  EXPECT_EQ(one.unfinished, 3);
  EXPECT_EQ(one.queue_us, 12);
  EXPECT_EQ(one.refused(), 6);
  EXPECT_EQ(one.refusals[absl::StatusCode::kInternal].example, "first");
  EXPECT_EQ(one.refusals[absl::StatusCode::kNotFound].example, "third");
}

}  // namespace
}  // namespace headlight::client
