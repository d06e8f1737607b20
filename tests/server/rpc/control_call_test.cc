// SPDX-License-Identifier: Apache-2.0
//
// Every method about the server and its models, of all services, as strangers may call them: with messages that
// are too large, without a token, with bytes that are no message.
#include "server/rpc/control_call.h"

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "server/security/token_file.h"
#include "server/server.h"
#include "tests/server/attend_fixtures.h"
#include "tests/server/own_channel.h"
#include "tests/server/serving_test.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace headlight {
namespace {

using google::protobuf::DescriptorPool;
using google::protobuf::MethodDescriptor;
using testing::IsOk;
using ::testing::StartsWith;

constexpr char kOperatorToken[] = "the token of who may do everything";

std::string PathOf(const MethodDescriptor& method) {
  return "/" + method.service()->full_name() + "/" + method.name();
}

// Of one service, those that take one request.
std::vector<const MethodDescriptor*> MethodsOf(const std::string& service) {
  std::vector<const MethodDescriptor*> methods;
  const auto* const described = DescriptorPool::generated_pool()->FindServiceByName(service);
  EXPECT_NE(described, nullptr) << service;
  for (int i = 0; described != nullptr && i < described->method_count(); ++i) {
    const MethodDescriptor* const method = described->method(i);
    const bool has_tensors = method->name() == "Attend" || method->name() == "ModelInfer";
    if (!has_tensors && !method->client_streaming()) methods.push_back(method);
  }
  return methods;
}

std::vector<const MethodDescriptor*> ControlMethods() {
  std::vector<const MethodDescriptor*> methods = MethodsOf("headlight.v1.AttentionService");
  for (const MethodDescriptor* method : MethodsOf("inference.GRPCInferenceService"))
    methods.push_back(method);
  EXPECT_EQ(methods.size(), 5u + 18u);
  return methods;
}

// Field 1000, of type bytes, which no message has: 3 bytes each, some 100 in protobuf's memory.
std::string UnknownFields(size_t num_bytes) {
  std::string bytes;
  while (bytes.size() < num_bytes) bytes += std::string("\xC2\x3E\x00", 3);
  return bytes;
}

class ControlCallTest : public ::testing::Test {
 protected:
  void Start(bool with_tokens = false) {
    ServerOptions options;
    options.listen = "127.0.0.1:0";
    options.admin_listen.clear();
    options.threads = 1;
    options.max_message_bytes = 1 << 20;
    options.allow_model_control = true;
    if (with_tokens) {
      TokenTerms terms;
      terms.name = terms.tenant = "operator";
      terms.sha256 = HashToken(kOperatorToken);
      terms.models = ModelRights({"*"});
      terms.model_control = true;
      options.tokens = folder_.Write("tokens.toml", WriteToken(terms));
    }
    auto registry = std::make_shared<ModelRegistry>();
    ASSERT_THAT(registry->Add(testing::MakeTestModel("small").loaded), IsOk());
    auto server = HeadlightServer::Start(options, registry);
    ASSERT_THAT(server, IsOk());
    server_ = *std::move(server);
    stub_ = std::make_unique<grpc::GenericStub>(testing::OwnChannelTo(server_->port()));
  }

  static void SetDeadline(grpc::ClientContext& context) {
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  }

  grpc::Status Call(const MethodDescriptor& method, const std::string& message) {
    grpc::ClientContext context;
    SetDeadline(context);
    grpc::CompletionQueue queue;
    const grpc::Slice slice(message);
    const auto call = stub_->PrepareUnaryCall(&context, PathOf(method), grpc::ByteBuffer(&slice, 1), &queue);
    call->StartCall();
    grpc::ByteBuffer response;
    grpc::Status status;
    call->Finish(&response, &status, nullptr);
    Await(queue);
    return status;
  }

  // Headers alone; `half_close`: and the word that no message comes.
  grpc::Status CallWithoutMessage(const MethodDescriptor& method, bool half_close) {
    grpc::ClientContext context;
    SetDeadline(context);
    grpc::CompletionQueue queue;
    const auto call = stub_->PrepareCall(&context, PathOf(method), &queue);
    call->StartCall(nullptr);
    Await(queue);
    if (half_close) {
      call->WritesDone(nullptr);
      Await(queue);
    }
    grpc::Status status;
    call->Finish(&status, nullptr);
    Await(queue);
    return status;
  }

  static void Await(grpc::CompletionQueue& queue) {
    void* tag = nullptr;
    bool ok = false;
    ASSERT_TRUE(queue.Next(&tag, &ok));
  }

  testing::TempFolder folder_;
  std::unique_ptr<HeadlightServer> server_;
  std::unique_ptr<grpc::GenericStub> stub_;
};

TEST_F(ControlCallTest, EveryMethodOfTheProtoFilesIsServed) {
  Start();
  for (const MethodDescriptor* method : ControlMethods()) {
    const grpc::Status status = Call(*method, "");
    if (method->name().find("Cuda") != std::string::npos) {
      EXPECT_EQ(status.error_message(), "this server computes on CPUs and has no CUDA shared memory");
    } else {
      EXPECT_NE(status.error_code(), grpc::StatusCode::UNIMPLEMENTED) << PathOf(*method);
    }
  }
}

TEST_F(ControlCallTest, AMessageThatIsTooLargeIsRefusedWithBothSizes) {
  Start();
  std::vector<const MethodDescriptor*> methods = ControlMethods();
  for (const char* service : {"grpc.health.v1.Health", "xds.service.orca.v3.OpenRcaService"}) {
    for (const MethodDescriptor* method : MethodsOf(service)) methods.push_back(method);
  }
  ASSERT_EQ(methods.size(), 5u + 18u + 3u + 1u);
  for (const char* version : {"v1", "v1alpha"}) {
    methods.push_back(DescriptorPool::generated_pool()
                          ->FindServiceByName(std::string("grpc.reflection.") + version + ".ServerReflection")
                          ->method(0));
  }
  const std::string message = UnknownFields(300'000);
  for (const MethodDescriptor* method : methods) {
    const grpc::Status status = Call(*method, message);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << PathOf(*method);
    EXPECT_EQ(status.error_message(),
              method->input_type()->full_name() + ": got a message of 300000 bytes, wanted at most 65536");
  }
}

TEST_F(ControlCallTest, UnknownFieldsOfAMessageWithinTheBoundChangeNothing) {
  Start();
  for (const MethodDescriptor* method : ControlMethods()) {
    const grpc::Status status = Call(*method, UnknownFields(65'000)), empty = Call(*method, "");
    EXPECT_EQ(status.error_code(), empty.error_code()) << PathOf(*method);
    EXPECT_EQ(status.error_message(), empty.error_message()) << PathOf(*method);
  }
}

TEST_F(ControlCallTest, BytesThatAreNoMessageAreRefusedByItsName) {
  Start();
  for (const MethodDescriptor* method : ControlMethods()) {
    const grpc::Status status = Call(*method, "\xFF\xFF");
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << PathOf(*method);
    EXPECT_THAT(status.error_message(), StartsWith(method->input_type()->full_name() + ": "));
  }
}

// A method that has read something before it looks at the token waits for a message that never comes.
TEST_F(ControlCallTest, WithoutATokenACallEndsBeforeAMessageOfItHasCome) {
  Start(/*with_tokens=*/true);
  for (const MethodDescriptor* method : ControlMethods()) {
    if (method->name() == "ServerLive" || method->name() == "ServerReady") continue;
    EXPECT_EQ(CallWithoutMessage(*method, /*half_close=*/false).error_code(),
              grpc::StatusCode::UNAUTHENTICATED)
        << PathOf(*method);
    const grpc::Status status = Call(*method, UnknownFields(300'000));
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAUTHENTICATED) << PathOf(*method);
  }
}

TEST_F(ControlCallTest, ACallThatEndsBeforeItsRequestIsToldSo) {
  Start();
  for (const MethodDescriptor* method : ControlMethods()) {
    const grpc::Status status = CallWithoutMessage(*method, /*half_close=*/true);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::CANCELLED) << PathOf(*method);
    EXPECT_EQ(status.error_message(), "the call ended before its request had arrived");
  }
}

// Nothing but a shape says how large the tensors of an estimate are.
TEST_F(ControlCallTest, AnEstimateOfAnImpossibleShapeEndsAtOnce) {
  Start();
  const MethodDescriptor* const method = DescriptorPool::generated_pool()
                                             ->FindServiceByName("headlight.v1.AttentionService")
                                             ->FindMethodByName("EstimateCost");
  for (const int64_t batch : {int64_t{1} << 20, int64_t{1} << 31, int64_t{1} << 40, int64_t{1} << 55}) {
    v1::EstimateCostRequest request;
    *request.mutable_request() = testing::MakeRequest("small", {1, 1, 16});
    request.mutable_request()->clear_payloads();
    request.mutable_request()->mutable_query()->set_shape(0, batch);
    const grpc::Status status = Call(*method, request.SerializeAsString());
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << status.error_message();
    EXPECT_THAT(status.error_message(), StartsWith("query.shape: "));
  }
}

// gRPC swallows what a reaction throws, and would wait for the end of the call for ever.
class ControlCallThrowsTest : public testing::ServingTest {
 protected:
  ControlCallThrowsTest() : ServingTest(/*queue_max_requests=*/10) {
    const auto answer = [](const ControlMethod::Who&, const grpc::ByteBuffer&, const ControlMethod::Reply&) {
      throw std::bad_alloc();
    };
    exchanges_.Add("test.Service", "Throw", {.is_for_anybody = false, .answer = answer});
  }
};

TEST_F(ControlCallThrowsTest, TheCallEnds) {
  grpc::GenericStub stub(channel_);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + testing::kServingPatience);
  grpc::CompletionQueue queue;
  const grpc::Slice nothing("");
  const auto call =
      stub.PrepareUnaryCall(&context, "/test.Service/Throw", grpc::ByteBuffer(&nothing, 1), &queue);
  call->StartCall();
  grpc::ByteBuffer response;
  grpc::Status status;
  call->Finish(&response, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  ASSERT_TRUE(queue.Next(&tag, &ok));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(status.error_message(), "memory is short: the answer's lists do not fit");
}

}  // namespace
}  // namespace headlight
