// SPDX-License-Identifier: Apache-2.0
#include "server/attend/attention_service.h"

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/status_macros.h"
#include "server/attend/attend_request.h"
#include "server/attend/describe_model.h"
#include "server/attend/refusal_message.h"
#include "server/batch/memory_need.h"
#include "server/batch/work_cost.h"
#include "server/request/check_request.h"

namespace headlight {

absl::Status AttentionService::EstimateCost(const Identity& who, const v1::EstimateCostRequest& request,
                                            v1::EstimateCostResponse& out) const {
  HEADLIGHT_ASSIGN_OR_RETURN(const RequestFields fields, DescribedFieldsOf(request.request()));
  HEADLIGHT_ASSIGN_OR_RETURN(const CheckedRequest checked,
                             CheckRequest(fields, {ViewOf(who), context_.max_message_bytes}));
  Ticket ticket;
  ticket.arrival = context_.clock.Now();
  if (checked.timeout_us > 0) ticket.deadline = After(ticket.arrival, checked.timeout_us);
  ticket.caller = who.caller;
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

absl::Status AttentionService::ListModels(const Identity& who, const v1::ListModelsRequest&,
                                          v1::ListModelsResponse& out) const {
  const ModelView view = ViewOf(who);
  std::map<std::string, std::string> errors = view.LoadErrors();
  for (const auto& model : view.List()) {
    v1::Model& described = *out.add_models();
    Describe(*model, context_.max_message_bytes, described);
    const auto error = errors.find(model->name);
    if (error == errors.end()) continue;
    described.set_load_error(error->second);
    errors.erase(error);
  }
  for (const auto& [name, error] : errors) {
    v1::Model& described = *out.add_models();
    described.set_name(name);
    described.set_load_error(error);
  }
  return absl::OkStatus();
}

absl::Status AttentionService::GetModel(const Identity& who, const v1::GetModelRequest& request,
                                        v1::GetModelResponse& out) const {
  if (request.model().empty()) {
    return absl::InvalidArgumentError("model: got none, wanted a model's name");
  }
  out.set_server_version(context_.version);
  return DescribeNamed(who, request.model(), request.model_version(), *out.mutable_model());
}

absl::Status AttentionService::DescribeNamed(const Identity& who, const std::string& name,
                                             const std::string& version, v1::Model& out) const {
  const ModelView view = ViewOf(who);
  const std::map<std::string, std::string> errors = view.LoadErrors();
  const auto error = errors.find(name);
  const auto model = view.Find(name, version);
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

void AttentionService::LoadModel(const Who& who, const v1::LoadModelRequest& request,
                                 const std::shared_ptr<v1::LoadModelResponse>& response, Done done) const {
  control_.Load(who, "model", request.model(),
                [this, who, model = request.model(), response, done = std::move(done)](absl::Status status) {
                  if (status.ok()) status = DescribeNamed(*who, model, "", *response->mutable_model());
                  done(status);
                });
}

void AttentionService::UnloadModel(const Who& who, const v1::UnloadModelRequest& request,
                                   const std::shared_ptr<v1::UnloadModelResponse>& /*response*/,
                                   Done done) const {
  control_.Unload(who, "model", request.model(), std::move(done));
}

}  // namespace headlight
