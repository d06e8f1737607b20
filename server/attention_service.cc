// SPDX-License-Identifier: Apache-2.0
#include "server/attention_service.h"

#include <grpcpp/alarm.h>
#include <spdlog/spdlog.h>

#include <map>
#include <memory>
#include <new>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "server/grpc_status.h"
#include "server/text.h"

namespace headlight {
namespace {

// gRPC tells deadlines by the wall clock, the scheduler by a clock that nobody sets.
TimePoint ToTimePoint(std::chrono::system_clock::time_point deadline, TimePoint now) {
  if (deadline == std::chrono::system_clock::time_point::max()) return TimePoint::max();
  const auto left = deadline - std::chrono::system_clock::now();
  return left >= TimePoint::max() - now ? TimePoint::max() : now + left;
}

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
      : service_(service), response_(response), arrival_(service.context_.clock.Now()) {
    deadline_ = ToTimePoint(context.deadline(), arrival_);
    service_.CallBegins();
  }

  void Start(const grpc::ByteBuffer& request) {
    const absl::Status status = Submit(request);
    if (!status.ok()) FinishWith(status);
  }

 private:
  void OnCancel() override { cancelled_->Cancel(); }

  void OnDone() override {
    AttentionService& service = service_;
    delete this;
    service.CallEnds();
  }

  // On an error nothing was submitted.
  absl::Status Submit(const grpc::ByteBuffer& request) {
    try {
      HEADLIGHT_ASSIGN_OR_RETURN(message_, Receive(request));
      HEADLIGHT_ASSIGN_OR_RETURN(const ParsedAttend parsed, ParseAttend(message_.segments));
      request_id_ = parsed.request.request_id();
      const CodecContext codec = {service_.context_.registry, service_.context_.max_message_bytes};
      HEADLIGHT_ASSIGN_OR_RETURN(DecodedAttend decoded, DecodeAttend(parsed, codec));
      layout_ = std::move(decoded.reply);
      AttendTask& task = decoded.task;
      task.arrival = arrival_;
      task.deadline = deadline_;
      task.cancelled = cancelled_;
      task.done = [this](absl::StatusOr<AttendResult> result) { Done(std::move(result)); };
      if (spdlog::should_log(spdlog::level::debug)) {
        spdlog::debug("attend id={} arrived: {} bytes, {} tokens", LogId(), parsed.size_bytes, task.q_tokens);
      }
      service_.context_.scheduler.Submit(std::move(task));
      return absl::OkStatus();
    } catch (const std::bad_alloc&) {
      return absl::ResourceExhaustedError("memory is short: the request's lists do not fit");
    }
  }

  // Called once by the scheduler, whose thread has batches to run: the reply is written elsewhere.
  void Done(absl::StatusOr<AttendResult> result) {
    result_ = std::move(result);
    hop_.Set(gpr_inf_past(GPR_CLOCK_MONOTONIC), [this](bool) { Reply(); });
  }

  void Reply() {
    if (!result_.ok()) return FinishWith(result_.status());
    const AttendResult& result = *result_;
    v1::TimeBudget budget;
    budget.set_queue_us(result.queue_us);
    budget.set_compute_us(result.compute_us);
    budget.set_total_us(MicrosecondsBetween(arrival_, service_.context_.clock.Now()));
    budget.set_batch_requests(result.batch_requests);
    budget.set_batch_sequences(result.batch_sequences);
    budget.set_batch_tokens(result.batch_tokens);
    budget.set_kernel(layout_.model->model.attention().kernel_name());
    budget.set_compute_threads(service_.context_.compute_threads);
    response_ = EncodeAttend(layout_, result, budget);
    result_ = absl::UnknownError("sent");  // from here on the reply alone holds the memory
    if (spdlog::should_log(spdlog::level::debug)) {
      spdlog::debug(
          "attend id={} model={} version={} verdict=OK queue_us={} compute_us={} total_us={} "
          "batch_requests={}",
          LogId(), layout_.model->name, layout_.model->version, budget.queue_us(), budget.compute_us(),
          budget.total_us(), budget.batch_requests());
    }
    Finish(grpc::Status::OK);
  }

  void FinishWith(absl::Status status) {
    const bool internal = absl::IsInternal(status);
    LogVerdict(internal ? spdlog::level::err : spdlog::level::debug, status);
    if (internal) {
      status = absl::InternalError(absl::StrCat(status.message(), " (request id ", LogId(), ")"));
    }
    Finish(ToGrpcStatus(status));
  }

  // Builds nothing when the line would not be written: refusals are what an overloaded server has most of.
  void LogVerdict(spdlog::level::level_enum level, const absl::Status& status) {
    if (!spdlog::should_log(level)) return;
    spdlog::log(level, "attend id={} verdict={} message={}", LogId(), absl::StatusCodeToString(status.code()),
                Quoted(std::string(status.message())));
  }

  // The caller's id, or one of ours. Safe to print.
  std::string LogId() {
    if (!request_id_.empty()) return Quoted(request_id_);
    if (call_id_ == 0) call_id_ = service_.next_call_id_.fetch_add(1, std::memory_order_relaxed);
    return absl::StrCat("#", call_id_);
  }

  AttentionService& service_;
  grpc::ByteBuffer& response_;
  const TimePoint arrival_;
  TimePoint deadline_;
  // Shared with the task, which may look at it while gRPC is telling us that the caller is gone.
  const std::shared_ptr<CancellationToken> cancelled_ = std::make_shared<CancellationToken>();
  ReceivedMessage message_;
  std::string request_id_;
  uint64_t call_id_ = 0;
  ReplyLayout layout_;
  absl::StatusOr<AttendResult> result_;
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
