// SPDX-License-Identifier: Apache-2.0
//
// What the Open Inference Protocol tells of a whole server and its models.
#include "server/oip/inference_service.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "headlight/v1/attention.grpc.pb.h"
#include "inference/grpc_service.grpc.pb.h"
#include "server/server.h"
#include "tests/server/attend_fixtures.h"
#include "tests/server/own_channel.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using inference::GRPCInferenceService;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::MakeRequest;
using ::testing::Not;

constexpr int64_t kMaxMessageBytes = 1 << 20;

class InferenceServiceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ServerOptions options;
    options.listen = "127.0.0.1:0";
    options.admin_listen.clear();
    options.threads = 1;
    options.max_message_bytes = kMaxMessageBytes;
    options.queue_max_requests = 77;
    options.default_deadline_ms = 20'000;
    options.allow_model_control = true;
    auto registry = std::make_shared<ModelRegistry>();
    ASSERT_THAT(registry->Add(testing::MakeTestModel("small").loaded), IsOk());
    ASSERT_THAT(registry->Add(testing::MakeTestModel("cross", testing::CrossConfig()).loaded), IsOk());
    ASSERT_THAT(registry->Add(testing::LoadTestModel("encoder", testing::EncoderConfig())), IsOk());
    ASSERT_THAT(registry->Add(testing::LoadTestModel("heads", testing::EncoderWithHeads())), IsOk());
    registry->SetLoadError("broken", "version 3: its file is short");
    auto server = HeadlightServer::Start(options, registry);
    ASSERT_THAT(server, IsOk());
    server_ = *std::move(server);
    channel_ = testing::OwnChannelTo(server_->port());
    stub_ = GRPCInferenceService::NewStub(channel_);
  }

  template <typename Request, typename Response>
  using Method = grpc::Status (GRPCInferenceService::Stub::*)(grpc::ClientContext*, const Request&,
                                                              Response*);

  template <typename Request, typename Response>
  grpc::Status Call(Method<Request, Response> method, const Request& request, Response* response) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    return (stub_.get()->*method)(&context, request, response);
  }

  // Of a call that succeeds.
  template <typename Request, typename Response>
  Response Get(Method<Request, Response> method, const Request& request) {
    Response response;
    const grpc::Status status = Call(method, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }

  template <typename Request, typename Response>
  void ExpectRefused(Method<Request, Response> method, const Request& request, grpc::StatusCode code,
                     const std::string& message) {
    Response response;
    const grpc::Status status = Call(method, request, &response);
    EXPECT_EQ(status.error_code(), code);
    EXPECT_THAT(status.error_message(), HasSubstr(message));
  }

  inference::ModelMetadataResponse Metadata(const std::string& name) {
    inference::ModelMetadataRequest request;
    request.set_name(name);
    return Get(&GRPCInferenceService::Stub::ModelMetadata, request);
  }

  inference::ModelConfig Config(const std::string& name) {
    inference::ModelConfigRequest request;
    request.set_name(name);
    return Get(&GRPCInferenceService::Stub::ModelConfig, request).config();
  }

  inference::ModelStatistics Statistics(const std::string& name) {
    inference::ModelStatisticsRequest request;
    request.set_name(name);
    const auto response = Get(&GRPCInferenceService::Stub::ModelStatistics, request);
    EXPECT_EQ(response.model_stats_size(), 1);
    return response.model_stats_size() > 0 ? response.model_stats(0) : inference::ModelStatistics();
  }

  grpc::Status Attend(const v1::AttendRequest& request) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    v1::AttendResponse response;
    return v1::AttentionService::NewStub(channel_)->Attend(&context, request, &response);
  }

  std::unique_ptr<HeadlightServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<GRPCInferenceService::Stub> stub_;
};

using Stub = GRPCInferenceService::Stub;

// "query FP32 [-1, -1, 16]"
template <typename Tensors>
std::vector<std::string> Shapes(const Tensors& tensors) {
  std::vector<std::string> texts;
  for (const auto& tensor : tensors) {
    std::string text = tensor.name() + " " + tensor.datatype();
    for (const int64_t dim : tensor.shape()) text += " " + std::to_string(dim);
    texts.push_back(text);
  }
  return texts;
}

TEST_F(InferenceServiceTest, TheServerLivesAndIsReady) {
  EXPECT_TRUE(Get(&Stub::ServerLive, inference::ServerLiveRequest()).live());
  EXPECT_TRUE(Get(&Stub::ServerReady, inference::ServerReadyRequest()).ready());
}

TEST_F(InferenceServiceTest, AModelIsReadyInTheVersionsThatThereAre) {
  const auto ready = [this](const std::string& name, const std::string& version) {
    inference::ModelReadyRequest request;
    request.set_name(name);
    request.set_version(version);
    return Get(&Stub::ModelReady, request).ready();
  };
  EXPECT_TRUE(ready("small", ""));
  EXPECT_TRUE(ready("small", "1"));
  EXPECT_FALSE(ready("small", "2"));
  EXPECT_FALSE(ready("absent", ""));
  EXPECT_FALSE(ready("broken", ""));
  ExpectRefused(&Stub::ModelReady, inference::ModelReadyRequest(), grpc::StatusCode::INVALID_ARGUMENT,
                "name: got none, wanted a model's name");
}

TEST_F(InferenceServiceTest, TheServerTellsWhichExtensionsItHas) {
  const auto metadata = Get(&Stub::ServerMetadata, inference::ServerMetadataRequest());
  EXPECT_EQ(metadata.name(), "headlight");
  EXPECT_THAT(metadata.version(), HasSubstr("."));
  for (const char* extension : {"statistics", "model_configuration", "model_repository", "logging"}) {
    EXPECT_THAT(metadata.extensions(), Contains(extension));
  }
  for (const char* extension : {"system_shared_memory", "cuda_shared_memory", "sequence", "trace"}) {
    EXPECT_THAT(metadata.extensions(), Not(Contains(extension)));
  }
}

TEST_F(InferenceServiceTest, DescribesWhatAModelTakesAndGives) {
  const auto small = Metadata("small");
  EXPECT_EQ(small.name(), "small");
  EXPECT_EQ(small.platform(), "headlight");
  EXPECT_THAT(small.versions(), ElementsAre("1"));
  EXPECT_THAT(Shapes(small.inputs()), ElementsAre("query FP32 -1 -1 16"));
  EXPECT_THAT(Shapes(small.outputs()), ElementsAre("output FP32 -1 -1 16"));
  EXPECT_THAT(Shapes(Metadata("cross").inputs()),
              ElementsAre("query FP32 -1 -1 16", "key FP32 -1 -1 12", "value FP32 -1 -1 8"));
  const auto encoder = Metadata("encoder");
  EXPECT_THAT(Shapes(encoder.inputs()), ElementsAre("input_ids INT64 -1 -1"));
  EXPECT_THAT(Shapes(encoder.outputs()),
              ElementsAre("output FP32 -1 -1 16", "sentence_embedding FP32 -1 16"));
  EXPECT_THAT(Shapes(Metadata("heads").outputs()),
              ElementsAre("output FP32 -1 -1 16", "sentence_embedding FP32 -1 5", "logits FP32 -1 3",
                          "token_scores FP32 -1 -1 4"));
}

TEST_F(InferenceServiceTest, ConfigurationAndMetadataAgree) {
  for (const char* name : {"small", "cross", "encoder", "heads"}) {
    const auto metadata = Metadata(name);
    const auto config = Config(name);
    EXPECT_EQ(config.name(), name);
    EXPECT_GT(config.max_batch_size(), 0);
    const auto expect_same = [](const auto& configured, const auto& described) {
      ASSERT_EQ(configured.size(), described.size());
      for (int i = 0; i < configured.size(); ++i) {
        EXPECT_EQ(configured[i].name(), described[i].name());
        EXPECT_EQ(inference::DataType_Name(configured[i].data_type()), "TYPE_" + described[i].datatype());
        std::vector<int64_t> shape = {-1};
        shape.insert(shape.end(), configured[i].dims().begin(), configured[i].dims().end());
        EXPECT_THAT(described[i].shape(), ::testing::ElementsAreArray(shape));
      }
    };
    expect_same(config.input(), metadata.inputs());
    expect_same(config.output(), metadata.outputs());
  }
}

TEST_F(InferenceServiceTest, TheConfigurationTellsTheServersLimits) {
  const auto config = Config("small");
  EXPECT_EQ(config.max_batch_size(), kMaxMessageBytes / (16 * 4));
  EXPECT_EQ(Config("cross").max_batch_size(), kMaxMessageBytes / ((16 + 12 + 8) * 4));
  EXPECT_EQ(config.backend(), "headlight");
  ASSERT_TRUE(config.has_dynamic_batching());
  EXPECT_EQ(config.dynamic_batching().default_queue_policy().max_queue_size(), 77u);
  EXPECT_EQ(config.dynamic_batching().default_queue_policy().default_timeout_microseconds(), 20'000'000u);
  EXPECT_FALSE(config.model_transaction_policy().decoupled());
  ASSERT_EQ(config.instance_group_size(), 1);
  EXPECT_EQ(config.instance_group(0).kind(), inference::ModelInstanceGroup::KIND_CPU);
  EXPECT_EQ(config.parameters().at("optional_inputs").string_value(),
            "attention_mask,seq_lens,key,value,kv_seq_lens");
  EXPECT_EQ(config.parameters().at("precision").string_value(), "f32");
  const auto encoder = Config("encoder");
  EXPECT_EQ(encoder.parameters().at("optional_inputs").string_value(),
            "attention_mask,seq_lens,token_type_ids");
  EXPECT_THAT(encoder.parameters().at("other_outputs").string_value(), Not(HasSubstr("sparse")));
  const auto heads = Config("heads");
  EXPECT_EQ(heads.parameters().at("optional_inputs").string_value(),
            "attention_mask,seq_lens,token_type_ids,positions");
  EXPECT_THAT(heads.parameters().at("other_outputs").string_value(), HasSubstr("attention_weights,"));
  EXPECT_THAT(heads.parameters().at("other_outputs").string_value(),
              HasSubstr("token_logits,sparse,sparse_indices,sparse_lens,token_vectors,token_vectors_lens"));
  EXPECT_EQ(encoder.parameters().at("vocab_size").string_value(), "50");
  EXPECT_EQ(encoder.parameters().at("max_seq_len").string_value(), "20");
}

TEST_F(InferenceServiceTest, WhatDoesNotExistIsNotDescribed) {
  inference::ModelMetadataRequest metadata;
  ExpectRefused(&Stub::ModelMetadata, metadata, grpc::StatusCode::INVALID_ARGUMENT, "name: got none");
  metadata.set_name("absent");
  ExpectRefused(&Stub::ModelMetadata, metadata, grpc::StatusCode::NOT_FOUND,
                "name: no model \"absent\"; there is cross, encoder, heads, small");
  metadata.set_name("small");
  metadata.set_version("2");
  ExpectRefused(&Stub::ModelMetadata, metadata, grpc::StatusCode::NOT_FOUND,
                "version: model \"small\" has no version \"2\"; there is 1");
  inference::ModelConfigRequest config;
  ExpectRefused(&Stub::ModelConfig, config, grpc::StatusCode::INVALID_ARGUMENT, "name: got none");
  config.set_name("broken");
  ExpectRefused(&Stub::ModelConfig, config, grpc::StatusCode::UNAVAILABLE,
                "name: \"broken\" could not be loaded: version 3: its file is short");
  inference::ModelStatisticsRequest statistics;
  statistics.set_name("absent");
  ExpectRefused(&Stub::ModelStatistics, statistics, grpc::StatusCode::NOT_FOUND, "name: no model \"absent\"");
  statistics.clear_name();
  statistics.set_version("1");
  ExpectRefused(&Stub::ModelStatistics, statistics, grpc::StatusCode::INVALID_ARGUMENT,
                "version: got \"1\", wanted none without a name");
}

TEST_F(InferenceServiceTest, StatisticsGrowAndTheirCountsAgree) {
  const auto before = Statistics("small");
  EXPECT_EQ(before.version(), "1");
  EXPECT_EQ(before.last_inference(), 0u);
  EXPECT_EQ(before.inference_stats().success().count(), 0u);
  EXPECT_GT(before.memory_usage(0).byte_size(), 0u);
  const auto requests = MakeRequest("small", {5, 3, 16});
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(Attend(requests).ok());
  EXPECT_FALSE(Attend(MakeRequest("small", {5, 3, 15})).ok());
  const auto after = Statistics("small");
  const auto& sums = after.inference_stats();
  for (const auto& duration :
       {sums.success(), sums.queue(), sums.compute_input(), sums.compute_infer(), sums.compute_output()}) {
    EXPECT_EQ(duration.count(), 3u);
  }
  EXPECT_GT(sums.compute_infer().ns(), 0u);
  EXPECT_GE(sums.success().ns(), sums.queue().ns() + sums.compute_infer().ns());
  EXPECT_EQ(sums.fail().count(), 1u);
  EXPECT_TRUE(sums.has_cache_hit() && sums.has_cache_miss());
  EXPECT_EQ(after.inference_count(), 15u);
  EXPECT_EQ(after.execution_count(), 3u);
  ASSERT_EQ(after.batch_stats_size(), 1);
  EXPECT_EQ(after.batch_stats(0).batch_size(), 5u);
  EXPECT_EQ(after.batch_stats(0).compute_infer().count(), 3u);
  EXPECT_EQ(after.batch_stats(0).compute_infer().ns(), sums.compute_infer().ns());
  EXPECT_GT(after.last_inference(), 1'600'000'000'000u);
  EXPECT_EQ(Statistics("cross").inference_stats().success().count(), 0u);
  EXPECT_EQ(Get(&Stub::ModelStatistics, inference::ModelStatisticsRequest()).model_stats_size(), 4);
}

TEST_F(InferenceServiceTest, ListsWhatThereIsAndWhyItDoesNotServe) {
  const auto index = [this](bool ready) {
    inference::RepositoryIndexRequest request;
    request.set_ready(ready);
    std::vector<std::string> lines;
    const auto response = Get(&Stub::RepositoryIndex, request);
    for (const auto& model : response.models()) {
      lines.push_back(model.name() + "/" + model.version() + " " + model.state() + " " + model.reason());
    }
    return lines;
  };
  EXPECT_THAT(index(false), ElementsAre("broken/ UNAVAILABLE version 3: its file is short", "cross/1 READY ",
                                        "encoder/1 READY ", "heads/1 READY ", "small/1 READY "));
  EXPECT_THAT(index(true),
              ElementsAre("cross/1 READY ", "encoder/1 READY ", "heads/1 READY ", "small/1 READY "));
  inference::RepositoryIndexRequest other;
  other.set_repository_name("other");
  ExpectRefused(&Stub::RepositoryIndex, other, grpc::StatusCode::INVALID_ARGUMENT,
                "repository_name: got \"other\", wanted none");
}

TEST_F(InferenceServiceTest, WithoutARepositoryNothingIsLoaded) {
  inference::RepositoryModelLoadRequest load;
  load.set_model_name("small");
  ExpectRefused(&Stub::RepositoryModelLoad, load, grpc::StatusCode::FAILED_PRECONDITION,
                "no --model-repository");
  inference::RepositoryModelUnloadRequest unload;
  unload.set_model_name("small");
  ExpectRefused(&Stub::RepositoryModelUnload, unload, grpc::StatusCode::FAILED_PRECONDITION,
                "no --model-repository");
}

TEST_F(InferenceServiceTest, SharedMemoryIsRefusedInASentence) {
  constexpr auto kUnimplemented = grpc::StatusCode::UNIMPLEMENTED;
  constexpr auto kDenied = grpc::StatusCode::PERMISSION_DENIED;
  const std::string allow = "the server allows it with --allow-shared-memory";
  ExpectRefused(&Stub::SystemSharedMemoryStatus, {}, kDenied, allow);
  ExpectRefused(&Stub::SystemSharedMemoryRegister, {}, kDenied, allow);
  ExpectRefused(&Stub::SystemSharedMemoryUnregister, {}, kDenied, allow);
  const std::string no_cuda = "has no CUDA shared memory";
  ExpectRefused(&Stub::CudaSharedMemoryStatus, {}, kUnimplemented, no_cuda);
  ExpectRefused(&Stub::CudaSharedMemoryRegister, {}, kUnimplemented, no_cuda);
  ExpectRefused(&Stub::CudaSharedMemoryUnregister, {}, kUnimplemented, no_cuda);
}

// The level of the process's log, which other tests share.
class InferenceServiceLogTest : public InferenceServiceTest {
 protected:
  ~InferenceServiceLogTest() override { spdlog::default_logger_raw()->set_level(before_); }

  inference::LogSettingsResponse Log() { return Get(&Stub::LogSettings, inference::LogSettingsRequest()); }

  const spdlog::level::level_enum before_ = spdlog::default_logger_raw()->level();
};

TEST_F(InferenceServiceLogTest, TheLevelOfTheLogIsReadAndSet) {
  spdlog::default_logger_raw()->set_level(spdlog::level::info);
  auto now = Log();
  EXPECT_EQ(now.settings_size(), 4);
  EXPECT_TRUE(now.settings().at("log_error").bool_param());
  EXPECT_TRUE(now.settings().at("log_warning").bool_param());
  EXPECT_TRUE(now.settings().at("log_info").bool_param());
  EXPECT_EQ(now.settings().at("log_verbose_level").uint32_param(), 0u);

  inference::LogSettingsRequest verbose;
  (*verbose.mutable_settings())["log_verbose_level"].set_uint32_param(1);
  EXPECT_EQ(Get(&Stub::LogSettings, verbose).settings().at("log_verbose_level").uint32_param(), 1u);
  EXPECT_EQ(spdlog::default_logger_raw()->level(), spdlog::level::debug);

  inference::LogSettingsRequest quiet;
  (*quiet.mutable_settings())["log_verbose_level"].set_uint32_param(0);
  (*quiet.mutable_settings())["log_info"].set_bool_param(false);
  now = Get(&Stub::LogSettings, quiet);
  EXPECT_TRUE(now.settings().at("log_warning").bool_param());
  EXPECT_FALSE(now.settings().at("log_info").bool_param());
  EXPECT_EQ(spdlog::default_logger_raw()->level(), spdlog::level::warn);
}

TEST_F(InferenceServiceLogTest, SettingsThatCannotBeAreRefusedByNameAndChangeNothing) {
  spdlog::default_logger_raw()->set_level(spdlog::level::info);
  const auto expect_refused = [this](const std::string& name, const auto& set, const std::string& message) {
    inference::LogSettingsRequest request;
    set((*request.mutable_settings())[name]);
    (*request.mutable_settings())["log_warning"].set_bool_param(name == "log_warning" ? false : true);
    ExpectRefused(&Stub::LogSettings, request, grpc::StatusCode::INVALID_ARGUMENT, message);
    EXPECT_EQ(spdlog::default_logger_raw()->level(), spdlog::level::info);
  };
  expect_refused(
      "log_file", [](auto& value) { value.set_string_param("x"); },
      "settings: \"log_file\" cannot be changed");
  expect_refused(
      "log_error", [](auto& value) { value.set_bool_param(false); }, "errors are always logged");
  expect_refused(
      "log_info", [](auto& value) { value.set_uint32_param(1); }, "settings.log_info: wanted true or false");
  expect_refused(
      "log_verbose_level", [](auto& value) { value.set_bool_param(true); },
      "settings.log_verbose_level: wanted a number");
  // log_info stays on, which it cannot without warnings.
  expect_refused(
      "log_warning", [](auto&) {}, "settings.log_info: wanted log_warning beside it");
}

TEST_F(InferenceServiceTest, TraceSettingsAreReadAndNotChanged) {
  const auto now = Get(&Stub::TraceSetting, inference::TraceSettingRequest());
  EXPECT_THAT(now.settings().at("trace_level").value(), ElementsAre("OFF"));
  inference::TraceSettingRequest change;
  (*change.mutable_settings())["trace_rate"].add_value("1000");
  ExpectRefused(&Stub::TraceSetting, change, grpc::StatusCode::INVALID_ARGUMENT,
                "settings: \"trace_rate\" cannot be changed");
  inference::TraceSettingRequest of_model;
  of_model.set_model_name("absent");
  ExpectRefused(&Stub::TraceSetting, of_model, grpc::StatusCode::NOT_FOUND,
                "model_name: no model \"absent\"");
}

}  // namespace
}  // namespace headlight
