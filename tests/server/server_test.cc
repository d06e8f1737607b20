// SPDX-License-Identifier: Apache-2.0
//
// The whole server on a loopback port: right answers for every form of request, and none of its callers'
// mistakes hurts the next one.
#include "server/server.h"

#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "grpc/health/v1/health.grpc.pb.h"
#include "headlight/v1/attention.grpc.pb.h"
#include "tests/server/attend_fixtures.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using testing::AddFloats;
using testing::CrossConfig;
using testing::ExpectMatchesReference;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::MakeRequest;
using testing::MakeTestModel;
using testing::StatusIs;
using testing::TestModel;

constexpr char kAttend[] = "/headlight.v1.AttentionService/Attend";

ServerOptions TestOptions() {
  ServerOptions options;
  options.listen = "127.0.0.1:0";
  options.admin_listen = "127.0.0.1:0";
  options.threads = 2;
  options.max_message_bytes = 4 << 20;
  return options;
}

class ServerTest : public ::testing::Test {
 protected:
  void SetUp() override { Start(TestOptions()); }

  void Start(const ServerOptions& options) {
    server_.reset();
    auto registry = std::make_shared<ModelRegistry>();
    ASSERT_THAT(registry->Add(small_.loaded), IsOk());
    ASSERT_THAT(registry->Add(cross_.loaded), IsOk());
    auto server = HeadlightServer::Start(options, registry);
    ASSERT_THAT(server, IsOk());
    server_ = *std::move(server);
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a new connection for each test
    channel_ = grpc::CreateCustomChannel(Address(), grpc::InsecureChannelCredentials(), arguments);
    stub_ = v1::AttentionService::NewStub(channel_);
  }

  std::string Address() const { return "127.0.0.1:" + std::to_string(server_->port()); }

  grpc::Status Attend(const v1::AttendRequest& request, v1::AttendResponse* response) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    return stub_->Attend(&context, request, response);
  }

  // Sends bytes that need not be a request.
  grpc::Status AttendBytes(const std::string& bytes) {
    grpc::GenericStub stub(channel_);
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    const grpc::Slice slice(bytes);
    const grpc::ByteBuffer request(&slice, 1);
    grpc::ByteBuffer response;
    std::promise<grpc::Status> done;
    stub.UnaryCall(&context, kAttend, {}, &request, &response,
                   [&done](grpc::Status status) { done.set_value(std::move(status)); });
    return done.get_future().get();
  }

  void ExpectServes(const TestModel& model, const v1::AttendRequest& request) {
    v1::AttendResponse response;
    const grpc::Status status = Attend(request, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
    ExpectMatchesReference(model, request, response);
  }

  void ExpectRefused(const grpc::Status& status, grpc::StatusCode code, const std::string& message) {
    EXPECT_EQ(status.error_code(), code);
    EXPECT_THAT(status.error_message(), HasSubstr(message));
    ExpectServes(small_, MakeRequest("small", {2, 3, 16}));  // the next one is none the worse for it
  }

  grpc::health::v1::HealthCheckResponse::ServingStatus Health(const std::string& service) {
    grpc::ClientContext context;
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(service);
    grpc::health::v1::HealthCheckResponse response;
    const grpc::Status status =
        grpc::health::v1::Health::NewStub(channel_)->Check(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.status();
  }

  TestModel small_ = MakeTestModel("small");
  TestModel cross_ = MakeTestModel("cross", CrossConfig());
  std::unique_ptr<HeadlightServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::AttentionService::Stub> stub_;
};

v1::AttendRequest Cross(bool ragged) {
  v1::AttendRequest request = MakeRequest("cross", ragged ? Shape{5, 16} : Shape{2, 4, 16});
  AddFloats(ragged ? Shape{7, 12} : Shape{2, 6, 12}, 2, *request.mutable_key(), request);
  AddFloats(ragged ? Shape{7, 8} : Shape{2, 6, 8}, 3, *request.mutable_value(), request);
  for (int64_t len : {4, 1}) request.add_seq_lens(len);
  for (int64_t len : {2, 5}) request.add_kv_seq_lens(len);
  return request;
}

// --- right answers ---

TEST_F(ServerTest, ServesEveryFormOfRequest) {
  for (const v1::WeightsMode mode :
       {v1::WEIGHTS_MODE_UNSPECIFIED, v1::WEIGHTS_MODE_NONE, v1::WEIGHTS_MODE_FULL, v1::WEIGHTS_MODE_MEAN,
        v1::WEIGHTS_MODE_TOP_K, v1::WEIGHTS_MODE_SUMMARY, v1::WEIGHTS_MODE_GRID}) {
    for (const bool causal : {false, true}) {
      const auto serve = [&](const TestModel& model, v1::AttendRequest request) {
        request.set_causal(causal);
        request.mutable_weights()->set_mode(mode);
        if (mode == v1::WEIGHTS_MODE_TOP_K) request.mutable_weights()->set_top_k(5);
        ExpectServes(model, request);
      };
      serve(small_, MakeRequest("small", {1, 1, 16}));
      serve(small_, MakeRequest("small", {3, 70, 16}));
      serve(small_, MakeRequest("small", {9, 16}));
      v1::AttendRequest padded = MakeRequest("small", {3, 300, 16});
      for (int64_t len : {300, 1, 77}) padded.add_seq_lens(len);
      serve(small_, padded);
      AddFloats({3, 1, 300, 300}, 5, *padded.mutable_mask(), padded);
      serve(small_, padded);
      v1::AttendRequest ragged = MakeRequest("small", {12, 16});
      for (int64_t len : {3, 8, 1}) ragged.add_seq_lens(len);
      serve(small_, ragged);
      serve(cross_, Cross(/*ragged=*/false));
      serve(cross_, Cross(/*ragged=*/true));
    }
  }
}

TEST_F(ServerTest, TheDemoModelIsServedByDefault) {
  server_.reset();
  auto server = HeadlightServer::Start(TestOptions());
  ASSERT_THAT(server, IsOk());
  server_ = *std::move(server);
  stub_ = v1::AttentionService::NewStub(grpc::CreateChannel(Address(), grpc::InsecureChannelCredentials()));
  v1::AttendResponse response;
  const grpc::Status status = Attend(MakeRequest("demo", {2, 16, 768}), &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.payloads(0).size(), 2u * 16 * 768 * 4);
}

TEST_F(ServerTest, EveryModelThatTheOptionsNameIsServedInTheirPrecision) {
  server_.reset();
  ServerOptions options = TestOptions();
  options.models = {"demo-gqa", "demo-alibi"};
  options.precision.otherwise = Precision::kBf16;
  auto server = HeadlightServer::Start(options);
  ASSERT_THAT(server, IsOk());
  server_ = *std::move(server);
  stub_ = v1::AttentionService::NewStub(grpc::CreateChannel(Address(), grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  v1::ListModelsResponse models;
  ASSERT_TRUE(stub_->ListModels(&context, {}, &models).ok());
  ASSERT_EQ(models.models_size(), 2);
  EXPECT_EQ(models.models(0).name(), "demo-alibi");
  EXPECT_EQ(models.models(1).name(), "demo-gqa");
  for (const v1::Model& model : models.models()) {
    EXPECT_EQ(model.precision_asked(), "bf16");
    v1::AttendResponse response;
    const grpc::Status status = Attend(MakeRequest(model.name(), {2, 16, 768}), &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
  }
}

TEST_F(ServerTest, ServesNarrowTensors) {
  for (const v1::DType dtype : {v1::DTYPE_BF16, v1::DTYPE_F16}) {
    v1::AttendRequest request = MakeRequest("small", {3, 70, 16}, 1, dtype);
    for (int64_t len : {70, 1, 33}) request.add_seq_lens(len);
    request.mutable_weights()->set_mode(v1::WEIGHTS_MODE_FULL);
    request.set_output_dtype(dtype);
    ExpectServes(small_, request);
  }
}

TEST_F(ServerTest, AModelThatNoKernelTakesIsNamed) {
  ServerOptions options = TestOptions();
  options.kernel = "abacus";
  EXPECT_THAT(HeadlightServer::Start(options),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("model demo: kernel: got 'abacus', wanted one of: ")));
}

TEST_F(ServerTest, ManyTinySequencesWithWeights) {
  v1::AttendRequest request = MakeRequest("small", {20'000, 1, 16});
  request.mutable_weights()->set_mode(v1::WEIGHTS_MODE_FULL);
  ExpectServes(small_, request);
}

TEST_F(ServerTest, ConcurrentCallersEachGetTheirOwnAnswer) {
  std::vector<std::thread> threads;
  for (uint64_t seed = 0; seed < 8; ++seed) {
    threads.emplace_back([this, seed] {
      for (int64_t i = 1; i <= 25; ++i)
        ExpectServes(small_, MakeRequest("small", {i % 4 + 1, i, 16}, seed * 100 + i));
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// --- wrong requests ---

struct BadRequest {
  grpc::StatusCode code;
  std::string message;
  std::function<void(v1::AttendRequest&)> change;
};

TEST_F(ServerTest, EveryBadRequestGetsItsCodeAndTheNextOneSucceeds) {
  using Request = v1::AttendRequest;
  const auto kInvalid = grpc::StatusCode::INVALID_ARGUMENT;
  const std::vector<BadRequest> cases = {
      {kInvalid, "query.shape: got 4 dimensions", [](Request& r) { r.mutable_query()->add_shape(1); }},
      {kInvalid, "query.dtype: got DTYPE_BOOL",
       [](Request& r) { r.mutable_query()->set_dtype(v1::DTYPE_BOOL); }},
      {kInvalid, "payloads: got 383 bytes for query", [](Request& r) { r.mutable_payloads(0)->pop_back(); }},
      {kInvalid, "is more than 2^63 bytes",
       [](Request& r) { r.mutable_query()->set_shape(0, int64_t{1} << 61); }},
      {kInvalid, "wanted every dimension to be at least 1",
       [](Request& r) { r.mutable_query()->set_shape(0, -2); }},
      {kInvalid, "wanted every dimension to be at least 1",
       [](Request& r) { r.mutable_query()->set_shape(0, 0); }},
      {kInvalid, "seq_lens: they sum to 5, wanted the 6 rows of query",
       [](Request& r) {
         r = MakeRequest("small", {6, 16});
         r.add_seq_lens(2);
         r.add_seq_lens(3);
       }},
      {kInvalid, "seq_lens: got 1000000, wanted 2",
       [](Request& r) { r.mutable_seq_lens()->Resize(1'000'000, 1); }},
      {grpc::StatusCode::NOT_FOUND, "model: no model \"x\"; there is cross, small",
       [](Request& r) { r.set_model("x"); }},
      {kInvalid, "got 77, which is no WeightsMode",
       [](Request& r) { r.mutable_weights()->set_mode(static_cast<v1::WeightsMode>(77)); }},
      {kInvalid, "mask.shape: got [1, 1, 3, 2]",
       [](Request& r) {
         AddFloats({1, 1, 3, 2}, 4, *r.mutable_mask(), r);
       }},
      {kInvalid, "weights.top_k: got 1025, wanted 1 to 1024",
       [](Request& r) {
         r.mutable_weights()->set_mode(v1::WEIGHTS_MODE_TOP_K);
         r.mutable_weights()->set_top_k(1025);
       }},
      {kInvalid, "payloads: got 384 bytes for query, wanted 192 for DTYPE_F16",
       [](Request& r) { r.mutable_query()->set_dtype(v1::DTYPE_F16); }},
      {kInvalid, "the reply would be too large",
       [](Request& r) {
         r = MakeRequest("small", {900, 16});
         r.mutable_weights()->set_mode(v1::WEIGHTS_MODE_FULL);
       }},
      {kInvalid, "model: got none", [](Request& r) { r.Clear(); }},
  };
  for (const BadRequest& bad : cases) {
    v1::AttendRequest request = MakeRequest("small", {2, 3, 16});
    bad.change(request);
    v1::AttendResponse response;
    ExpectRefused(Attend(request, &response), bad.code, bad.message);
  }
}

TEST_F(ServerTest, ATruncatedMessageIsRefused) {
  const std::string bytes = MakeRequest("small", {2, 3, 16}).SerializeAsString();
  ExpectRefused(AttendBytes(bytes.substr(0, bytes.size() / 2)), grpc::StatusCode::INVALID_ARGUMENT,
                "AttendRequest: truncated at byte " + std::to_string(bytes.size() / 2));
}

TEST_F(ServerTest, GarbageIsRefused) {
  ExpectRefused(AttendBytes("GET / HTTP/1.1\r\n"), grpc::StatusCode::INVALID_ARGUMENT, "AttendRequest: ");
  ExpectRefused(AttendBytes(""), grpc::StatusCode::INVALID_ARGUMENT, "model: got none");
}

TEST_F(ServerTest, AMessageOverTheLimitIsRefused) {
  v1::AttendResponse response;
  ExpectRefused(Attend(MakeRequest("small", {70'000, 16}), &response), grpc::StatusCode::RESOURCE_EXHAUSTED,
                "Received message larger than max");
}

TEST_F(ServerTest, ALongRefusalStillReachesTheCaller) {
  v1::AttendRequest request = MakeRequest("small", {2, 3, 16});
  request.set_model(std::string(1'000'000, '\n'));
  v1::AttendResponse response;
  ExpectRefused(Attend(request, &response), grpc::StatusCode::NOT_FOUND, "; there is cross, small");
}

TEST_F(ServerTest, CompressedMessagesAreRefused) {
  grpc::ClientContext context;
  context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
  v1::AttendResponse response;
  v1::AttendRequest request = MakeRequest("small", {2, 300, 16});
  request.set_payloads(0, std::string(request.payloads(0).size(), '\0'));  // else it is sent as it is
  ExpectRefused(stub_->Attend(&context, request, &response), grpc::StatusCode::UNIMPLEMENTED, "");
}

// --- around the service ---

TEST_F(ServerTest, HealthKnowsTheServerAndTheService) {
  using grpc::health::v1::HealthCheckResponse;
  EXPECT_EQ(Health(""), HealthCheckResponse::SERVING);
  EXPECT_EQ(Health("headlight.v1.AttentionService"), HealthCheckResponse::SERVING);
}

TEST_F(ServerTest, ReflectionNamesTheService) {
  grpc::GenericStub stub(channel_);
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  const auto wait = [&queue] {
    void* tag = nullptr;
    bool ok = false;
    return queue.Next(&tag, &ok) && ok;
  };
  auto call =
      stub.PrepareCall(&context, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &queue);
  call->StartCall(nullptr);
  ASSERT_TRUE(wait());
  const grpc::Slice list_services(std::string("\x3a\x01*"));  // ServerReflectionRequest{list_services: "*"}
  call->Write(grpc::ByteBuffer(&list_services, 1), nullptr);
  ASSERT_TRUE(wait());
  grpc::ByteBuffer response;
  call->Read(&response, nullptr);
  ASSERT_TRUE(wait());
  grpc::Slice bytes;
  ASSERT_TRUE(response.DumpToSingleSlice(&bytes).ok());
  EXPECT_THAT(std::string(bytes.begin(), bytes.end()), HasSubstr("headlight.v1.AttentionService"));
  call->WritesDone(nullptr);
  ASSERT_TRUE(wait());
  grpc::Status status;
  call->Finish(&status, nullptr);
  ASSERT_TRUE(wait());
}

TEST_F(ServerTest, AnAddressInUseIsAClearError) {
  ServerOptions options = TestOptions();
  options.listen = Address();
  EXPECT_THAT(HeadlightServer::Start(options, std::make_shared<ModelRegistry>()),
              StatusIs(absl::StatusCode::kUnavailable,
                       HasSubstr("--listen: cannot listen on \"" + Address() + "\"")));
  ExpectServes(small_, MakeRequest("small", {2, 3, 16}));
}

TEST_F(ServerTest, AnUnknownKernelIsAnError) {
  ServerOptions options = TestOptions();
  options.kernel = "abacus";
  EXPECT_THAT(HeadlightServer::Start(options),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("abacus")));
}

// --- shutdown ---

TEST_F(ServerTest, AnIdleServerShutsDownAtOnceHoweverLongItsWatchersStay) {
  grpc::ClientContext context;
  auto watch = grpc::health::v1::Health::NewStub(channel_)->Watch(&context, {});
  grpc::health::v1::HealthCheckResponse update;
  ASSERT_TRUE(watch->Read(&update));
  EXPECT_EQ(update.status(), grpc::health::v1::HealthCheckResponse::SERVING);

  std::thread watcher([&] {
    EXPECT_TRUE(watch->Read(&update));
    EXPECT_EQ(update.status(), grpc::health::v1::HealthCheckResponse::NOT_SERVING);
    EXPECT_FALSE(watch->Read(&update));
  });
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_THAT(server_->Shutdown(), IsOk());
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(15));  // half the grace period
  watcher.join();
}

// Begins a request that computes for a while, and returns when the server has accepted it.
std::future<grpc::Status> BeginLongRequest(HeadlightServer& server, v1::AttentionService::Stub& stub) {
  std::future<grpc::Status> status = std::async(std::launch::async, [&stub] {
    grpc::ClientContext context;
    v1::AttendResponse response;
    return stub.Attend(&context, MakeRequest("small", {20'000, 16}), &response);
  });
  while (server.num_unfinished() == 0) std::this_thread::yield();
  return status;
}

TEST_F(ServerTest, NothingIsUnfinishedWhenItBeginsToServe) {
  for (int i = 0; i < 20; ++i) {
    Start(TestOptions());
    EXPECT_EQ(server_->num_unfinished(), 0);
  }
}

TEST_F(ServerTest, ShutdownFinishesWhatWasAccepted) {
  ServerOptions options = TestOptions();
  options.shutdown_grace_s = 120;  // AddressSanitizer on a busy machine needs half a minute
  Start(options);
  std::future<grpc::Status> status = BeginLongRequest(*server_, *stub_);
  const absl::Status shutdown = server_->Shutdown();
  EXPECT_THAT(shutdown, IsOk());
  const grpc::Status answer = status.get();
  EXPECT_TRUE(answer.ok()) << answer.error_message();
}

TEST_F(ServerTest, ShutdownWithoutGraceCutsOffAndSaysSo) {
  ServerOptions options = TestOptions();
  options.shutdown_grace_s = 0;
  Start(options);
  std::future<grpc::Status> status = BeginLongRequest(*server_, *stub_);
  EXPECT_THAT(server_->Shutdown(), StatusIs(absl::StatusCode::kDeadlineExceeded,
                                            "1 requests were cut off after 0 s (--shutdown-grace-s)"));
  EXPECT_FALSE(status.get().ok());
}

}  // namespace
}  // namespace headlight
