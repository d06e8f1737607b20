// SPDX-License-Identifier: Apache-2.0
//
// The methods of headlight.v1.AttentionService about models and costs, as functions from request to response
// on behalf of a caller. Attend and AttendStream are AttendFace's.
#ifndef HEADLIGHT_SERVER_ATTEND_ATTENTION_SERVICE_H_
#define HEADLIGHT_SERVER_ATTEND_ATTENTION_SERVICE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "headlight/v1/attention.pb.h"
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
  std::string version;  // of the program
};

// Thread-safe.
class AttentionService final {
 public:
  using Who = ModelControl::Who;
  using Done = ModelControl::Done;

  explicit AttentionService(const AttentionServiceContext& context)
      : context_(context), control_(context.registry, context.gate, context.loader) {}

  absl::Status EstimateCost(const Identity& who, const v1::EstimateCostRequest& request,
                            v1::EstimateCostResponse& response) const;
  absl::Status ListModels(const Identity& who, const v1::ListModelsRequest& request,
                          v1::ListModelsResponse& response) const;
  absl::Status GetModel(const Identity& who, const v1::GetModelRequest& request,
                        v1::GetModelResponse& response) const;
  // These two as ModelControl's; `response` is complete when `done` is called.
  void LoadModel(const Who& who, const v1::LoadModelRequest& request,
                 const std::shared_ptr<v1::LoadModelResponse>& response, Done done) const;
  void UnloadModel(const Who& who, const v1::UnloadModelRequest& request,
                   const std::shared_ptr<v1::UnloadModelResponse>& response, Done done) const;

 private:
  ModelView ViewOf(const Identity& who) const { return {context_.registry, who.models}; }
  // The model of that name and version as the caller sees it, its load error included.
  absl::Status DescribeNamed(const Identity& who, const std::string& name, const std::string& version,
                             v1::Model& out) const;

  const AttentionServiceContext context_;
  const ModelControl control_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ATTEND_ATTENTION_SERVICE_H_
