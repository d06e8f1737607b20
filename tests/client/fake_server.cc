// SPDX-License-Identifier: Apache-2.0
#include "tests/client/fake_server.h"

#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>

#include <chrono>
#include <thread>
#include <utility>

#include "tests/testing/slow_crc32c.h"

namespace headlight::testing {
namespace {

v1::Model MakeModel(const std::string& name, int64_t kdim, int64_t vdim) {
  v1::Model model;
  model.set_name(name);
  model.set_version("1");
  model.set_embed_dim(4);
  model.set_num_heads(2);
  model.set_num_kv_heads(2);
  model.set_head_dim(2);
  model.set_kdim(kdim);
  model.set_vdim(vdim);
  model.set_num_parameters(80);
  model.set_num_layers(1);
  model.set_takes_key(true);
  model.set_layout("built-in");
  model.set_precision("f32");
  model.set_kernel("fake");
  model.set_max_message_bytes(256 << 20);
  model.set_precision_asked("f32");
  model.mutable_precision_error()->set_cosine(1);
  return model;
}

template <typename T>
void AddTensor(v1::DType dtype, const std::vector<int64_t>& shape, const std::vector<T>& values,
               v1::TensorSpec& spec, v1::AttendResponse& response) {
  spec.set_dtype(dtype);
  for (int64_t dim : shape) spec.add_shape(dim);
  response.add_payloads(values.data(), values.size() * sizeof(T));
}

void AddWeights(const v1::WeightsOptions& options, v1::AttendResponse& response) {
  switch (options.mode()) {
    case v1::WEIGHTS_MODE_FULL:
    case v1::WEIGHTS_MODE_GRID:
      return AddTensor<float>(v1::DTYPE_F32, {1, 1, 1, 2}, {0.25f, 0.75f}, *response.mutable_weights(),
                              response);
    case v1::WEIGHTS_MODE_TOP_K:
      AddTensor<float>(v1::DTYPE_F32, {1, 1, 1, 2}, {0.75f, 0.0f}, *response.mutable_weights(), response);
      return AddTensor<int32_t>(v1::DTYPE_I32, {1, 1, 1, 2}, {5, -1}, *response.mutable_weights_keys(),
                                response);
    case v1::WEIGHTS_MODE_SUMMARY:
      AddTensor<float>(v1::DTYPE_F32, {1, 1, 6}, {0.5f, 1, 0.25f, 0.125f, 0, 2}, *response.mutable_weights(),
                       response);
      return AddTensor<float>(v1::DTYPE_F32, {1, 1, 2}, {1.5f, 0.5f}, *response.mutable_received_mass(),
                              response);
    default:
      return;
  }
}

std::vector<v1::Model> Models() {
  v1::Model cross = MakeModel("cross", 3, 2);  // with everything that a model may say
  cross.set_precision_asked("bf16");
  cross.set_precision_note("computed in f32: because");
  cross.set_parameters_precision("int8");
  cross.mutable_precision_error()->set_rms(0.00123);
  cross.mutable_rope()->set_theta(10000);
  cross.mutable_rope()->set_scaling(v1::Rope::SCALING_LLAMA3);
  cross.set_alibi(true);
  cross.set_logit_softcap(30);
  cross.set_window_left(255);
  cross.set_window_right(0);
  cross.set_num_appended_keys(2);
  v1::Model encoder = MakeModel("encoder", 4, 4);
  encoder.set_num_layers(3);
  encoder.set_hidden_dim(16);
  encoder.set_takes_key(false);
  encoder.set_takes_token_ids(true);
  encoder.set_vocab_size(50);
  encoder.set_num_token_types(2);
  encoder.set_max_seq_len(512);
  encoder.set_pooling(v1::POOLING_MODE_MEAN);
  encoder.set_normalize_pooled(true);
  encoder.set_layout("bert");
  return {MakeModel("demo", 4, 4), encoder, cross};
}

grpc::Status FindModel(const std::string& name, v1::Model& found) {
  for (const v1::Model& model : Models()) {
    if (model.name() != name) continue;
    found = model;
    return grpc::Status::OK;
  }
  return grpc::Status(grpc::StatusCode::NOT_FOUND, "model: got '" + name + "', wanted demo or cross");
}

}  // namespace

FakeServer::FakeServer(AttendHandler handler, const Options& options) : handler_(std::move(handler)) {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:" + std::to_string(options.port),
                           options.credentials ? options.credentials : grpc::InsecureServerCredentials(),
                           &port_);
  builder.SetMaxReceiveMessageSize(-1);
  builder.RegisterService(this);
  server_ = builder.BuildAndStart();
}

FakeServer::~FakeServer() {
  server_->Shutdown(std::chrono::system_clock::now());  // cancels what still runs
  server_->Wait();
}

std::string FakeServer::target() const { return "127.0.0.1:" + std::to_string(port_); }

void FakeServer::SetServing(bool serving) { server_->GetHealthCheckService()->SetServingStatus(serving); }

std::vector<v1::AttendRequest> FakeServer::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

std::set<std::string> FakeServer::peers() const {
  const std::lock_guard lock(mutex_);
  return peers_;
}

std::vector<std::string> FakeServer::announced() const {
  const std::lock_guard lock(mutex_);
  return announced_;
}

std::vector<std::string> FakeServer::traceparents() const {
  const std::lock_guard lock(mutex_);
  return traceparents_;
}

std::vector<std::string> FakeServer::authorizations() const {
  const std::lock_guard lock(mutex_);
  return authorizations_;
}

grpc::Status FakeServer::EchoWithChecksums(grpc::ServerContext& context, const v1::AttendRequest& request,
                                           v1::AttendResponse& response) {
  const grpc::Status status = Echo(context, request, response);
  for (const std::string& payload : response.payloads()) response.add_payload_crc32c(SlowCrc32c(payload));
  return status;
}

grpc::Status FakeServer::UntilCancelled(grpc::ServerContext& context, const v1::AttendRequest&,
                                        v1::AttendResponse&) {
  while (!context.IsCancelled()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return grpc::Status::CANCELLED;
}

grpc::Status FakeServer::Echo(grpc::ServerContext&, const v1::AttendRequest& request,
                              v1::AttendResponse& response) {
  response.set_model(request.model());
  response.set_model_version("1");
  response.set_request_id(request.request_id());
  if (request.has_token_ids()) {
    v1::TensorSpec& output = *response.mutable_output();
    output = request.token_ids();
    output.set_dtype(v1::DTYPE_F32);
    if (request.pooling() != v1::POOLING_MODE_UNSPECIFIED && output.shape_size() > 1) {
      output.mutable_shape()->RemoveLast();
    }
    output.add_shape(1);
    int64_t elements = 1;
    for (int64_t dim : output.shape()) elements *= dim;
    response.add_payloads(std::string(elements * sizeof(float), '\0'));
  } else {
    *response.mutable_output() = request.query();
    response.add_payloads(request.payloads(0));
  }
  AddWeights(request.weights(), response);
  v1::TimeBudget& budget = *response.mutable_time_budget();
  budget.set_queue_us(100);
  budget.set_compute_us(200);
  budget.set_total_us(400);
  budget.set_batch_requests(2);
  budget.set_batch_sequences(3);
  budget.set_batch_tokens(30);
  budget.set_kernel("fake");
  budget.set_compute_threads(7);
  budget.set_pack_us(20);
  budget.set_unpack_us(30);
  budget.set_predicted_us(240);
  return grpc::Status::OK;
}

grpc::Status FakeServer::Attend(grpc::ServerContext* context, const v1::AttendRequest* request,
                                v1::AttendResponse* response) {
  Remember(*context, *request);
  return handler_(*context, *request, *response);
}

grpc::Status FakeServer::AttendStream(
    grpc::ServerContext* context, grpc::ServerReaderWriter<v1::AttendResponse, v1::AttendRequest>* stream) {
  v1::AttendRequest request;
  while (stream->Read(&request)) {
    Remember(*context, request);
    v1::AttendResponse response;
    const grpc::Status status = handler_(*context, request, response);
    if (!status.ok()) {
      const v1::AttendError said = response.error();
      response.Clear();
      *response.mutable_error() = said;
      response.mutable_error()->set_code(status.error_code());
      response.mutable_error()->set_message(status.error_message());
    }
    response.set_request_id(request.request_id());
    stream->Write(response);
  }
  return grpc::Status::OK;
}

void FakeServer::Remember(grpc::ServerContext& context, const v1::AttendRequest& request) {
  const std::lock_guard lock(mutex_);
  requests_.push_back(request);
  peers_.insert(context.peer());
  const auto metadata = [&context](const char* key) {
    const auto found = context.client_metadata().find(key);
    return found == context.client_metadata().end() ? std::string()
                                                    : std::string(found->second.data(), found->second.size());
  };
  authorizations_.push_back(metadata("authorization"));
  announced_.push_back(metadata("headlight-message-bytes"));
  traceparents_.push_back(metadata("traceparent"));
}

grpc::Status FakeServer::EstimateCost(grpc::ServerContext* context, const v1::EstimateCostRequest* request,
                                      v1::EstimateCostResponse* response) {
  Remember(*context, request->request());
  response->set_projection_flops(2e9);
  response->set_attention_flops(1e9);
  response->set_memory_bytes(3000);
  response->set_reply_bytes(400);
  response->set_compute_us(5000);
  response->set_queue_us(2000);
  response->set_admitted(request->request().timeout_us() >= 7000);
  if (response->admitted()) return grpc::Status::OK;
  v1::AttendError& refusal = *response->mutable_refusal();
  refusal.set_code(grpc::StatusCode::RESOURCE_EXHAUSTED);
  refusal.set_message("the queue takes 2 ms");
  refusal.set_retry_delay_ms(2);
  refusal.set_reason("behind_queue");
  return grpc::Status::OK;
}

grpc::Status FakeServer::ListModels(grpc::ServerContext*, const v1::ListModelsRequest*,
                                    v1::ListModelsResponse* response) {
  for (const v1::Model& model : Models()) *response->add_models() = model;
  return grpc::Status::OK;
}

grpc::Status FakeServer::GetModel(grpc::ServerContext*, const v1::GetModelRequest* request,
                                  v1::GetModelResponse* response) {
  response->set_server_version("1.2.3");
  return FindModel(request->model(), *response->mutable_model());
}

grpc::Status FakeServer::LoadModel(grpc::ServerContext*, const v1::LoadModelRequest* request,
                                   v1::LoadModelResponse* response) {
  return FindModel(request->model(), *response->mutable_model());
}

grpc::Status FakeServer::UnloadModel(grpc::ServerContext*, const v1::UnloadModelRequest* request,
                                     v1::UnloadModelResponse*) {
  v1::Model ignored;
  return FindModel(request->model(), ignored);
}

}  // namespace headlight::testing
