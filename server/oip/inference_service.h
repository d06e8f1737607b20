// SPDX-License-Identifier: Apache-2.0
//
// The methods of inference.GRPCInferenceService about the server and its models, as functions from request to
// response on behalf of a caller. ModelInfer and ModelStreamInfer are OipFace's.
#ifndef HEADLIGHT_SERVER_OIP_INFERENCE_SERVICE_H_
#define HEADLIGHT_SERVER_OIP_INFERENCE_SERVICE_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "inference/grpc_service.pb.h"
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

// Thread-safe.
class InferenceService final {
 public:
  using Who = ModelControl::Who;
  using Done = ModelControl::Done;

  explicit InferenceService(InferenceServiceContext context);

  // Answered to anybody, as health of the server as a whole is: probes have no token.
  absl::Status ServerLive(const inference::ServerLiveRequest& request,
                          inference::ServerLiveResponse& response) const;
  absl::Status ServerReady(const inference::ServerReadyRequest& request,
                           inference::ServerReadyResponse& response) const;

  // Ready: requests to that version are answered. Not so where there is none, or none for the caller to see.
  absl::Status ModelReady(const Identity& who, const inference::ModelReadyRequest& request,
                          inference::ModelReadyResponse& response) const;
  absl::Status ServerMetadata(const Identity& who, const inference::ServerMetadataRequest& request,
                              inference::ServerMetadataResponse& response) const;
  absl::Status ModelMetadata(const Identity& who, const inference::ModelMetadataRequest& request,
                             inference::ModelMetadataResponse& response) const;
  absl::Status ModelConfig(const Identity& who, const inference::ModelConfigRequest& request,
                           inference::ModelConfigResponse& response) const;
  absl::Status ModelStatistics(const Identity& who, const inference::ModelStatisticsRequest& request,
                               inference::ModelStatisticsResponse& response) const;
  absl::Status RepositoryIndex(const Identity& who, const inference::RepositoryIndexRequest& request,
                               inference::RepositoryIndexResponse& response) const;

  // As ModelControl's.
  void RepositoryModelLoad(const Who& who, const inference::RepositoryModelLoadRequest& request,
                           const std::shared_ptr<inference::RepositoryModelLoadResponse>& response,
                           Done done) const;
  void RepositoryModelUnload(const Who& who, const inference::RepositoryModelUnloadRequest& request,
                             const std::shared_ptr<inference::RepositoryModelUnloadResponse>& response,
                             Done done) const;

  absl::Status SystemSharedMemoryStatus(const Identity& who,
                                        const inference::SystemSharedMemoryStatusRequest& request,
                                        inference::SystemSharedMemoryStatusResponse& response) const;
  absl::Status SystemSharedMemoryRegister(const Identity& who,
                                          const inference::SystemSharedMemoryRegisterRequest& request,
                                          inference::SystemSharedMemoryRegisterResponse& response) const;
  absl::Status SystemSharedMemoryUnregister(const Identity& who,
                                            const inference::SystemSharedMemoryUnregisterRequest& request,
                                            inference::SystemSharedMemoryUnregisterResponse& response) const;

  // CudaSharedMemoryStatus and the like: UNIMPLEMENTED.
  template <typename Request, typename Response>
  absl::Status NoCuda(const Identity& /*who*/, const Request& /*request*/, Response& /*response*/) const {
    return absl::UnimplementedError("this server computes on CPUs and has no CUDA shared memory");
  }

  // Who may control models may change what is logged.
  absl::Status LogSettings(const Identity& who, const inference::LogSettingsRequest& request,
                           inference::LogSettingsResponse& response) const;
  absl::Status TraceSetting(const Identity& who, const inference::TraceSettingRequest& request,
                            inference::TraceSettingResponse& response) const;

 private:
  ModelView ViewOf(const Identity& who) const {
    return ModelView(context_.registry, who.models).Naming({"name", "version"});
  }
  bool Serves(const std::string& model) const;
  RepositoryFacts Facts() const;

  const InferenceServiceContext context_;
  const ModelControl control_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OIP_INFERENCE_SERVICE_H_
