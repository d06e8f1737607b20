// SPDX-License-Identifier: Apache-2.0
#include "server/attend/attention_service.h"

#include <algorithm>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/status_macros.h"
#include "server/attend/attend_request.h"
#include "server/attend/describe_model.h"
#include "server/attend/refusal_message.h"
#include "server/batch/memory_need.h"
#include "server/batch/work_cost.h"
#include "server/request/check_request.h"
#include "server/wire/grpc_status.h"

namespace headlight {

grpc::ServerUnaryReactor* AttentionService::EstimateCost(grpc::CallbackServerContext* context,
                                                         const v1::EstimateCostRequest* request,
                                                         v1::EstimateCostResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(Estimate(request->request(), *response)));
  return reactor;
}

absl::Status AttentionService::Estimate(const v1::AttendRequest& request,
                                        v1::EstimateCostResponse& out) const {
  HEADLIGHT_ASSIGN_OR_RETURN(const RequestFields fields, DescribedFieldsOf(request));
  HEADLIGHT_ASSIGN_OR_RETURN(const CheckedRequest checked,
                             CheckRequest(fields, {context_.registry, context_.max_message_bytes}));
  Ticket ticket;
  ticket.arrival = context_.clock.Now();
  if (checked.timeout_us > 0) ticket.deadline = After(ticket.arrival, checked.timeout_us);
  ticket.priority = checked.priority;
  DescribeWork(checked.input, ticket);
  const headlight::Estimate estimate = context_.scheduler.EstimateTicket(ticket);
  out.set_projection_flops(ticket.cost.projection_flops);
  out.set_attention_flops(ticket.cost.attention_flops);
  out.set_memory_bytes(MemoryNeed(checked.input, context_.compute_threads));
  out.set_reply_bytes(checked.reply.payload_bytes);
  out.set_compute_us(estimate.compute_us);
  out.set_queue_us(estimate.queue_us);
  out.set_admitted(!estimate.refusal);
  if (estimate.refusal) *out.mutable_refusal() = ErrorOf(*estimate.refusal);
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* AttentionService::ListModels(grpc::CallbackServerContext* context,
                                                       const v1::ListModelsRequest*,
                                                       v1::ListModelsResponse* response) {
  std::map<std::string, std::string> errors = context_.registry.LoadErrors();
  for (const auto& model : context_.registry.List()) {
    v1::Model& described = *response->add_models();
    Describe(*model, context_.max_message_bytes, described);
    const auto error = errors.find(model->name);
    if (error == errors.end()) continue;
    described.set_load_error(error->second);
    errors.erase(error);
  }
  for (const auto& [name, error] : errors) {
    v1::Model& described = *response->add_models();
    described.set_name(name);
    described.set_load_error(error);
  }
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerUnaryReactor* AttentionService::GetModel(grpc::CallbackServerContext* context,
                                                     const v1::GetModelRequest* request,
                                                     v1::GetModelResponse* response) {
  const absl::Status status =
      request->model().empty()
          ? absl::InvalidArgumentError("model: got none, wanted a model's name")
          : DescribeNamed(request->model(), request->model_version(), *response->mutable_model());
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

absl::Status AttentionService::DescribeNamed(const std::string& name, const std::string& version,
                                             v1::Model& out) const {
  const std::map<std::string, std::string> errors = context_.registry.LoadErrors();
  const auto error = errors.find(name);
  const auto model = context_.registry.Find(name, version);
  if (!model.ok()) {
    // What cannot be loaded is described as far as it is known.
    if (!absl::IsUnavailable(model.status()) || error == errors.end()) return model.status();
    out.set_name(name);
  } else {
    Describe(**model, context_.max_message_bytes, out);
  }
  if (error != errors.end()) out.set_load_error(error->second);
  return absl::OkStatus();
}

absl::Status AttentionService::CheckModelControl(const std::string& model) const {
  if (!context_.allow_model_control) {
    return absl::PermissionDeniedError(
        "callers may not load and unload models here; the server allows it with --allow-model-control");
  }
  if (context_.loader == nullptr) {
    return absl::FailedPreconditionError(
        "the server has no --model-repository to load models from; its built-in models stay");
  }
  if (model.empty()) return absl::InvalidArgumentError("model: got none, wanted a model's name");
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* AttentionService::LoadModel(grpc::CallbackServerContext* context,
                                                      const v1::LoadModelRequest* request,
                                                      v1::LoadModelResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const absl::Status allowed = CheckModelControl(request->model());
  if (!allowed.ok()) {
    reactor->Finish(ToGrpcStatus(allowed));
    return reactor;
  }
  context_.loader->Load(request->model(), [=, this](absl::Status status) {
    if (status.ok()) status = DescribeNamed(request->model(), "", *response->mutable_model());
    reactor->Finish(ToGrpcStatus(status));
  });
  return reactor;
}

grpc::ServerUnaryReactor* AttentionService::UnloadModel(grpc::CallbackServerContext* context,
                                                        const v1::UnloadModelRequest* request,
                                                        v1::UnloadModelResponse*) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const absl::Status allowed = CheckModelControl(request->model());
  if (!allowed.ok()) {
    reactor->Finish(ToGrpcStatus(allowed));
    return reactor;
  }
  context_.loader->Unload(request->model(),
                          [reactor](absl::Status status) { reactor->Finish(ToGrpcStatus(status)); });
  return reactor;
}

}  // namespace headlight
