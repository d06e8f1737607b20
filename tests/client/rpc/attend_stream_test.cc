// SPDX-License-Identifier: Apache-2.0
#include "client/attend_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "client/client.h"
#include "tests/client/fake_server.h"
#include "tests/testing/status_matchers.h"

namespace headlight::client {
namespace {

using namespace std::chrono_literals;
using ::headlight::testing::FakeServer;
using ::headlight::testing::IsOk;
using ::headlight::testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::SizeIs;

// Outcomes by the place of their request.
class Outcomes {
 public:
  AttendCallback At(int i) {
    return [this, i](absl::StatusOr<AttendReply> reply) {
      const std::lock_guard lock(mutex_);
      EXPECT_TRUE(replies_.emplace(i, std::move(reply)).second) << "called twice";
    };
  }
  // Once the stream is finished.
  const std::map<int, absl::StatusOr<AttendReply>>& all() const { return replies_; }

 private:
  std::mutex mutex_;
  std::map<int, absl::StatusOr<AttendReply>> replies_;
};

Tensor QueryOf(int i) { return {.shape = {1, 1, 1}, .values = {static_cast<float>(i)}}; }

TEST(AttendStreamTest, EveryRequestGetsItsOwnReply) {
  FakeServer server;
  const auto client = Client::Create(server.target());
  const auto stream = client->OpenStream(30s, {.max_unanswered = 8});
  ASSERT_THAT(stream, IsOk());
  Outcomes outcomes;
  constexpr int kRequests = 200;
  for (int i = 0; i < kRequests; ++i) {
    const Tensor query = QueryOf(i);
    (*stream)->Attend({.query = query.View()}, outcomes.At(i));
  }
  EXPECT_THAT((*stream)->Finish(), IsOk());
  ASSERT_THAT(outcomes.all(), SizeIs(kRequests));
  for (const auto& [i, reply] : outcomes.all()) {
    ASSERT_THAT(reply, IsOk());
    EXPECT_EQ(reply->output.values, QueryOf(i).values);
  }
  EXPECT_THAT(server.peers(), SizeIs(1));
}

TEST(AttendStreamTest, ARefusedRequestSaysWhenToComeAgainAndTheOthersGoOn) {
  FakeServer server(
      [](grpc::ServerContext& context, const v1::AttendRequest& request, v1::AttendResponse& response) {
        if (request.priority() >= 0) return FakeServer::Echo(context, request, response);
        response.mutable_error()->set_retry_delay_ms(120);
        response.mutable_error()->set_reason("behind_queue");
        return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "too much is ahead");
      });
  const auto stream = *Client::Create(server.target())->OpenStream(30s);
  Outcomes outcomes;
  const Tensor query = QueryOf(1);
  stream->Attend({.query = query.View(), .timeout = 50ms, .priority = -1}, outcomes.At(0));
  stream->Attend({.query = query.View()}, outcomes.At(1));
  EXPECT_THAT(stream->Finish(), IsOk());
  const absl::Status& refused = outcomes.all().at(0).status();
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kResourceExhausted, "too much is ahead"));
  EXPECT_EQ(RefusalOf(refused).retry_delay, 120ms);
  EXPECT_EQ(RefusalOf(refused).reason, "behind_queue");
  EXPECT_THAT(outcomes.all().at(1), IsOk());
  EXPECT_EQ(server.requests()[0].timeout_us(), 50'000);
}

TEST(AttendStreamTest, ManyThreadsMayShareOneStream) {
  FakeServer server;
  const auto stream = *Client::Create(server.target())->OpenStream(30s);
  std::atomic<int> right = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        const Tensor query = QueryOf(100 * t + i);
        stream->Attend({.query = query.View()},
                       [&right, values = query.values](const absl::StatusOr<AttendReply>& reply) {
                         if (reply.ok() && reply->output.values == values) ++right;
                       });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(stream->Finish(), IsOk());
  EXPECT_EQ(right, 200);
}

TEST(AttendStreamTest, AnErrorIsThatOfItsRequestOnly) {
  FakeServer server(
      [](grpc::ServerContext& context, const v1::AttendRequest& request, v1::AttendResponse& response) {
        if (request.model() == "none") return grpc::Status(grpc::StatusCode::NOT_FOUND, "model: got none");
        return FakeServer::Echo(context, request, response);
      });
  const auto stream = *Client::Create(server.target())->OpenStream(30s);
  Outcomes outcomes;
  const Tensor query = QueryOf(1);
  stream->Attend({.model = "none", .query = query.View()}, outcomes.At(0));
  stream->Attend({.model = "demo", .request_id = "mine", .query = query.View()}, outcomes.At(1));
  stream->Attend({.query = TensorView{.shape = {2}}}, outcomes.At(2));
  EXPECT_THAT(stream->Finish(), IsOk());
  ASSERT_THAT(outcomes.all(), SizeIs(3));
  EXPECT_THAT(outcomes.all().at(0), StatusIs(absl::StatusCode::kNotFound, "model: got none"));
  ASSERT_THAT(outcomes.all().at(1), IsOk());
  EXPECT_EQ(outcomes.all().at(1)->request_id, "mine");
  EXPECT_THAT(outcomes.all().at(2), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("query: shape")));
}

TEST(AttendStreamTest, AnIdUnderWayIsRefused) {
  FakeServer server(FakeServer::UntilCancelled);
  const auto stream = *Client::Create(server.target())->OpenStream(30s);
  Outcomes outcomes;
  const Tensor query = QueryOf(1);
  stream->Attend({.request_id = "a", .query = query.View()}, outcomes.At(0));
  stream->Attend({.request_id = "a", .query = query.View()}, outcomes.At(1));
  stream->Cancel();
  EXPECT_THAT(stream->Finish(), StatusIs(absl::StatusCode::kCancelled, ::testing::_));
  EXPECT_THAT(outcomes.all().at(1), StatusIs(absl::StatusCode::kInvalidArgument,
                                             "request_id: got 'a', which is that of a request under way"));
  EXPECT_THAT(outcomes.all().at(0), StatusIs(absl::StatusCode::kCancelled, ::testing::_));
}

TEST(AttendStreamTest, TheDeadlineEndsAllOfIt) {
  FakeServer server(FakeServer::UntilCancelled);
  const auto stream = *Client::Create(server.target())->OpenStream(100ms, {.max_unanswered = 2});
  Outcomes outcomes;
  const Tensor query = QueryOf(1);
  for (int i = 0; i < 4; ++i) stream->Attend({.query = query.View()}, outcomes.At(i));  // waits for room
  EXPECT_THAT(stream->Finish(), StatusIs(absl::StatusCode::kDeadlineExceeded, ::testing::_));
  ASSERT_THAT(outcomes.all(), SizeIs(4));
  for (const auto& [i, reply] : outcomes.all()) {
    EXPECT_THAT(reply, StatusIs(absl::StatusCode::kDeadlineExceeded, ::testing::_)) << i;
  }
}

TEST(AttendStreamTest, WhoWaitsForRoomHearsOfTheEnd) {
  FakeServer server(FakeServer::UntilCancelled);
  const auto stream = *Client::Create(server.target())->OpenStream(30s, {.max_unanswered = 1});
  Outcomes outcomes;
  const Tensor query = QueryOf(1);
  stream->Attend({.query = query.View()}, outcomes.At(0));
  std::atomic<bool> heard{false};
  std::thread waits([&] {
    stream->Attend({.query = query.View()}, [&](const absl::StatusOr<AttendReply>& reply) {
      EXPECT_THAT(reply,
                  StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("the stream is finished")));
      heard = true;
    });
  });
  std::this_thread::sleep_for(50ms);
  std::thread finishes([&] { (void)stream->Finish(); });
  const auto give_up_at = std::chrono::steady_clock::now() + 10s;
  while (!heard && std::chrono::steady_clock::now() < give_up_at) std::this_thread::sleep_for(1ms);
  EXPECT_TRUE(heard);
  stream->Cancel();
  waits.join();
  finishes.join();
}

TEST(AttendStreamTest, AStreamThatIsDroppedCallsBackFirst) {
  FakeServer server(FakeServer::UntilCancelled);
  Outcomes outcomes;
  {
    const auto stream = *Client::Create(server.target())->OpenStream(30s);
    const Tensor query = QueryOf(1);
    stream->Attend({.query = query.View()}, outcomes.At(0));
  }
  ASSERT_THAT(outcomes.all(), SizeIs(1));
  EXPECT_THAT(outcomes.all().at(0), StatusIs(absl::StatusCode::kCancelled, ::testing::_));
}

TEST(AttendStreamTest, NothingIsTakenAfterTheEnd) {
  FakeServer server;
  const auto stream = *Client::Create(server.target())->OpenStream(30s);
  EXPECT_THAT(stream->Finish(), IsOk());
  Outcomes outcomes;
  const Tensor query = QueryOf(1);
  stream->Attend({.query = query.View()}, outcomes.At(0));
  EXPECT_THAT(outcomes.all().at(0), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("finished")));
  EXPECT_THAT(stream->Finish(), IsOk());
}

TEST(AttendStreamTest, AServerThatIsNotThereIsUnavailable) {
  std::string target;
  {
    FakeServer server;
    target = server.target();
  }
  const auto stream = *Client::Create(target)->OpenStream(30s);
  Outcomes outcomes;
  const Tensor query = QueryOf(1);
  stream->Attend({.query = query.View()}, outcomes.At(0));
  EXPECT_THAT(stream->Finish(), StatusIs(absl::StatusCode::kUnavailable, ::testing::_));
  EXPECT_THAT(outcomes.all().at(0), StatusIs(absl::StatusCode::kUnavailable, ::testing::_));
}

TEST(AttendStreamTest, OptionsOutOfRangeAreNamed) {
  const auto client = Client::Create("127.0.0.1:1");
  EXPECT_THAT(client->OpenStream(1s, {.max_unanswered = 0}),
              StatusIs(absl::StatusCode::kInvalidArgument, "max_unanswered: got 0, wanted 1 to 1024"));
}

}  // namespace
}  // namespace headlight::client
