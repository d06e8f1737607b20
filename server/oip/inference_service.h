// SPDX-License-Identifier: Apache-2.0
//
// inference.GRPCInferenceService as gRPC registers it: the methods about the server and its models.
// ModelInfer and ModelStreamInfer are declared here so that reflection lists them, and served as exchanges.
#ifndef HEADLIGHT_SERVER_OIP_INFERENCE_SERVICE_H_
#define HEADLIGHT_SERVER_OIP_INFERENCE_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "inference/grpc_service.grpc.pb.h"
#include "server/models/model_loader.h"
#include "server/models/model_view.h"
#include "server/models/registry.h"
#include "server/observe/load_watch.h"
#include "server/observe/model_tally.h"
#include "server/oip/model_config.h"
#include "server/oip/repository_index.h"
#include "server/oip/shared_memory.h"
#include "server/security/gate.h"
#include "server/security/model_control.h"

namespace headlight {

// What the service works with; all of it must outlive the service.
struct InferenceServiceContext {
  const ModelRegistry& registry;
  const Gate& gate;
  const ModelTallies& tallies;
  // Whether grpc.health.v1 says SERVING of a service: "" or "models/NAME".
  std::function<bool(const std::string& service)> serves;
  ModelConfigLimits limits;
  std::string version;                     // of the program
  bool exports_spans = false;              // to a collector
  ModelLoader* loader = nullptr;           // null without a model repository
  const LoadWatch* loads = nullptr;        // null where nothing is loaded
  SharedMemoryRegions* regions = nullptr;  // null where shared memory is not allowed
};

using InferenceServiceBase = inference::GRPCInferenceService::WithGenericMethod_ModelInfer<
    inference::GRPCInferenceService::WithGenericMethod_ModelStreamInfer<
        inference::GRPCInferenceService::CallbackService>>;

// Thread-safe.
class InferenceService final : public InferenceServiceBase {
 public:
  explicit InferenceService(InferenceServiceContext context);

  // Answered to anybody, as health of the server as a whole is: probes have no token.
  grpc::ServerUnaryReactor* ServerLive(grpc::CallbackServerContext* context,
                                       const inference::ServerLiveRequest* request,
                                       inference::ServerLiveResponse* response) override;
  grpc::ServerUnaryReactor* ServerReady(grpc::CallbackServerContext* context,
                                        const inference::ServerReadyRequest* request,
                                        inference::ServerReadyResponse* response) override;

  // Ready: requests to that version are answered. Not so where there is none, or none for the caller to see.
  grpc::ServerUnaryReactor* ModelReady(grpc::CallbackServerContext* context,
                                       const inference::ModelReadyRequest* request,
                                       inference::ModelReadyResponse* response) override;
  grpc::ServerUnaryReactor* ServerMetadata(grpc::CallbackServerContext* context,
                                           const inference::ServerMetadataRequest* request,
                                           inference::ServerMetadataResponse* response) override;
  grpc::ServerUnaryReactor* ModelMetadata(grpc::CallbackServerContext* context,
                                          const inference::ModelMetadataRequest* request,
                                          inference::ModelMetadataResponse* response) override;
  grpc::ServerUnaryReactor* ModelConfig(grpc::CallbackServerContext* context,
                                        const inference::ModelConfigRequest* request,
                                        inference::ModelConfigResponse* response) override;
  grpc::ServerUnaryReactor* ModelStatistics(grpc::CallbackServerContext* context,
                                            const inference::ModelStatisticsRequest* request,
                                            inference::ModelStatisticsResponse* response) override;
  grpc::ServerUnaryReactor* RepositoryIndex(grpc::CallbackServerContext* context,
                                            const inference::RepositoryIndexRequest* request,
                                            inference::RepositoryIndexResponse* response) override;
  grpc::ServerUnaryReactor* RepositoryModelLoad(grpc::CallbackServerContext* context,
                                                const inference::RepositoryModelLoadRequest* request,
                                                inference::RepositoryModelLoadResponse* response) override;
  grpc::ServerUnaryReactor* RepositoryModelUnload(
      grpc::CallbackServerContext* context, const inference::RepositoryModelUnloadRequest* request,
      inference::RepositoryModelUnloadResponse* response) override;
  grpc::ServerUnaryReactor* SystemSharedMemoryStatus(
      grpc::CallbackServerContext* context, const inference::SystemSharedMemoryStatusRequest* request,
      inference::SystemSharedMemoryStatusResponse* response) override;
  grpc::ServerUnaryReactor* SystemSharedMemoryRegister(
      grpc::CallbackServerContext* context, const inference::SystemSharedMemoryRegisterRequest* request,
      inference::SystemSharedMemoryRegisterResponse* response) override;
  grpc::ServerUnaryReactor* SystemSharedMemoryUnregister(
      grpc::CallbackServerContext* context, const inference::SystemSharedMemoryUnregisterRequest* request,
      inference::SystemSharedMemoryUnregisterResponse* response) override;
  grpc::ServerUnaryReactor* CudaSharedMemoryStatus(
      grpc::CallbackServerContext* context, const inference::CudaSharedMemoryStatusRequest* request,
      inference::CudaSharedMemoryStatusResponse* response) override;
  grpc::ServerUnaryReactor* CudaSharedMemoryRegister(
      grpc::CallbackServerContext* context, const inference::CudaSharedMemoryRegisterRequest* request,
      inference::CudaSharedMemoryRegisterResponse* response) override;
  grpc::ServerUnaryReactor* CudaSharedMemoryUnregister(
      grpc::CallbackServerContext* context, const inference::CudaSharedMemoryUnregisterRequest* request,
      inference::CudaSharedMemoryUnregisterResponse* response) override;

  // Who may control models may change what is logged.
  grpc::ServerUnaryReactor* LogSettings(grpc::CallbackServerContext* context,
                                        const inference::LogSettingsRequest* request,
                                        inference::LogSettingsResponse* response) override;
  grpc::ServerUnaryReactor* TraceSetting(grpc::CallbackServerContext* context,
                                         const inference::TraceSettingRequest* request,
                                         inference::TraceSettingResponse* response) override;

 private:
  using Who = std::shared_ptr<const Identity>;

  ModelView ViewOf(const Identity& who) const { return {context_.registry, who.models}; }
  bool Serves(const std::string& model) const;

  // Ends a call that has nothing to wait for with what `answer` says to whoever calls: a function of their
  // identity that returns a status. UNAUTHENTICATED: nobody who may call.
  template <typename Answer>
  grpc::ServerUnaryReactor* AnswerNow(grpc::CallbackServerContext& context, const Answer& answer) const;

  absl::Status DescribeVersions(const ModelView& view, const inference::ModelMetadataRequest& request,
                                inference::ModelMetadataResponse& out) const;
  absl::Status SumUp(const ModelView& view, const inference::ModelStatisticsRequest& request,
                     inference::ModelStatisticsResponse& out) const;
  RepositoryFacts Facts() const;

  const InferenceServiceContext context_;
  const ModelControl control_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OIP_INFERENCE_SERVICE_H_
