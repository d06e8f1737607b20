// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/attention_service.h"

#include <grpcpp/alarm.h>

#include <map>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/rpc/grpc_status.h"
#include "server/rpc/request_work.h"

namespace headlight {
namespace {

v1::Rope::Scaling ScalingOf(RopeConfig::Scaling scaling) {
  switch (scaling) {
    case RopeConfig::Scaling::kNone:
      return v1::Rope::SCALING_NONE;
    case RopeConfig::Scaling::kLinear:
      return v1::Rope::SCALING_LINEAR;
    case RopeConfig::Scaling::kNtk:
      return v1::Rope::SCALING_NTK;
    case RopeConfig::Scaling::kLlama3:
      return v1::Rope::SCALING_LLAMA3;
  }
  return v1::Rope::SCALING_NONE;
}

void DescribeRope(const RopeConfig& rope, v1::Rope& out) {
  out.set_theta(rope.theta);
  out.set_rotary_dim(rope.rotary_dim);
  out.set_interleaved(rope.interleaved);
  out.set_scaling(ScalingOf(rope.scaling));
  out.set_factor(rope.factor);
  out.set_low_freq_factor(rope.low_freq_factor);
  out.set_high_freq_factor(rope.high_freq_factor);
  out.set_original_max_len(rope.original_max_len);
}

// What changes a model's scores beside its weights.
void DescribeScores(const AttentionConfig& config, v1::Model& out) {
  if (config.rope) DescribeRope(*config.rope, *out.mutable_rope());
  out.set_alibi(config.alibi);
  out.set_logit_softcap(config.logit_softcap);
  if (config.window_left) out.set_window_left(*config.window_left);
  if (config.window_right) out.set_window_right(*config.window_right);
  out.set_add_bias_kv(config.add_bias_kv);
  out.set_add_zero_attn(config.add_zero_attn);
  out.set_num_appended_keys(config.num_appended_keys());
}

v1::PoolingMode ToProto(Pooling pooling) {
  switch (pooling) {
    case Pooling::kNone:
      return v1::POOLING_MODE_UNSPECIFIED;
    case Pooling::kCls:
      return v1::POOLING_MODE_CLS;
    case Pooling::kMean:
      return v1::POOLING_MODE_MEAN;
  }
  return v1::POOLING_MODE_UNSPECIFIED;
}

// What surrounds the attention layers.
void DescribeStack(const ModelConfig& config, v1::Model& out) {
  out.set_num_layers(config.num_layers);
  if (config.block.norm_placement != NormPlacement::kNone) {
    out.set_hidden_dim(config.block.feed_forward.hidden_dim);
  }
  out.set_causal(config.causal);
  out.set_takes_key(TakesKey(config));
  if (config.embedding) {
    out.set_takes_token_ids(true);
    out.set_vocab_size(config.embedding->vocab_size);
    out.set_num_token_types(config.embedding->num_token_types);
    const int64_t max_seq_len = config.embedding->max_seq_len();
    out.set_max_seq_len(max_seq_len == INT64_MAX ? 0 : max_seq_len);
  }
  out.set_pooling(ToProto(config.pooling));
  out.set_normalize_pooled(config.normalize_pooled);
}

}  // namespace

// One Attend RPC, from its arrival until gRPC is done with it: owns the request's bytes for as long as the
// task that points at them.
class AttentionService::AttendCall final : public grpc::ServerUnaryReactor {
 public:
  AttendCall(AttentionService& service, const grpc::CallbackServerContext& context,
             grpc::ByteBuffer& response)
      : service_(service),
        response_(response),
        work_(service.context_, service.next_call_id_, context.deadline(), cancelled_) {
    service_.CallBegins();
  }

  void Start(const grpc::ByteBuffer& request) {
    const absl::Status status = work_.Submit(request, [this] { Hop(); });
    if (!status.ok()) FinishWith(status);
  }

 private:
  void OnCancel() override { cancelled_->Cancel(); }

  void OnDone() override {
    AttentionService& service = service_;
    delete this;
    service.CallEnds();
  }

  // Called once by the scheduler, whose thread has batches to run: the reply is written elsewhere.
  void Hop() {
    hop_.Set(gpr_inf_past(GPR_CLOCK_MONOTONIC), [this](bool) { Reply(); });
  }

  void Reply() {
    absl::StatusOr<grpc::ByteBuffer> reply = work_.TakeReply();
    if (!reply.ok()) return FinishWith(reply.status());
    response_ = *std::move(reply);
    Finish(grpc::Status::OK);
  }

  void FinishWith(const absl::Status& status) { Finish(ToGrpcStatus(work_.Explain(status))); }

  AttentionService& service_;
  grpc::ByteBuffer& response_;
  // Shared with the task, which may look at it while gRPC is telling us that the caller is gone.
  const std::shared_ptr<CancellationToken> cancelled_ = std::make_shared<CancellationToken>();
  AttendWork work_;
  grpc::Alarm hop_;
};

grpc::ServerUnaryReactor* AttentionService::Attend(grpc::CallbackServerContext* context,
                                                   const grpc::ByteBuffer* request,
                                                   grpc::ByteBuffer* response) {
  auto* call = new AttendCall(*this, *context, *response);  // deletes itself in OnDone
  call->Start(*request);
  return call;
}

grpc::ServerUnaryReactor* AttentionService::ListModels(grpc::CallbackServerContext* context,
                                                       const v1::ListModelsRequest*,
                                                       v1::ListModelsResponse* response) {
  std::map<std::string, std::string> errors = context_.registry.LoadErrors();
  for (const auto& model : context_.registry.List()) {
    v1::Model& described = *response->add_models();
    Describe(*model, described);
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
    Describe(**model, out);
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

void AttentionService::Describe(const LoadedModel& model, v1::Model& out) const {
  const AttentionConfig& config = model.model.config().block.attention;
  const MultiHeadAttention& attention = model.model.attention();
  out.set_name(model.name);
  out.set_version(model.version);
  out.set_embed_dim(config.embed_dim);
  out.set_num_heads(config.num_heads);
  out.set_num_kv_heads(config.num_kv_heads);
  out.set_head_dim(config.head_dim);
  out.set_kdim(config.kdim);
  out.set_vdim(config.vdim);
  out.set_scale(*config.scale);
  out.set_num_parameters(model.model.num_parameters());
  out.set_precision(Name(attention.precision()));
  out.set_precision_asked(Name(config.precision));
  out.set_precision_note(attention.precision_note());
  out.mutable_precision_error()->set_max_abs(model.precision_error.max_abs);
  out.mutable_precision_error()->set_rms(model.precision_error.rms);
  out.mutable_precision_error()->set_cosine(model.precision_error.cosine);
  DescribeScores(config, out);
  DescribeStack(model.model.config(), out);
  out.set_layout(model.layout);
  out.set_kernel(attention.kernel_name());
  out.set_max_message_bytes(context_.max_message_bytes);
}

bool AttentionService::WaitUntilIdle(std::chrono::steady_clock::duration timeout) {
  std::unique_lock lock(mutex_);
  return idle_.wait_for(lock, timeout, [this] { return num_calls_ == 0; });
}

int64_t AttentionService::num_calls() const {
  const std::lock_guard lock(mutex_);
  return num_calls_;
}

void AttentionService::CallBegins() {
  const std::lock_guard lock(mutex_);
  ++num_calls_;
}

void AttentionService::CallEnds() {
  const std::lock_guard lock(mutex_);
  if (--num_calls_ == 0) idle_.notify_all();
}

}  // namespace headlight
