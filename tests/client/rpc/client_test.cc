// SPDX-License-Identifier: Apache-2.0
#include "client/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "tests/client/fake_server.h"
#include "tests/testing/status_matchers.h"

namespace headlight::client {
namespace {

using namespace std::chrono_literals;
using ::headlight::testing::FakeServer;
using ::headlight::testing::IsOk;
using ::headlight::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

const Tensor& Query() {
  static const Tensor query{.shape = {1, 2, 4}, .values = {1, 2, 3, 4, 5, 6, 7, 8}};
  return query;
}

TEST(ClientTest, AttendReturnsTensorsAndTimeBudget) {
  FakeServer server;
  const auto client = Client::Create(server.target());
  ASSERT_THAT(client, IsOk());
  const auto reply = client->Attend(
      {.model = "demo", .request_id = "seven", .query = Query().View(), .weights = v1::WEIGHTS_MODE_FULL},
      10s);
  ASSERT_THAT(reply, IsOk());
  EXPECT_EQ(reply->output.shape, Query().shape);
  EXPECT_EQ(reply->output.values, Query().values);
  EXPECT_EQ(reply->request_id, "seven");
  ASSERT_TRUE(reply->weights.has_value());
  EXPECT_THAT(reply->weights->values, ElementsAre(0.25f, 0.75f));
  EXPECT_EQ(reply->time_budget.compute_us(), 200);
}

// Tells a checksum that is not that of its payload.
grpc::Status EchoWithWrongChecksum(grpc::ServerContext& context, const v1::AttendRequest& request,
                                   v1::AttendResponse& response) {
  const grpc::Status status = FakeServer::Echo(context, request, response);
  for (int i = 0; i < response.payloads_size(); ++i) response.add_payload_crc32c(0x12345678);
  return status;
}

TEST(ClientTest, AReplyOtherThanTheServerSentItIsDataLoss) {
  FakeServer server(EchoWithWrongChecksum);
  const auto client = Client::Create(server.target());
  ASSERT_THAT(client, IsOk());
  const auto is_data_loss = StatusIs(absl::StatusCode::kDataLoss, HasSubstr("output has CRC-32C "));
  EXPECT_THAT(client->Attend({.model = "demo", .query = Query().View()}, 10s), is_data_loss);
  EXPECT_THAT(server.requests(), SizeIs(1));  // it is not sent again
  const auto stream = client->OpenStream(10s);
  ASSERT_THAT(stream, IsOk());
  absl::StatusOr<AttendReply> of_stream;
  (*stream)->Attend({.model = "demo", .query = Query().View()},
                    [&](absl::StatusOr<AttendReply> reply) { of_stream = std::move(reply); });
  EXPECT_THAT((*stream)->Finish(), IsOk());  // the others' replies may be whole
  EXPECT_THAT(of_stream, is_data_loss);
}

TEST(ClientTest, ChecksumsNeedNotBeCompared) {
  FakeServer server(EchoWithWrongChecksum);
  const auto client = Client::Create(server.target(), {.checksums = Checksums::kIgnore});
  ASSERT_THAT(client, IsOk());
  const auto reply = client->Attend({.model = "demo", .query = Query().View()}, 10s);
  ASSERT_THAT(reply, IsOk());
  ASSERT_THAT(reply->checksums, SizeIs(1));
  EXPECT_EQ(reply->checksums[0].field, "output");
  EXPECT_EQ(reply->checksums[0].crc32c, 0x12345678u);
  const auto stream = client->OpenStream(10s);
  ASSERT_THAT(stream, IsOk());
  absl::Status of_stream;
  (*stream)->Attend({.model = "demo", .query = Query().View()},
                    [&](const absl::StatusOr<AttendReply>& result) { of_stream = result.status(); });
  EXPECT_THAT((*stream)->Finish(), IsOk());
  EXPECT_THAT(of_stream, IsOk());
}

TEST(ClientTest, AttendKeepsTheServersCodeAndMessage) {
  for (auto code :
       {grpc::StatusCode::INVALID_ARGUMENT, grpc::StatusCode::NOT_FOUND, grpc::StatusCode::RESOURCE_EXHAUSTED,
        grpc::StatusCode::UNAVAILABLE, grpc::StatusCode::UNIMPLEMENTED, grpc::StatusCode::INTERNAL}) {
    FakeServer server([code](grpc::ServerContext&, const v1::AttendRequest&, v1::AttendResponse&) {
      return grpc::Status(code, "query: got this, wanted that");
    });
    const auto reply = Client::Create(server.target())->Attend({.query = Query().View()}, 10s);
    EXPECT_THAT(reply, StatusIs(static_cast<absl::StatusCode>(code), "query: got this, wanted that"));
  }
}

TEST(ClientTest, AttendEndsAtItsDeadline) {
  FakeServer server(FakeServer::UntilCancelled);
  EXPECT_THAT(Client::Create(server.target())->Attend({.query = Query().View()}, 50ms),
              StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("Deadline")));
}

TEST(ClientTest, AHugeTimeoutDoesNotOverflow) {
  FakeServer server;
  EXPECT_THAT(
      Client::Create(server.target())->Attend({.query = Query().View()}, std::chrono::milliseconds::max()),
      IsOk());
}

TEST(ClientTest, NoTimeIsTooLittle) {
  FakeServer server;
  EXPECT_THAT(Client::Create(server.target())->Attend({.query = Query().View()}, 0ms),
              StatusIs(absl::StatusCode::kDeadlineExceeded, ::testing::_));
}

TEST(ClientTest, NothingIsSentForATensorThatContradictsItself) {
  FakeServer server;
  const auto reply = Client::Create(server.target())
                         ->Attend({.query = client::TensorView{.shape = {3}, .values = Query().values}}, 10s);
  EXPECT_THAT(reply, StatusIs(absl::StatusCode::kInvalidArgument, "query: shape [3] wants 3 values, got 8"));
  EXPECT_THAT(server.requests(), SizeIs(0));
}

TEST(ClientTest, AMalformedReplyIsInternal) {
  FakeServer server([](grpc::ServerContext&, const v1::AttendRequest&, v1::AttendResponse&) {
    return grpc::Status::OK;  // an empty reply
  });
  EXPECT_THAT(Client::Create(server.target())->Attend({.query = Query().View()}, 10s),
              StatusIs(absl::StatusCode::kInternal, "the server's reply is malformed: it has no output"));
}

TEST(ClientTest, MessagesOfTensOfMegabytesPassByDefault) {
  FakeServer server;
  const Tensor query{.shape = {1 << 23},
                     .values = std::vector<float>(1 << 23, 0.5f)};  // 32 MiB; gRPC's own limit is 4
  const auto reply = Client::Create(server.target())->Attend({.query = query.View()}, 30s);
  ASSERT_THAT(reply, IsOk());
  EXPECT_EQ(reply->output.values, query.values);
}

TEST(ClientTest, LargeMessagesAreAnnouncedAndSmallOnesAreNot) {
  FakeServer server;
  const auto client = Client::Create(server.target());
  const Tensor large{.shape = {1 << 15}, .values = std::vector<float>(1 << 15, 0.5f)};
  ASSERT_THAT(client->Attend({.query = Query().View()}, 10s), IsOk());
  ASSERT_THAT(client->Attend({.query = large.View()}, 10s), IsOk());
  const auto bytes = static_cast<int64_t>(server.requests().back().ByteSizeLong());
  ASSERT_GT(bytes, 4 << 15);
  EXPECT_THAT(server.announced(), ElementsAre("", std::to_string(bytes)));
}

TEST(ClientTest, MessagesOverTheLimitAreRefused) {
  FakeServer server;
  const auto client = Client::Create(server.target(), {.max_message_bytes = 20});
  EXPECT_THAT(client->Attend({.query = Query().View()}, 10s),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("larger than max")));
}

TEST(ClientTest, AServerThatIsNotThereIsUnavailable) {
  std::string target;
  {
    FakeServer server;
    target = server.target();
  }
  const auto client = Client::Create(target);
  EXPECT_THAT(client->Attend({.query = Query().View()}, 10s),
              StatusIs(absl::StatusCode::kUnavailable, ::testing::_));
  EXPECT_THAT(client->ListModels(10s), StatusIs(absl::StatusCode::kUnavailable, ::testing::_));
  EXPECT_THAT(client->CheckHealth("", 10s), StatusIs(absl::StatusCode::kUnavailable, ::testing::_));
}

TEST(ClientTest, CreateRefusesWhatItCannotUse) {
  EXPECT_THAT(Client::Create(""),
              StatusIs(absl::StatusCode::kInvalidArgument, "target: got an empty string, wanted HOST:PORT"));
  EXPECT_THAT(Client::Create("localhost:1", {.max_message_bytes = 0}),
              StatusIs(absl::StatusCode::kInvalidArgument, "max_message_bytes: got 0, wanted at least 1"));
}

TEST(ClientTest, ListsAndDescribesModels) {
  FakeServer server;
  const auto client = Client::Create(server.target());
  const auto models = client->ListModels(10s);
  ASSERT_THAT(models, IsOk());
  EXPECT_EQ(models->models_size(), 3);
  const auto model = client->GetModel("cross", "", 10s);
  ASSERT_THAT(model, IsOk());
  EXPECT_EQ(model->kdim(), 3);
  EXPECT_THAT(client->GetModel("none", "", 10s),
              StatusIs(absl::StatusCode::kNotFound, "model: got 'none', wanted demo or cross"));
}

TEST(ClientTest, HealthFollowsTheServer) {
  FakeServer server;
  const auto client = Client::Create(server.target());
  using grpc::health::v1::HealthCheckResponse;
  EXPECT_EQ(*client->CheckHealth("", 10s), HealthCheckResponse::SERVING);
  server.SetServing(false);
  EXPECT_EQ(*client->CheckHealth("", 10s), HealthCheckResponse::NOT_SERVING);
  EXPECT_THAT(client->CheckHealth("no.such.Service", 10s),
              StatusIs(absl::StatusCode::kNotFound, ::testing::_));
}

TEST(ClientTest, ConnectionsAreSharedUnlessAskedOtherwise) {
  for (const auto& [connection, wanted] :
       {std::pair{Connection::kShared, 1}, std::pair{Connection::kOwn, 2}}) {
    FakeServer server;
    const auto one = Client::Create(server.target(), {.connection = connection});
    const auto other = Client::Create(server.target(), {.connection = connection});
    ASSERT_THAT(one->Attend({.query = Query().View()}, 10s), IsOk());
    ASSERT_THAT(other->Attend({.query = Query().View()}, 10s), IsOk());
    EXPECT_THAT(server.peers(), SizeIs(wanted));
  }
}

TEST(ClientTest, ManyThreadsMayShareOneClient) {
  FakeServer server;
  const auto client = Client::Create(server.target());
  std::atomic<int> right = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 25; ++i) {
        const Tensor query{.shape = {2}, .values = {static_cast<float>(t), static_cast<float>(i)}};
        const auto reply = client->Attend({.query = query.View()}, 30s);
        if (reply.ok() && reply->output.values == query.values) ++right;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(right, 100);
}

TEST(ClientTest, TheCallersMemoryMayGoAwayAfterATimeout) {
  FakeServer server(FakeServer::UntilCancelled);
  const auto client = Client::Create(server.target());
  for (int i = 0; i < 5; ++i) {
    // Far more than the flow-control window: most of it is still unsent when the call ends.
    auto query = std::make_unique<Tensor>(Tensor{.shape = {4 << 20}, .values = std::vector<float>(4 << 20)});
    EXPECT_THAT(client->Attend({.query = query->View()}, 5ms),
                StatusIs(absl::StatusCode::kDeadlineExceeded, ::testing::_));
  }
}

}  // namespace
}  // namespace headlight::client
