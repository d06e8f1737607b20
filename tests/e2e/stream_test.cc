// SPDX-License-Identifier: Apache-2.0
//
// The client library's streams against a real server.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "client/client.h"
#include "server/server.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using namespace std::chrono_literals;
using ::headlight::testing::IsOk;
using ::headlight::testing::StatusIs;

class StreamTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ServerOptions options;
    options.listen = "127.0.0.1:0";
    options.admin_listen.clear();
    options.threads = 2;
    auto server = HeadlightServer::Start(options);
    ASSERT_THAT(server, IsOk());
    server_ = *std::move(server);
    auto client = Client::Create("127.0.0.1:" + std::to_string(server_->port()));
    ASSERT_THAT(client, IsOk());
    client_ = std::make_unique<Client>(*std::move(client));
    const auto model = client_->GetModel("demo", "", 30s);
    ASSERT_THAT(model, IsOk());
    embed_dim_ = model->embed_dim();
  }

  client::Tensor Query(int i) const {
    const int64_t seq_len = 1 + i * 7 % 23;
    client::Tensor query{.shape = {1, seq_len, embed_dim_},
                         .values = std::vector<float>(static_cast<size_t>(seq_len * embed_dim_))};
    for (size_t j = 0; j < query.values.size(); ++j) {
      query.values[j] = static_cast<float>((j * 31 + static_cast<size_t>(i) * 17) % 97) / 97.0f - 0.5f;
    }
    return query;
  }

  std::unique_ptr<HeadlightServer> server_;
  std::unique_ptr<Client> client_;
  int64_t embed_dim_ = 0;
};

TEST_F(StreamTest, RepliesAreThoseOfSingleCallsToTheBit) {
  constexpr int kRequests = 100;
  std::mutex mutex;
  std::map<int, std::vector<float>> outputs;
  const auto stream = client_->OpenStream(60s);
  ASSERT_THAT(stream, IsOk());
  for (int i = 0; i < kRequests; ++i) {
    const client::Tensor query = Query(i);
    (*stream)->Attend({.model = "demo", .query = query.View()}, [&, i](absl::StatusOr<AttendReply> reply) {
      ASSERT_THAT(reply, IsOk());
      const std::lock_guard lock(mutex);
      outputs[i] = std::move(reply->output.values);
    });
  }
  EXPECT_THAT((*stream)->Finish(), IsOk());
  ASSERT_EQ(outputs.size(), size_t{kRequests});
  for (int i = 0; i < kRequests; ++i) {
    const client::Tensor query = Query(i);
    const auto reply = client_->Attend({.model = "demo", .query = query.View()}, 30s);
    ASSERT_THAT(reply, IsOk());
    EXPECT_EQ(outputs[i], reply->output.values) << i;
  }
}

TEST_F(StreamTest, AShutdownAnswersOrRefusesButLosesNothing) {
  std::atomic<int> answered = 0;
  std::atomic<int> refused = 0;
  std::atomic<int> lost = 0;
  const auto stream = *client_->OpenStream(60s);
  std::thread shutdown([&] {
    while (answered < 50) std::this_thread::sleep_for(1ms);
    EXPECT_THAT(server_->Shutdown(), IsOk());
  });
  int sent = 0;
  while (refused == 0 && lost == 0) {
    const client::Tensor query = Query(sent);
    stream->Attend({.model = "demo", .query = query.View()}, [&](const absl::StatusOr<AttendReply>& reply) {
      ++(reply.ok() ? answered : absl::IsUnavailable(reply.status()) ? refused : lost);
    });
    ++sent;
  }
  EXPECT_THAT(stream->Finish(), StatusIs(absl::StatusCode::kUnavailable, ::testing::_));
  shutdown.join();
  EXPECT_EQ(lost, 0);
  EXPECT_GE(answered, 50);
  EXPECT_EQ(answered + refused, sent);
}

}  // namespace
}  // namespace headlight
