// SPDX-License-Identifier: Apache-2.0
//
// Tensors in shared memory, through a whole server with tokens: what two tenants register, and what they ask
// with it.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "inference/grpc_service.grpc.pb.h"
#include "server/security/token_file.h"
#include "server/server.h"
#include "tests/server/attend_fixtures.h"
#include "tests/server/own_channel.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace headlight {
namespace {

using inference::GRPCInferenceService;
using inference::ModelInferRequest;
using inference::ModelInferResponse;
using ::testing::HasSubstr;
using testing::IsOk;

using Stub = GRPCInferenceService::Stub;

constexpr char kOne[] = "the token of the first tenant";
constexpr char kOther[] = "the token of the other tenant";
constexpr int kTokens = 3, kWidth = 16;  // of SmallConfig
constexpr uint64_t kBytes = kTokens * kWidth * sizeof(float);

// An object of shared memory of `size` zeros, and its memory.
class SharedObject {
 public:
  explicit SharedObject(size_t size) : size_(size), key_(absl::StrCat("/headlight_server_test_", getpid())) {
    descriptor_ = shm_open(key_.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0600);
    EXPECT_GE(descriptor_, 0);
    Resize(size);
    memory_ = static_cast<char*>(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor_, 0));
    EXPECT_NE(memory_, MAP_FAILED);
  }
  ~SharedObject() {
    munmap(memory_, size_);
    close(descriptor_);
    shm_unlink(key_.c_str());
  }
  void Resize(size_t size) { EXPECT_EQ(ftruncate(descriptor_, static_cast<off_t>(size)), 0); }
  const std::string& key() const { return key_; }
  char* memory() const { return memory_; }

 private:
  const size_t size_;
  const std::string key_;
  int descriptor_ = -1;
  char* memory_ = nullptr;
};

// Where a tensor is, for its parameters.
template <typename Tensor>
void Place(Tensor& tensor, const std::string& region, uint64_t byte_size, uint64_t offset) {
  auto& parameters = *tensor.mutable_parameters();
  parameters["shared_memory_region"].set_string_param(region);
  parameters["shared_memory_byte_size"].set_int64_param(static_cast<int64_t>(byte_size));
  if (offset > 0) parameters["shared_memory_offset"].set_int64_param(static_cast<int64_t>(offset));
}

ModelInferRequest MakeInfer() {
  ModelInferRequest request;
  request.set_model_name("small");
  auto& query = *request.add_inputs();
  query.set_name("query");
  query.set_datatype("FP32");
  for (const int dim : {1, kTokens, kWidth}) query.add_shape(dim);
  return request;
}

class SharedMemoryServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    TokenTerms one, other;
    one.name = one.tenant = "one";
    one.sha256 = HashToken(kOne);
    one.models = ModelRights({"*"});
    other.name = other.tenant = "other";
    other.sha256 = HashToken(kOther);
    other.models = ModelRights({"*"});
    ServerOptions options;
    options.listen = "127.0.0.1:0";
    options.admin_listen.clear();
    options.threads = 1;
    options.allow_shared_memory = true;
    options.tokens = folder_.Write("tokens.toml", WriteToken(one) + WriteToken(other));
    auto registry = std::make_shared<ModelRegistry>();
    ASSERT_THAT(registry->Add(testing::MakeTestModel("small").loaded), IsOk());
    auto server = HeadlightServer::Start(options, registry);
    ASSERT_THAT(server, IsOk());
    server_ = *std::move(server);
    stub_ = GRPCInferenceService::NewStub(testing::OwnChannelTo(server_->port()));
    std::vector<float> query(kTokens * kWidth);
    for (size_t i = 0; i < query.size(); ++i) query[i] = static_cast<float>(i % 7) - 3;
    query_.assign(kBytes, '\0');
    std::memcpy(query_.data(), query.data(), kBytes);
  }

  template <typename Request, typename Response>
  using Method = grpc::Status (Stub::*)(grpc::ClientContext*, const Request&, Response*);

  template <typename Request, typename Response>
  grpc::Status Call(const std::string& token, Method<Request, Response> method, const Request& request,
                    Response* response) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    context.AddMetadata("authorization", "Bearer " + token);
    return (stub_.get()->*method)(&context, request, response);
  }

  grpc::Status Register(const std::string& token, const std::string& name, uint64_t offset,
                        uint64_t byte_size) {
    inference::SystemSharedMemoryRegisterRequest request;
    request.set_name(name);
    request.set_key(object_.key());
    request.set_offset(offset);
    request.set_byte_size(byte_size);
    inference::SystemSharedMemoryRegisterResponse response;
    return Call(token, &Stub::SystemSharedMemoryRegister, request, &response);
  }

  grpc::Status Infer(const std::string& token, const ModelInferRequest& request,
                     ModelInferResponse* response) {
    return Call(token, &Stub::ModelInfer, request, response);
  }

  void ExpectRefused(const std::string& token, const ModelInferRequest& request, grpc::StatusCode code,
                     const std::string& message) {
    ModelInferResponse response;
    const grpc::Status status = Infer(token, request, &response);
    EXPECT_EQ(status.error_code(), code) << status.error_message();
    EXPECT_THAT(status.error_message(), HasSubstr(message));
  }

  // What the query gives when it is sent.
  std::string Wanted() {
    ModelInferRequest request = MakeInfer();
    request.add_raw_input_contents(query_);
    ModelInferResponse response;
    const grpc::Status status = Infer(kOne, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return status.ok() ? response.raw_output_contents(0) : "";
  }

  const testing::TempFolder folder_;
  SharedObject object_{4096};
  std::unique_ptr<HeadlightServer> server_;
  std::unique_ptr<Stub> stub_;
  std::string query_;
};

TEST_F(SharedMemoryServerTest, InputsAndOutputsLieThere) {
  ASSERT_TRUE(Register(kOne, "io", 64, 2 * kBytes + 8).ok());
  std::memcpy(object_.memory() + 64, query_.data(), kBytes);
  ModelInferRequest request = MakeInfer();
  Place(*request.mutable_inputs(0), "io", kBytes, 0);
  auto& output = *request.add_outputs();
  output.set_name("output");
  Place(output, "io", kBytes + 8, kBytes);  // more than it takes
  ModelInferResponse response;
  const grpc::Status status = Infer(kOne, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(response.raw_output_contents_size(), 1);
  EXPECT_EQ(response.raw_output_contents(0), "");
  ASSERT_EQ(response.outputs_size(), 1);
  EXPECT_EQ(response.outputs(0).shape(1), kTokens);
  EXPECT_EQ(std::string(object_.memory() + 64 + kBytes, kBytes), Wanted());
  EXPECT_EQ(std::string(object_.memory() + 64 + 2 * kBytes, 8), std::string(8, '\0'));  // nothing beyond
}

TEST_F(SharedMemoryServerTest, TenantsHaveRegionsOfTheirOwn) {
  ASSERT_TRUE(Register(kOne, "io", 0, kBytes).ok());
  std::memcpy(object_.memory(), query_.data(), kBytes);
  ModelInferRequest request = MakeInfer();
  Place(*request.mutable_inputs(0), "io", kBytes, 0);
  ExpectRefused(kOther, request, grpc::StatusCode::NOT_FOUND, "query.shared_memory_region: got \"io\"");
  inference::SystemSharedMemoryStatusResponse regions;
  ASSERT_TRUE(Call(kOther, &Stub::SystemSharedMemoryStatus, {}, &regions).ok());
  EXPECT_EQ(regions.regions_size(), 0);
  inference::SystemSharedMemoryUnregisterResponse unregistered;
  ASSERT_TRUE(Call(kOther, &Stub::SystemSharedMemoryUnregister, {}, &unregistered).ok());
  ModelInferResponse response;
  ASSERT_TRUE(Infer(kOne, request, &response).ok());
  EXPECT_EQ(response.raw_output_contents(0), Wanted());
  EXPECT_TRUE(Register(kOther, "io", 0, 8).ok());
  EXPECT_EQ(Register(kOne, "io", 0, 8).error_code(), grpc::StatusCode::ALREADY_EXISTS);
}

TEST_F(SharedMemoryServerTest, WhatDoesNotFitIsRefusedAndTheServerGoesOn) {
  ASSERT_TRUE(Register(kOne, "io", 0, 2 * kBytes).ok());
  ModelInferRequest request = MakeInfer();
  Place(*request.mutable_inputs(0), "io", kBytes, kBytes + 1);
  ExpectRefused(kOne, request, grpc::StatusCode::INVALID_ARGUMENT,
                "query.shared_memory_byte_size: got 192 from shared_memory_offset 193 on");
  Place(*request.mutable_inputs(0), "io", kBytes - 4, 1);
  ExpectRefused(kOne, request, grpc::StatusCode::INVALID_ARGUMENT,
                "query.shared_memory_byte_size: got 188, wanted 48 times 4 for FP32 [1, 3, 16]");
  ModelInferRequest into = MakeInfer();
  into.add_raw_input_contents(query_);
  into.add_outputs()->set_name("output");
  Place(*into.mutable_outputs(0), "io", kBytes - 4, 0);
  ExpectRefused(kOne, into, grpc::StatusCode::INVALID_ARGUMENT,
                "output.shared_memory_byte_size: got 188, wanted room for 192 bytes");

  object_.Resize(kBytes);  // less than was registered
  Place(*request.mutable_inputs(0), "io", kBytes, 0);
  ExpectRefused(kOne, request, grpc::StatusCode::INVALID_ARGUMENT,
                "query.shared_memory_region: the file of \"io\" has become shorter");
  Place(*into.mutable_outputs(0), "io", kBytes, kBytes);
  ExpectRefused(kOne, into, grpc::StatusCode::INVALID_ARGUMENT,
                "output.shared_memory_region: the file of \"io\" has become shorter");
  EXPECT_EQ(Wanted().size(), kBytes);
}

}  // namespace
}  // namespace headlight
