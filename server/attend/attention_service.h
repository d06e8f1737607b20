// SPDX-License-Identifier: Apache-2.0
//
// headlight.v1.AttentionService as gRPC registers it: the methods about models and costs. Attend and
// AttendStream are declared here so that reflection lists them, and served as exchanges (AttendFace).
#ifndef HEADLIGHT_SERVER_ATTEND_ATTENTION_SERVICE_H_
#define HEADLIGHT_SERVER_ATTEND_ATTENTION_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "headlight/v1/attention.grpc.pb.h"
#include "server/models/model_loader.h"
#include "server/models/model_view.h"
#include "server/models/registry.h"
#include "server/schedule/clock.h"
#include "server/schedule/scheduler.h"
#include "server/security/gate.h"
#include "server/security/model_control.h"

namespace headlight {

// What the service works with; all of it must outlive the service.
struct AttentionServiceContext {
  const ModelRegistry& registry;
  const Gate& gate;
  const Scheduler& scheduler;
  const Clock& clock;
  int64_t max_message_bytes;
  ModelLoader* loader = nullptr;  // null without a model repository
  int compute_threads = 1;
};

using AttentionServiceBase =
    v1::AttentionService::WithGenericMethod_Attend<v1::AttentionService::WithGenericMethod_AttendStream<
        v1::AttentionService::WithCallbackMethod_EstimateCost<
            v1::AttentionService::WithCallbackMethod_ListModels<
                v1::AttentionService::WithCallbackMethod_GetModel<
                    v1::AttentionService::WithCallbackMethod_LoadModel<
                        v1::AttentionService::WithCallbackMethod_UnloadModel<
                            v1::AttentionService::Service>>>>>>>;

// Thread-safe.
class AttentionService final : public AttentionServiceBase {
 public:
  explicit AttentionService(const AttentionServiceContext& context)
      : context_(context), control_(context.registry, context.gate, context.loader) {}

  grpc::ServerUnaryReactor* EstimateCost(grpc::CallbackServerContext* context,
                                         const v1::EstimateCostRequest* request,
                                         v1::EstimateCostResponse* response) override;
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

 private:
  using Who = std::shared_ptr<const Identity>;

  // UNAUTHENTICATED: nobody who may call.
  absl::StatusOr<Who> Admit(const grpc::CallbackServerContext& context) const;
  ModelView ViewOf(const Identity& who) const { return {context_.registry, who.models}; }
  absl::Status Estimate(const Identity& who, const v1::AttendRequest& request,
                        v1::EstimateCostResponse& out) const;
  void List(const Identity& who, v1::ListModelsResponse& out) const;
  // The model of that name and version as the caller sees it, its load error included.
  absl::Status DescribeNamed(const Identity& who, const std::string& name, const std::string& version,
                             v1::Model& out) const;

  const AttentionServiceContext context_;
  const ModelControl control_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ATTEND_ATTENTION_SERVICE_H_
