// SPDX-License-Identifier: Apache-2.0
#include "tests/client/fake_server.h"

#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>

#include <chrono>
#include <utility>

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
  model.set_precision("f32");
  model.set_kernel("fake");
  model.set_max_message_bytes(256 << 20);
  return model;
}

std::vector<v1::Model> Models() { return {MakeModel("demo", 4, 4), MakeModel("cross", 3, 2)}; }

}  // namespace

FakeServer::FakeServer(AttendHandler handler) : handler_(std::move(handler)) {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
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

grpc::Status FakeServer::Echo(grpc::ServerContext&, const v1::AttendRequest& request,
                              v1::AttendResponse& response) {
  response.set_model(request.model());
  response.set_model_version("1");
  response.set_request_id(request.request_id());
  *response.mutable_output() = request.query();
  response.add_payloads(request.payloads(0));
  if (request.weights().mode() == v1::WEIGHTS_MODE_FULL) {
    response.mutable_weights()->set_dtype(v1::DTYPE_F32);
    for (int64_t dim : {1, 1, 1, 2}) response.mutable_weights()->add_shape(dim);
    response.add_payloads(std::string("\x00\x00\x80\x3e\x00\x00\x40\x3f", 8));
  }
  v1::TimeBudget& budget = *response.mutable_time_budget();
  budget.set_queue_us(100);
  budget.set_compute_us(200);
  budget.set_total_us(400);
  budget.set_batch_requests(2);
  budget.set_batch_sequences(3);
  budget.set_batch_tokens(30);
  budget.set_kernel("fake");
  budget.set_compute_threads(7);
  return grpc::Status::OK;
}

grpc::Status FakeServer::Attend(grpc::ServerContext* context, const v1::AttendRequest* request,
                                v1::AttendResponse* response) {
  {
    const std::lock_guard lock(mutex_);
    requests_.push_back(*request);
    peers_.insert(context->peer());
  }
  return handler_(*context, *request, *response);
}

grpc::Status FakeServer::ListModels(grpc::ServerContext*, const v1::ListModelsRequest*,
                                    v1::ListModelsResponse* response) {
  for (const v1::Model& model : Models()) *response->add_models() = model;
  return grpc::Status::OK;
}

grpc::Status FakeServer::GetModel(grpc::ServerContext*, const v1::GetModelRequest* request,
                                  v1::GetModelResponse* response) {
  for (const v1::Model& model : Models()) {
    if (model.name() != request->model()) continue;
    *response->mutable_model() = model;
    return grpc::Status::OK;
  }
  return grpc::Status(grpc::StatusCode::NOT_FOUND,
                      "model: got '" + request->model() + "', wanted demo or cross");
}

}  // namespace headlight::testing
