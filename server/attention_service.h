// SPDX-License-Identifier: Apache-2.0
//
// headlight.v1.AttentionService over the scheduler: a thin adapter. An RPC's own thread reads and checks the
// request, the compute threads never see gRPC, and the reply is written from a gRPC thread again.
#ifndef HEADLIGHT_SERVER_ATTENTION_SERVICE_H_
#define HEADLIGHT_SERVER_ATTENTION_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "headlight/v1/attention.grpc.pb.h"
#include "server/clock.h"
#include "server/codec.h"
#include "server/model_loader.h"
#include "server/registry.h"
#include "server/scheduler.h"

namespace headlight {

// What the service works with; all of it must outlive the service.
struct ServiceContext {
  const ModelRegistry& registry;
  Scheduler& scheduler;
  const Clock& clock;
  int64_t max_message_bytes;
  int compute_threads;
  ModelLoader* loader = nullptr;     // null without a model repository
  bool allow_model_control = false;  // whether callers may use it
};

// Attend takes and gives raw bytes, so that tensors are not copied; the other methods are typed. Thread-safe.
class AttentionService final : public v1::AttentionService::WithRawCallbackMethod_Attend<
                                   v1::AttentionService::WithCallbackMethod_ListModels<
                                       v1::AttentionService::WithCallbackMethod_GetModel<
                                           v1::AttentionService::WithCallbackMethod_LoadModel<
                                               v1::AttentionService::WithCallbackMethod_UnloadModel<
                                                   v1::AttentionService::Service>>>>> {
 public:
  explicit AttentionService(const ServiceContext& context) : context_(context) {}

  grpc::ServerUnaryReactor* Attend(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                                   grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const v1::ListModelsRequest* request,
                                       v1::ListModelsResponse* response) override;
  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context, const v1::GetModelRequest* request,
                                     v1::GetModelResponse* response) override;
  grpc::ServerUnaryReactor* LoadModel(grpc::CallbackServerContext* context,
                                      const v1::LoadModelRequest* request,
                                      v1::LoadModelResponse* response) override;
  grpc::ServerUnaryReactor* UnloadModel(grpc::CallbackServerContext* context,
                                        const v1::UnloadModelRequest* request,
                                        v1::UnloadModelResponse* response) override;

  // Waits until no Attend is under way, replies sent included; false if that takes longer than `timeout`.
  bool WaitUntilIdle(std::chrono::steady_clock::duration timeout);

  int64_t num_calls() const;  // Attend RPCs under way

 private:
  class AttendCall;

  void CallBegins();
  void CallEnds();
  void Describe(const LoadedModel& model, v1::Model& out) const;
  // The model of that name and version as the registry has it, its load error included.
  absl::Status DescribeNamed(const std::string& name, const std::string& version, v1::Model& out) const;
  absl::Status CheckModelControl(const std::string& model) const;

  const ServiceContext context_;
  std::atomic<uint64_t> next_call_id_{1};  // names requests that come without an id
  mutable std::mutex mutex_;
  std::condition_variable idle_;
  int64_t num_calls_ = 0;  // guarded by mutex_
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ATTENTION_SERVICE_H_
