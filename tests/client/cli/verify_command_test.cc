// SPDX-License-Identifier: Apache-2.0
//
// `headlight verify`, and `headlight attend --record`, which makes what it reads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "client/record/recording.h"
#include "tests/client/cli/run_cli.h"
#include "tests/client/fake_server.h"
#include "tests/testing/slow_crc32c.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace headlight::client {
namespace {

using ::headlight::testing::CliResult;
using ::headlight::testing::FakeServer;
using ::headlight::testing::IsOk;
using ::headlight::testing::RunHeadlight;
using ::headlight::testing::SlowCrc32c;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// Answers with other bits.
grpc::Status Negate(grpc::ServerContext& context, const v1::AttendRequest& request,
                    v1::AttendResponse& response) {
  v1::AttendRequest negated = request;
  negated.mutable_payloads(0)->back() ^= '\x80';  // the last number's sign
  return FakeServer::EchoWithChecksums(context, negated, response);
}

class VerifyCommandTest : public ::testing::Test {
 protected:
  CliResult Record(const FakeServer& server, std::vector<std::string> words) {
    words.insert(words.begin(), {"attend", "--server", server.target(), "--record", recording()});
    return RunHeadlight(words);
  }

  CliResult Verify(const FakeServer& server, const std::vector<std::string>& more = {}) {
    std::vector<std::string> words = {"verify", recording(), "--server", server.target()};
    words.insert(words.end(), more.begin(), more.end());
    return RunHeadlight(words);
  }

  std::string recording() const { return folder_.File("requests.rec"); }

  FakeServer server_{FakeServer::EchoWithChecksums};
  const ::headlight::testing::TempFolder folder_;
};

TEST_F(VerifyCommandTest, ARecordedRequestIsSentAgainAsItWas) {
  CliResult recorded = Record(server_, {"--shape", "1x2", "--causal", "--request-id", "seven"});
  EXPECT_EQ(recorded.exit_code, 0) << recorded.err;
  EXPECT_EQ(recorded.err, "headlight: note: " + recording() + ": recorded as exchange 1\n");
  recorded = Record(server_, {"--shape", "1x3", "--weights", "full"});
  EXPECT_EQ(recorded.err, "headlight: note: " + recording() + ": recorded as exchange 2\n");
  const CliResult verified = Verify(server_);
  EXPECT_EQ(verified.exit_code, 0) << verified.err;
  EXPECT_EQ(verified.out,
            "1: demo version 1, f32: agrees\n2: demo version 1, f32: agrees\n"
            "2 of 2 agree; 0 differ, 0 differ as they may, 0 failed\n");
  const std::vector<v1::AttendRequest> requests = server_.requests();
  ASSERT_EQ(requests.size(), 4u);
  EXPECT_EQ(requests[2].SerializeAsString(), requests[0].SerializeAsString());
  EXPECT_EQ(requests[3].SerializeAsString(), requests[1].SerializeAsString());
}

TEST_F(VerifyCommandTest, ARecordingSaysWhoAnsweredWhat) {
  ASSERT_EQ(Record(server_, {"--shape", "1x2", "--weights", "full"}).exit_code, 0);
  auto reader = RecordingReader::Open(recording());
  ASSERT_THAT(reader, IsOk());
  const auto next = reader->Next();
  ASSERT_THAT(next, IsOk());
  const v1::RecordedExchange& exchange = **next;
  EXPECT_EQ(exchange.request().SerializeAsString(), server_.requests()[0].SerializeAsString());
  EXPECT_EQ(exchange.model().name(), "demo");
  EXPECT_EQ(exchange.model().kernel(), "fake");
  EXPECT_EQ(exchange.server_version(), "1.2.3");
  ASSERT_EQ(exchange.payloads_size(), 2);
  EXPECT_EQ(exchange.payloads(0).field(), "output");
  EXPECT_EQ(exchange.payloads(0).crc32c(), SlowCrc32c(exchange.request().payloads(0)));
  EXPECT_EQ(exchange.payloads(1).field(), "weights");
}

TEST_F(VerifyCommandTest, OtherBitsAreOneAndNamed) {
  ASSERT_EQ(Record(server_, {"--shape", "1x2"}).exit_code, 0);
  FakeServer other(Negate);
  const CliResult verified = Verify(other);
  EXPECT_EQ(verified.exit_code, 1);
  EXPECT_EQ(
      verified.out,
      "1: demo version 1, f32: DIFFERS: output\n0 of 1 agree; 1 differ, 0 differ as they may, 0 failed\n");
}

TEST_F(VerifyCommandTest, JsonCountsWhatTheLinesSay) {
  ASSERT_EQ(Record(server_, {"--shape", "1x2"}).exit_code, 0);
  FakeServer other(Negate);
  const auto json = nlohmann::json::parse(Verify(other, {"--json"}).out);
  EXPECT_EQ(json["recording"], recording());
  EXPECT_EQ(json["exchanges"], nlohmann::json::parse(R"([{"number": 1, "model": "demo", "model_version": "1",
      "precision": "f32", "outcome": "differs", "reason": "output"}])"));
  EXPECT_EQ(json["agrees"], 0);
  EXPECT_EQ(json["differs"], 1);
  EXPECT_EQ(json["may_differ"], 0);
  EXPECT_EQ(json["failed"], 0);
}

TEST_F(VerifyCommandTest, ARefusedRequestDoesNotHoldUpTheNext) {
  ASSERT_EQ(Record(server_, {"--shape", "1x2"}).exit_code, 0);
  ASSERT_EQ(Record(server_, {"--shape", "1x3"}).exit_code, 0);
  FakeServer picky([](auto& context, const v1::AttendRequest& request, v1::AttendResponse& response) {
    if (request.query().shape(1) == 2) return grpc::Status(grpc::StatusCode::NOT_FOUND, "model: gone");
    return FakeServer::EchoWithChecksums(context, request, response);
  });
  const CliResult verified = Verify(picky);
  EXPECT_EQ(verified.exit_code, 1);
  EXPECT_EQ(verified.out,
            "1: demo version 1, f32: failed: NOT_FOUND: model: gone\n2: demo version 1, f32: agrees\n"
            "1 of 2 agree; 0 differ, 0 differ as they may, 1 failed\n");
}

// A server that hangs without going away: its answer is waited for as long as the flag says, then asked for
// again.
TEST_F(VerifyCommandTest, AnAttemptThatIsSilentIsGivenUp) {
  ASSERT_EQ(Record(server_, {"--shape", "1x2"}).exit_code, 0);
  std::atomic<int> calls = 0;
  FakeServer silent([&](auto& context, const v1::AttendRequest& request, v1::AttendResponse& response) {
    return calls.fetch_add(1) == 0 ? FakeServer::UntilCancelled(context, request, response)
                                   : FakeServer::EchoWithChecksums(context, request, response);
  });
  const CliResult verified = Verify(silent, {"--attempt-timeout-ms", "200"});
  EXPECT_EQ(verified.exit_code, 0) << verified.out << verified.err;
  EXPECT_THAT(verified.out, HasSubstr("1 of 1 agree"));
  EXPECT_GE(calls, 2);
}

TEST_F(VerifyCommandTest, TheKernelIsThatOfTheReply) {
  FakeServer other([&](auto& context, const v1::AttendRequest& request, v1::AttendResponse& response) {
    const grpc::Status status = FakeServer::EchoWithChecksums(context, request, response);
    response.mutable_time_budget()->set_kernel("another");  // than GetModel says
    return status;
  });
  ASSERT_EQ(Record(other, {"--shape", "1x2"}).exit_code, 0);
  auto reader = RecordingReader::Open(recording());
  ASSERT_THAT(reader, IsOk());
  EXPECT_EQ((**reader->Next()).model().kernel(), "another");
}

TEST_F(VerifyCommandTest, WhereNothingCanBeWrittenNothingIsSent) {
  const CliResult recorded = RunHeadlight(
      {"attend", "--server", server_.target(), "--shape", "1x2", "--record", folder_.File("no/folder.rec")});
  EXPECT_EQ(recorded.exit_code, 2);
  EXPECT_THAT(recorded.err, HasSubstr("folder.rec: cannot be written: No such file or directory"));
  EXPECT_TRUE(server_.requests().empty());
}

TEST_F(VerifyCommandTest, ADamagedRecordingIsTwoAfterWhatCouldBeRead) {
  ASSERT_EQ(Record(server_, {"--shape", "1x2"}).exit_code, 0);
  const std::string whole = folder_.Read("requests.rec");
  folder_.Write("requests.rec", whole + "more");
  const CliResult verified = Verify(server_);
  EXPECT_EQ(verified.exit_code, 2);
  EXPECT_THAT(verified.out, HasSubstr("1 of 1 agree"));
  EXPECT_EQ(verified.err, "headlight: DATA_LOSS: " + recording() + ": exchange 2 is cut off\n");
  const size_t requests = server_.requests().size();
  const CliResult recorded = Record(server_, {"--shape", "1x2"});
  EXPECT_EQ(recorded.exit_code, 2);
  EXPECT_THAT(recorded.err, HasSubstr("exchange 2 is cut off"));
  EXPECT_EQ(server_.requests().size(), requests);  // nothing was sent
}

TEST_F(VerifyCommandTest, FilesThatAreNoRecordingAreTwo) {
  EXPECT_THAT(Verify(server_).err, HasSubstr("NOT_FOUND"));
  folder_.Write("requests.rec", "headlight recording 1\n");
  const CliResult none = Verify(server_);
  EXPECT_EQ(none.exit_code, 2);
  EXPECT_THAT(none.err, HasSubstr("has no exchanges to repeat"));
  EXPECT_EQ(RunHeadlight({"verify"}).exit_code, 2);
}

TEST_F(VerifyCommandTest, WithoutChecksumsNothingIsRecorded) {
  FakeServer plain;
  const CliResult recorded = Record(plain, {"--shape", "1x2"});
  EXPECT_EQ(recorded.exit_code, 1);
  EXPECT_THAT(recorded.err, HasSubstr("the server's reply has no payload_crc32c"));
  EXPECT_EQ(*CountExchanges(recording()), 0);
}

TEST_F(VerifyCommandTest, AttendPrintsTheChecksumsAsJson) {
  const auto json = nlohmann::json::parse(
      RunHeadlight({"attend", "--server", server_.target(), "--shape", "1x2", "--json"}).out);
  EXPECT_EQ(json["payload_crc32c"].size(), 1u);
  EXPECT_EQ(json["payload_crc32c"]["output"].get<std::string>().size(), 8u);
}

}  // namespace
}  // namespace headlight::client
