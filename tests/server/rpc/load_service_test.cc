// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/load_service.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "headlight/v1/attention.grpc.pb.h"
#include "server/security/token_table.h"
#include "server/server.h"
#include "tests/server/attend_fixtures.h"
#include "tests/server/own_channel.h"
#include "tests/testing/relay.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using testing::MakeRequest;
using testing::MakeTestModel;
using ::testing::Not;
using xds::data::orca::v3::OrcaLoadReport;
using xds::service::orca::v3::OpenRcaService;
using xds::service::orca::v3::OrcaLoadReportRequest;

constexpr std::chrono::seconds kReportPatience{30};
constexpr char kTrailer[] = "endpoint-load-metrics-bin";

// A stream of reports, and the deadline that ends it if nothing else does.
struct ReportStream {
  ReportStream(OpenRcaService::Stub& stub, const OrcaLoadReportRequest& request) {
    context.set_deadline(std::chrono::system_clock::now() + kReportPatience);
    reader = stub.StreamCoreMetrics(&context, request);
  }
  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientReader<OrcaLoadReport>> reader;
};

class LoadServiceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto registry = std::make_shared<ModelRegistry>();
    ASSERT_THAT(registry->Add(MakeTestModel("small").loaded), IsOk());
    ServerOptions options;
    options.listen = "127.0.0.1:0";
    options.admin_listen.clear();
    options.threads = 2;
    auto server = HeadlightServer::Start(options, registry);
    ASSERT_THAT(server, IsOk());
    server_ = *std::move(server);
    channel_ = testing::OwnChannelTo(server_->port());
    load_ = OpenRcaService::NewStub(channel_);
  }

  // The report in the trailer of a call that asks for `request`. gRPC keeps it from callers, for its
  // balancers alone, so it is looked for on the wire: the name, the length of a value that is sent as it is,
  // a zero that tells so.
  OrcaLoadReport Attend(const v1::AttendRequest& request, grpc::StatusCode code) {
    testing::Relay relay(server_->port());
    const auto channel = testing::OwnChannelTo(relay.port());
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kReportPatience);
    v1::AttendResponse response;
    const grpc::Status status = v1::AttentionService::NewStub(channel)->Attend(&context, request, &response);
    EXPECT_EQ(status.error_code(), code) << status.error_message();
    const std::string sent = relay.SentByServer();
    OrcaLoadReport report;
    const size_t name = sent.find(kTrailer);
    const size_t length_at = name + std::strlen(kTrailer);
    if (name == std::string::npos || length_at + 2 >= sent.size()) {
      ADD_FAILURE() << "there is no report in what the server has sent";
      return report;
    }
    const std::string bytes = sent.substr(length_at + 2, static_cast<size_t>(sent[length_at]) - 1);
    EXPECT_EQ(sent[length_at + 1], '\0');
    EXPECT_TRUE(report.ParseFromString(bytes));
    EXPECT_THAT(bytes, Not(HasSubstr("small")));
    return report;
  }

  std::unique_ptr<HeadlightServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<OpenRcaService::Stub> load_;
};

TEST_F(LoadServiceTest, RepliesAndRefusalsTellTheLoad) {
  const OrcaLoadReport of_reply = Attend(MakeRequest("small", {1, 4, 16}), grpc::StatusCode::OK);
  EXPECT_GT(of_reply.cpu_utilization(), 0);
  EXPECT_GE(of_reply.mem_utilization(), 0);
  EXPECT_TRUE(of_reply.utilization().contains("queue"));
  (void)Attend(MakeRequest("no such model", {1, 4, 16}), grpc::StatusCode::NOT_FOUND);
}

TEST_F(LoadServiceTest, ReportsComeAtOnceAndThenAtTheLeastInterval) {
  OrcaLoadReportRequest request;
  request.mutable_report_interval()->set_nanos(1'000'000);  // a thousandth of what is the least
  ReportStream stream(*load_, request);
  OrcaLoadReport report;
  ASSERT_TRUE(stream.reader->Read(&report));
  EXPECT_TRUE(report.utilization().contains("queue"));
  const auto first = std::chrono::steady_clock::now();
  ASSERT_TRUE(stream.reader->Read(&report));
  ASSERT_TRUE(stream.reader->Read(&report));
  EXPECT_GE(std::chrono::steady_clock::now() - first, std::chrono::milliseconds(1500));
  stream.context.TryCancel();
  EXPECT_EQ(stream.reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(LoadServiceTest, ForeignIntervalsAreHarmless) {
  for (const int64_t seconds : {std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max()}) {
    OrcaLoadReportRequest request;
    request.mutable_report_interval()->set_seconds(seconds);
    request.mutable_report_interval()->set_nanos(std::numeric_limits<int32_t>::min());
    ReportStream stream(*load_, request);
    OrcaLoadReport report;
    EXPECT_TRUE(stream.reader->Read(&report));
    stream.context.TryCancel();
    EXPECT_EQ(stream.reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
}

TEST_F(LoadServiceTest, StreamsAreBoundedAndMakeRoomWhenTheyEnd) {
  OrcaLoadReport report;
  std::vector<std::unique_ptr<ReportStream>> streams;
  for (size_t i = 0; i < LoadService::kMaxStreams; ++i) {
    streams.push_back(std::make_unique<ReportStream>(*load_, OrcaLoadReportRequest()));
    ASSERT_TRUE(streams.back()->reader->Read(&report)) << i;
  }
  ReportStream surplus(*load_, {});
  EXPECT_FALSE(surplus.reader->Read(&report));
  EXPECT_EQ(surplus.reader->Finish().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  for (const auto& stream : streams) stream->context.TryCancel();
  for (const auto& stream : streams) (void)stream->reader->Finish();
  bool again = false;
  for (const auto give_up = std::chrono::steady_clock::now() + kReportPatience;
       !again && std::chrono::steady_clock::now() < give_up;) {
    again = ReportStream(*load_, {}).reader->Read(&report);  // the server hears of the ends a little later
  }
  EXPECT_TRUE(again);
}

TEST_F(LoadServiceTest, WhereTokensAreSetStrangersHearNothing) {
  server_->gate().SetTokens(std::make_shared<const TokenTable>(std::vector<TokenTerms>{{.name = "a"}}));
  OrcaLoadReport report;
  ReportStream stream(*load_, {});
  EXPECT_FALSE(stream.reader->Read(&report));
  EXPECT_EQ(stream.reader->Finish().error_code(), grpc::StatusCode::UNAUTHENTICATED);
}

TEST_F(LoadServiceTest, ADrainEndsStreamsAndDoesNotWaitForTheirReaders) {
  OrcaLoadReport report;
  ReportStream stream(*load_, {});
  ASSERT_TRUE(stream.reader->Read(&report));
  EXPECT_THAT(server_->Shutdown(), IsOk());
  while (stream.reader->Read(&report)) {
  }
  EXPECT_EQ(stream.reader->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

}  // namespace
}  // namespace headlight
