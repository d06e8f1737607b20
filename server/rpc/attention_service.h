// SPDX-License-Identifier: Apache-2.0
//
// headlight.v1.AttentionService over the scheduler: a thin adapter. An RPC's own thread reads and checks the
// request, the compute threads never see gRPC, and the reply is written from a gRPC thread again.
#ifndef HEADLIGHT_SERVER_RPC_ATTENTION_SERVICE_H_
#define HEADLIGHT_SERVER_RPC_ATTENTION_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "headlight/v1/attention.grpc.pb.h"
#include "server/attend/codec.h"
#include "server/models/model_loader.h"
#include "server/models/registry.h"
#include "server/schedule/clock.h"
#include "server/schedule/scheduler.h"

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

// Attend and AttendStream take and give raw bytes, so that tensors are not copied; the other methods are
// typed.
using AttentionServiceBase = v1::AttentionService::WithRawCallbackMethod_Attend<
    v1::AttentionService::WithRawCallbackMethod_AttendStream<
        v1::AttentionService::WithCallbackMethod_ListModels<v1::AttentionService::WithCallbackMethod_GetModel<
            v1::AttentionService::WithCallbackMethod_LoadModel<
                v1::AttentionService::WithCallbackMethod_UnloadModel<v1::AttentionService::Service>>>>>>;

// Thread-safe.
class AttentionService final : public AttentionServiceBase {
 public:
  // Requests of one stream that are read before the first of them is answered; attention.proto tells callers.
  static constexpr int kMaxStreamRequests = 32;

  explicit AttentionService(const ServiceContext& context) : context_(context) {}

  grpc::ServerUnaryReactor* Attend(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                                   grpc::ByteBuffer* response) override;
  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* AttendStream(
      grpc::CallbackServerContext* context) override;
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

  // From now on streams read nothing more and end with UNAVAILABLE when what they have read is answered.
  void EndStreams();

  // Waits until no request is under way, replies sent included; false if that takes longer than `timeout`. A
  // stream without a request is not waited for.
  bool WaitUntilIdle(std::chrono::steady_clock::duration timeout);

  int64_t num_calls() const;  // requests under way: Attend RPCs, and those of streams

 private:
  class AttendCall;
  class StreamCall;

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
  // Guarded by mutex_, which is never taken while a stream's own is held:
  int64_t num_calls_ = 0;
  std::set<StreamCall*> streams_;
  bool ending_streams_ = false;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_ATTENTION_SERVICE_H_
