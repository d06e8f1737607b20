// SPDX-License-Identifier: Apache-2.0
#include "client/load/load_run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include "client/client.h"
#include "client/wire/wire.h"
#include "tests/client/fake_server.h"
#include "tests/client/restarted_server.h"

namespace headlight::client {
namespace {

using namespace std::chrono_literals;
using ::headlight::testing::FakeServer;
using ::headlight::testing::RestartedServer;
using ::testing::Contains;
using ::testing::Key;
using ::testing::MatchesRegex;
using ::testing::SizeIs;

const std::atomic<bool> kNeverStop = false;

LoadPlan MakePlan(const std::string& target, int num_channels) {
  static const Tensor query{.shape = {1, 1, 4}, .values = {1, 2, 3, 4}};
  LoadPlan plan{.mix = {.timeouts = {5s}}, .duration = 300ms};
  plan.pool.push_back({.bytes = *EncodeRequest({.model = "demo", .query = query.View()}), .tokens = 1});
  plan.channels =
      Client::Create(target, {.connection = Connection::kOwn, .num_channels = num_channels})->channels();
  return plan;
}

LoadPlan Closed(const FakeServer& server, int concurrency, int num_channels) {
  LoadPlan plan = MakePlan(server.target(), num_channels);
  plan.concurrency = concurrency;
  return plan;
}

LoadPlan Open(const FakeServer& server, double rate, int num_channels = 2) {
  LoadPlan plan = MakePlan(server.target(), num_channels);
  plan.rate = rate;
  return plan;
}

TEST(ClosedLoopTest, CountsRepliesTheirBytesAndTheirBudgets) {
  FakeServer server;
  const LoadResult result = RunLoad(Closed(server, 3, 2), kNeverStop);
  ASSERT_GT(result.replies(), 0);
  EXPECT_EQ(result.refused(), 0);
  EXPECT_EQ(result.unfinished, 0);
  EXPECT_EQ(result.sent, result.replies());
  EXPECT_EQ(result.measured, 300ms);
  EXPECT_EQ(result.queue_us, 100 * result.replies());
  EXPECT_EQ(result.compute_us, 200 * result.replies());
  EXPECT_EQ(result.server_us, 400 * result.replies());
  EXPECT_EQ(result.batch_requests, 2 * result.replies());
  EXPECT_EQ(result.received_bytes % result.replies(), 0);
  EXPECT_GT(result.received_bytes / result.replies(), 16);
  EXPECT_GT(result.actual.Percentile(50), 0ns);
  EXPECT_GE(result.intended.Percentile(50), result.actual.Percentile(50));
  EXPECT_LE(result.replies_in_window, result.replies());
  EXPECT_EQ(result.tokens_in_window, result.replies_in_window);
  EXPECT_EQ(result.good_in_window, result.replies_in_window);
  EXPECT_GT(result.cpu_cores, 0);
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
  RunLoad(Closed(server, 6, 2), kNeverStop);
  EXPECT_EQ(most, 6);
}

TEST(ClosedLoopTest, EachChannelIsAConnection) {
  FakeServer server;
  RunLoad(Closed(server, 6, 3), kNeverStop);
  EXPECT_THAT(server.peers(), SizeIs(3));
}

TEST(ClosedLoopTest, ChannelsBeyondTheConcurrencyStayUnused) {
  FakeServer server;
  EXPECT_GT(RunLoad(Closed(server, 1, 3), kNeverStop).replies(), 0);
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
  LoadPlan plan = Closed(server, 2, 1);
  plan.count = 40;
  const LoadResult result = RunLoad(plan, kNeverStop);
  EXPECT_EQ(result.replies(), 10);
  ASSERT_THAT(result.refusals, SizeIs(2));
  const Refusals& full = result.refusals.at(absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(full.example, "the queue is full");
  EXPECT_EQ(full.count, 10);
  EXPECT_EQ(result.refusals.at(absl::StatusCode::kInternal).count, 20);
}

TEST(ClosedLoopTest, ACountEndsTheRun) {
  FakeServer server;
  LoadPlan plan = Closed(server, 4, 2);
  plan.count = 101;
  plan.duration = 0ms;
  const LoadResult result = RunLoad(plan, kNeverStop);
  EXPECT_EQ(result.replies(), 101);
  EXPECT_EQ(result.replies_in_window, 101);
  EXPECT_GT(result.measured, 0ns);
}

TEST(ClosedLoopTest, ADeadServerIsNotHammered) {
  std::unique_ptr<FakeServer> server = std::make_unique<FakeServer>();
  const LoadPlan plan = Closed(*server, 1, 1);
  server.reset();
  const LoadResult result = RunLoad(plan, kNeverStop);
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
  LoadPlan plan = Closed(server, 2, 1);
  plan.warmup = 400ms;
  const LoadResult result = RunLoad(plan, kNeverStop);
  EXPECT_GT(result.replies(), 0);
  EXPECT_EQ(result.refused(), 0);
  EXPECT_EQ(result.measured, 300ms);
  EXPECT_LT(static_cast<size_t>(result.replies()), server.requests().size());
}

TEST(ClosedLoopTest, SlowRequestsCountAsRefusedAtTheirDeadline) {
  FakeServer server(FakeServer::UntilCancelled);
  LoadPlan plan = Closed(server, 2, 1);
  plan.mix.timeouts = {20ms};
  const LoadResult result = RunLoad(plan, kNeverStop);
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
        return FakeServer::UntilCancelled(context, request, response);
      });
  LoadPlan plan = Closed(server, 1, 1);
  plan.duration = 60s;
  plan.mix.timeouts = {60s};
  const LoadResult result = RunLoad(plan, stop);
  EXPECT_EQ(result.replies(), 10);
  EXPECT_EQ(result.refused(), 0);
  EXPECT_EQ(result.unfinished, 1);
  EXPECT_LT(result.measured, 60s);
}

TEST(OpenLoopTest, SendsEveryArrivalWhateverTheServerDoes) {
  FakeServer server;
  LoadPlan plan = Open(server, 500, 3);
  plan.count = 100;
  plan.arrivals = Arrivals::kConstant;
  const LoadResult result = RunLoad(plan, kNeverStop);
  EXPECT_EQ(result.sent, 100);
  EXPECT_EQ(result.replies(), 100);
  EXPECT_EQ(result.unsent, 0);
  EXPECT_EQ(result.late.count(), 100);
  EXPECT_GE(result.intended.mean(), result.actual.mean());
  EXPECT_GE(result.measured, 190ms);  // 100 arrivals at 500/s: the last one at 198 ms
  EXPECT_THAT(server.peers(), SizeIs(3));
}

TEST(OpenLoopTest, TheWindowIsAsLongAsPlannedHoweverFewArrivalsItHas) {
  FakeServer server;
  LoadPlan plan = Open(server, 4, 1);
  plan.arrivals = Arrivals::kConstant;
  const LoadResult result = RunLoad(plan, kNeverStop);  // arrivals at 0 and 250 ms of 300
  EXPECT_EQ(result.replies(), 2);
  EXPECT_EQ(result.measured, 300ms);
}

TEST(OpenLoopTest, DoesNotWaitForReplies) {
  std::atomic<int> calls = 0;
  FakeServer server(
      [&](grpc::ServerContext& context, const v1::AttendRequest& request, v1::AttendResponse& response) {
        ++calls;
        while (calls < 20 && !context.IsCancelled())
          std::this_thread::sleep_for(1ms);  // nobody before all came
        return FakeServer::Echo(context, request, response);
      });
  LoadPlan plan = Open(server, 1000);
  plan.count = 20;
  EXPECT_EQ(RunLoad(plan, kNeverStop).replies(), 20);
}

TEST(OpenLoopTest, BeyondTheMostInFlightRequestsAreLateAndThenUnsent) {
  FakeServer server(FakeServer::UntilCancelled);
  LoadPlan plan = Open(server, 1000, 1);
  plan.count = 50;
  plan.max_in_flight = 2;
  plan.mix.timeouts = {100ms};
  const LoadResult result = RunLoad(plan, kNeverStop);
  EXPECT_EQ(result.replies(), 0);
  EXPECT_GT(result.unsent, 0);
  EXPECT_EQ(result.sent + result.unsent, 50);
  EXPECT_EQ(result.refused(), result.sent);
}

TEST(OpenLoopTest, ShareOfCancelledRequestsIsAsAskedFor) {
  FakeServer server(FakeServer::UntilCancelled);
  LoadPlan plan = Open(server, 1000, 1);
  plan.count = 100;
  plan.mix.timeouts = {3s};
  plan.mix.cancel_ratio = 0.5;
  plan.mix.cancel_within = 5ms;
  plan.mix.seed = 3;
  int64_t to_cancel = 0;
  for (int i = 0; i < 100; ++i) to_cancel += plan.mix.Choose(i).cancel_after.has_value();
  const LoadResult result = RunLoad(plan, kNeverStop);
  EXPECT_EQ(result.cancelled, to_cancel);
  EXPECT_EQ(result.refusals.at(absl::StatusCode::kDeadlineExceeded).count, 100 - to_cancel);
}

// 'r' for each bin with replies, 'x' for each with nothing but refusals, '.' for each with neither; equal
// neighbours are one.
std::string Course(const Timeline& timeline) {
  std::string course;
  for (const TimelineBin& bin : timeline.bins()) {
    const char now = bin.replies > 0 ? 'r' : bin.refused > 0 ? 'x' : '.';
    if (course.empty() || course.back() != now) course += now;
  }
  return course;
}

TEST(OpenLoopTest, AServerThatDiesAndComesBackLeavesAGapAndRepliesResume) {
  std::atomic<bool> stop = false;
  RestartedServer server(500ms, [&] { stop = true; });
  LoadPlan plan = MakePlan(server.target(), 1);
  plan.rate = 200;
  plan.arrivals = Arrivals::kConstant;
  plan.duration = 10s;  // at most
  plan.timeline_width = 100ms;
  plan.mix.timeouts = {20s};
  const LoadResult result = RunLoad(plan, stop);
  EXPECT_EQ(result.sent, result.replies() + result.refused() + result.unfinished);
  EXPECT_THAT(result.refusals, Contains(Key(absl::StatusCode::kUnavailable)));
  EXPECT_THAT(Course(result.timeline), MatchesRegex("r.*x.*r.*"));
}

TEST(OpenLoopTest, StoppingEndsItAtOnce) {
  std::atomic<bool> stop = false;
  std::atomic<int> calls = 0;
  FakeServer server(
      [&](grpc::ServerContext& context, const v1::AttendRequest& request, v1::AttendResponse& response) {
        if (++calls == 5) stop = true;
        return FakeServer::UntilCancelled(context, request, response);
      });
  LoadPlan plan = Open(server, 1000, 1);
  plan.duration = 60s;
  plan.mix.timeouts = {60s};
  const LoadResult result = RunLoad(plan, stop);
  EXPECT_EQ(result.replies(), 0);
  EXPECT_GE(result.unfinished, 5);
  EXPECT_LT(result.measured, 60s);
}

TEST(LoadRunTest, ReportsProgress) {
  FakeServer server;
  LoadPlan plan = Closed(server, 1, 1);
  plan.duration = 1200ms;
  int reports = 0;
  RunLoad(plan, kNeverStop, [&](const LoadProgress& progress) {
    ++reports;
    EXPECT_EQ(progress.planned, 1200ms);
    EXPECT_GE(progress.sent, progress.replies);
  });
  EXPECT_GE(reports, 1);
}

TEST(LoadResultTest, MergeAddsUp) {
  LoadResult one{.measured = 2s, .received_bytes = 10, .unfinished = 1, .unsent = 3, .queue_us = 5};
  one.intended.Record(1ms);
  one.refusals[absl::StatusCode::kInternal] = {.count = 2, .example = "first"};
  LoadResult other{.measured = 1s, .received_bytes = 20, .unfinished = 2, .unsent = 4, .queue_us = 7};
  other.intended.Record(3ms);
  other.refusals[absl::StatusCode::kInternal] = {.count = 3, .example = "second"};
  other.refusals[absl::StatusCode::kNotFound] = {.count = 1, .example = "third"};
  one.Merge(other);
  EXPECT_EQ(one.measured, 2s);
  EXPECT_EQ(one.replies(), 2);
  EXPECT_EQ(one.received_bytes, 30);
  EXPECT_EQ(one.unfinished, 3);
  EXPECT_EQ(one.unsent, 7);
  EXPECT_EQ(one.queue_us, 12);
  EXPECT_EQ(one.refused(), 6);
  EXPECT_EQ(one.refusals[absl::StatusCode::kInternal].example, "first");
  EXPECT_EQ(one.refusals[absl::StatusCode::kNotFound].example, "third");
}

}  // namespace
}  // namespace headlight::client
