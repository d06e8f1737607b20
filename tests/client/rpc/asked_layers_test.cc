// SPDX-License-Identifier: Apache-2.0
#include "client/rpc/asked_layers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <utility>
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

// What becomes of a reply with weights of that shape to a request for so many layers.
absl::Status StatusOf(v1::WeightsMode mode, int64_t num_layers, Shape shape) {
  absl::Status status;
  AttendReply reply;
  reply.weights = Tensor{.shape = std::move(shape), .values = {}};
  WithLayersChecked(mode, num_layers,
                    [&](absl::StatusOr<AttendReply> result) { status = result.status(); })(std::move(reply));
  return status;
}

TEST(AskedLayersTest, WeightsOfAsManyLayersAsWereAskedForPass) {
  EXPECT_THAT(StatusOf(v1::WEIGHTS_MODE_FULL, 2, {1, 2, 4, 7, 7}), IsOk());
  EXPECT_THAT(StatusOf(v1::WEIGHTS_MODE_TOP_K, 1, {1, 1, 4, 7, 5}), IsOk());
  EXPECT_THAT(StatusOf(v1::WEIGHTS_MODE_GRID, 1, {1, 1, 4, 7, 7}), IsOk());
  EXPECT_THAT(StatusOf(v1::WEIGHTS_MODE_MEAN, 3, {1, 3, 7, 7}), IsOk());
  EXPECT_THAT(StatusOf(v1::WEIGHTS_MODE_SUMMARY, 2, {1, 2, 4, 6}), IsOk());
  EXPECT_THAT(StatusOf(v1::WEIGHTS_MODE_FULL, 0, {1, 4, 7, 7}), IsOk()) << "none were listed";
}

TEST(AskedLayersTest, WeightsOfTheLastLayerAloneAreNotTakenForThem) {
  EXPECT_THAT(
      StatusOf(v1::WEIGHTS_MODE_FULL, 2, {1, 2, 7, 7}),
      StatusIs(absl::StatusCode::kUnimplemented,
               "weights.layers: got weights [1, 2, 7, 7], wanted 2 layers as their second dimension: the "
               "server is older than this field and did not look at it; ask for one `layer` at a time"));
  EXPECT_THAT(StatusOf(v1::WEIGHTS_MODE_MEAN, 1, {1, 7, 7}),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("wanted 1 layer as")));
  EXPECT_THAT(StatusOf(v1::WEIGHTS_MODE_SUMMARY, 2, {1, 3, 4, 6}),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("wanted 2 layers")));
}

// The fake server knows nothing of layers.
TEST(AskedLayersTest, CallsAndStreamsNoticeAnOlderServer) {
  FakeServer server;
  const auto client = Client::Create(server.target());
  ASSERT_THAT(client, IsOk());
  const Tensor query{.shape = {1, 2, 4}, .values = std::vector<float>(8, 1.0f)};
  const AttendCall call{
      .model = "demo", .query = query.View(), .weights = v1::WEIGHTS_MODE_FULL, .layers = {0, 1}};
  const auto is_noticed = StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("got weights [1, 1, 1, 2]"));
  EXPECT_THAT(client->Attend(call, 10s), is_noticed);
  const auto stream = client->OpenStream(10s);
  ASSERT_THAT(stream, IsOk());
  absl::StatusOr<AttendReply> of_stream;
  (*stream)->Attend(call, [&](absl::StatusOr<AttendReply> reply) { of_stream = std::move(reply); });
  EXPECT_THAT((*stream)->Finish(), IsOk());
  EXPECT_THAT(of_stream, is_noticed);
}

}  // namespace
}  // namespace headlight::client
