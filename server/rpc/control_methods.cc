// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/control_methods.h"

#include "server/attend/attend_face.h"
#include "server/oip/oip_face.h"
#include "server/rpc/control_method.h"

namespace headlight {

void AddControlMethods(const AttentionService& service, ExchangeService& server) {
  const auto add = [&](const char* name, auto method) {
    server.Add(AttendFace::kService, name, MethodOf(service, method));
  };
  add("EstimateCost", &AttentionService::EstimateCost);
  add("ListModels", &AttentionService::ListModels);
  add("GetModel", &AttentionService::GetModel);
  add("LoadModel", &AttentionService::LoadModel);
  add("UnloadModel", &AttentionService::UnloadModel);
}

void AddControlMethods(const InferenceService& service, ExchangeService& server) {
  const auto add = [&](const char* name, auto method) {
    server.Add(OipFace::kService, name, MethodOf(service, method));
  };
  add("ServerLive", &InferenceService::ServerLive);
  add("ServerReady", &InferenceService::ServerReady);
  add("ModelReady", &InferenceService::ModelReady);
  add("ServerMetadata", &InferenceService::ServerMetadata);
  add("ModelMetadata", &InferenceService::ModelMetadata);
  add("ModelConfig", &InferenceService::ModelConfig);
  add("ModelStatistics", &InferenceService::ModelStatistics);
  add("RepositoryIndex", &InferenceService::RepositoryIndex);
  add("RepositoryModelLoad", &InferenceService::RepositoryModelLoad);
  add("RepositoryModelUnload", &InferenceService::RepositoryModelUnload);
  add("SystemSharedMemoryStatus", &InferenceService::SystemSharedMemoryStatus);
  add("SystemSharedMemoryRegister", &InferenceService::SystemSharedMemoryRegister);
  add("SystemSharedMemoryUnregister", &InferenceService::SystemSharedMemoryUnregister);
  add("CudaSharedMemoryStatus", &InferenceService::NoCuda<inference::CudaSharedMemoryStatusRequest,
                                                          inference::CudaSharedMemoryStatusResponse>);
  add("CudaSharedMemoryRegister", &InferenceService::NoCuda<inference::CudaSharedMemoryRegisterRequest,
                                                            inference::CudaSharedMemoryRegisterResponse>);
  add("CudaSharedMemoryUnregister", &InferenceService::NoCuda<inference::CudaSharedMemoryUnregisterRequest,
                                                              inference::CudaSharedMemoryUnregisterResponse>);
  add("LogSettings", &InferenceService::LogSettings);
  add("TraceSetting", &InferenceService::TraceSetting);
}

}  // namespace headlight
