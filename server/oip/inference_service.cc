// SPDX-License-Identifier: Apache-2.0
#include "server/oip/inference_service.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/text.h"
#include "server/oip/model_metadata.h"
#include "server/oip/model_statistics.h"
#include "server/oip/server_metadata.h"
#include "server/oip/server_settings.h"
#include "server/oip/shared_memory_rpcs.h"
#include "server/wire/grpc_status.h"

namespace headlight {
namespace {

absl::Status NoCuda() {
  return absl::UnimplementedError("this server computes on CPUs and has no CUDA shared memory");
}

absl::Status CheckName(const std::string& name) {
  return name.empty() ? absl::InvalidArgumentError("name: got none, wanted a model's name")
                      : absl::OkStatus();
}

absl::Status CheckRepository(const std::string& name) {
  if (name.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("repository_name: got ", Quoted(name), ", wanted none: there is one repository"));
}

using RepositoryParameters = google::protobuf::Map<std::string, inference::ModelRepositoryParameter>;

// Of all that a client may say beside a model's name, only what changes nothing here.
absl::Status CheckParameters(const RepositoryParameters& parameters, const char* harmless) {
  for (const auto& [name, value] : parameters) {
    if (harmless != nullptr && name == harmless) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "parameters: got ", Quoted(name), ", wanted none: a model is what its files in the repository say"));
  }
  return absl::OkStatus();
}

}  // namespace

InferenceService::InferenceService(InferenceServiceContext context)
    : context_(std::move(context)), control_(context_.registry, context_.gate, context_.loader) {}

bool InferenceService::Serves(const std::string& model) const {
  return context_.serves(absl::StrCat("models/", model));
}

template <typename Answer>
grpc::ServerUnaryReactor* InferenceService::AnswerNow(grpc::CallbackServerContext& context,
                                                      const Answer& answer) const {
  const absl::StatusOr<Who> who = context_.gate.Admit(context.client_metadata());
  grpc::ServerUnaryReactor* reactor = context.DefaultReactor();
  reactor->Finish(ToGrpcStatus(who.ok() ? answer(**who) : who.status()));
  return reactor;
}

grpc::ServerUnaryReactor* InferenceService::ServerLive(grpc::CallbackServerContext* context,
                                                       const inference::ServerLiveRequest*,
                                                       inference::ServerLiveResponse* response) {
  response->set_live(true);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerUnaryReactor* InferenceService::ServerReady(grpc::CallbackServerContext* context,
                                                        const inference::ServerReadyRequest*,
                                                        inference::ServerReadyResponse* response) {
  response->set_ready(context_.serves(""));
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerUnaryReactor* InferenceService::ModelReady(grpc::CallbackServerContext* context,
                                                       const inference::ModelReadyRequest* request,
                                                       inference::ModelReadyResponse* response) {
  return AnswerNow(*context, [&](const Identity& who) -> absl::Status {
    HEADLIGHT_RETURN_IF_ERROR(CheckName(request->name()));
    response->set_ready(ViewOf(who).Find(request->name(), request->version()).ok() &&
                        Serves(request->name()));
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* InferenceService::ServerMetadata(grpc::CallbackServerContext* context,
                                                           const inference::ServerMetadataRequest*,
                                                           inference::ServerMetadataResponse* response) {
  return AnswerNow(*context, [&](const Identity&) {
    DescribeServer(context_.version, context_.regions != nullptr, *response);
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* InferenceService::ModelMetadata(grpc::CallbackServerContext* context,
                                                          const inference::ModelMetadataRequest* request,
                                                          inference::ModelMetadataResponse* response) {
  return AnswerNow(*context,
                   [&](const Identity& who) { return DescribeVersions(ViewOf(who), *request, *response); });
}

absl::Status InferenceService::DescribeVersions(const ModelView& view,
                                                const inference::ModelMetadataRequest& request,
                                                inference::ModelMetadataResponse& out) const {
  HEADLIGHT_RETURN_IF_ERROR(CheckName(request.name()));
  HEADLIGHT_ASSIGN_OR_RETURN(const auto model, view.Find(request.name(), request.version()));
  DescribeMetadata(*model, out);
  for (const auto& held : view.List()) {
    if (held->name == model->name) out.add_versions(held->version);
  }
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* InferenceService::ModelConfig(grpc::CallbackServerContext* context,
                                                        const inference::ModelConfigRequest* request,
                                                        inference::ModelConfigResponse* response) {
  return AnswerNow(*context, [&](const Identity& who) -> absl::Status {
    HEADLIGHT_RETURN_IF_ERROR(CheckName(request->name()));
    HEADLIGHT_ASSIGN_OR_RETURN(const auto model, ViewOf(who).Find(request->name(), request->version()));
    DescribeConfig(*model, context_.limits, *response->mutable_config());
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* InferenceService::ModelStatistics(grpc::CallbackServerContext* context,
                                                            const inference::ModelStatisticsRequest* request,
                                                            inference::ModelStatisticsResponse* response) {
  return AnswerNow(*context, [&](const Identity& who) { return SumUp(ViewOf(who), *request, *response); });
}

absl::Status InferenceService::SumUp(const ModelView& view, const inference::ModelStatisticsRequest& request,
                                     inference::ModelStatisticsResponse& out) const {
  if (!request.name().empty()) {
    HEADLIGHT_RETURN_IF_ERROR(view.Find(request.name(), request.version()).status());
  } else if (!request.version().empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("version: got ", Quoted(request.version()), ", wanted none without a name"));
  }
  for (const auto& model : view.List()) {
    if (!request.name().empty() && model->name != request.name()) continue;
    if (!request.version().empty() && model->version != request.version()) continue;
    DescribeStatistics(*model, context_.tallies.Of(model->name, model->version), *out.add_model_stats());
  }
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* InferenceService::RepositoryIndex(grpc::CallbackServerContext* context,
                                                            const inference::RepositoryIndexRequest* request,
                                                            inference::RepositoryIndexResponse* response) {
  return AnswerNow(*context, [&](const Identity& who) -> absl::Status {
    HEADLIGHT_RETURN_IF_ERROR(CheckRepository(request->repository_name()));
    const auto serves = [this](const std::string& model) { return Serves(model); };
    DescribeRepository(ViewOf(who), Facts(), serves, request->ready(), *response);
    return absl::OkStatus();
  });
}

RepositoryFacts InferenceService::Facts() const {
  RepositoryFacts facts;
  if (context_.loader != nullptr) facts.on_disk = context_.loader->OnDisk();
  if (context_.loads != nullptr) facts.loading = context_.loads->loading();
  return facts;
}

grpc::ServerUnaryReactor* InferenceService::RepositoryModelLoad(
    grpc::CallbackServerContext* context, const inference::RepositoryModelLoadRequest* request,
    inference::RepositoryModelLoadResponse*) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const auto done = [reactor](const absl::Status& status) { reactor->Finish(ToGrpcStatus(status)); };
  const absl::StatusOr<Who> who = context_.gate.Admit(context->client_metadata());
  absl::Status wrong = who.status();
  wrong.Update(CheckRepository(request->repository_name()));
  wrong.Update(CheckParameters(request->parameters(), /*harmless=*/nullptr));
  if (wrong.ok()) {
    control_.Load(*who, "model_name", request->model_name(), done);
  } else {
    done(wrong);
  }
  return reactor;
}

grpc::ServerUnaryReactor* InferenceService::RepositoryModelUnload(
    grpc::CallbackServerContext* context, const inference::RepositoryModelUnloadRequest* request,
    inference::RepositoryModelUnloadResponse*) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const auto done = [reactor](const absl::Status& status) { reactor->Finish(ToGrpcStatus(status)); };
  const absl::StatusOr<Who> who = context_.gate.Admit(context->client_metadata());
  absl::Status wrong = who.status();
  wrong.Update(CheckRepository(request->repository_name()));
  wrong.Update(CheckParameters(request->parameters(), /*harmless=*/"unload_dependents"));  // there are none
  if (wrong.ok()) {
    control_.Unload(*who, "model_name", request->model_name(), done);
  } else {
    done(wrong);
  }
  return reactor;
}

grpc::ServerUnaryReactor* InferenceService::SystemSharedMemoryStatus(
    grpc::CallbackServerContext* context, const inference::SystemSharedMemoryStatusRequest* request,
    inference::SystemSharedMemoryStatusResponse* response) {
  return AnswerNow(*context, [&](const Identity& who) {
    return headlight::SystemSharedMemoryStatus(context_.regions, who.tenant, *request, *response);
  });
}

grpc::ServerUnaryReactor* InferenceService::SystemSharedMemoryRegister(
    grpc::CallbackServerContext* context, const inference::SystemSharedMemoryRegisterRequest* request,
    inference::SystemSharedMemoryRegisterResponse*) {
  return AnswerNow(*context, [&](const Identity& who) {
    return headlight::SystemSharedMemoryRegister(context_.regions, who.tenant, *request);
  });
}

grpc::ServerUnaryReactor* InferenceService::SystemSharedMemoryUnregister(
    grpc::CallbackServerContext* context, const inference::SystemSharedMemoryUnregisterRequest* request,
    inference::SystemSharedMemoryUnregisterResponse*) {
  return AnswerNow(*context, [&](const Identity& who) {
    return headlight::SystemSharedMemoryUnregister(context_.regions, who.tenant, *request);
  });
}

grpc::ServerUnaryReactor* InferenceService::CudaSharedMemoryStatus(
    grpc::CallbackServerContext* context, const inference::CudaSharedMemoryStatusRequest*,
    inference::CudaSharedMemoryStatusResponse*) {
  return AnswerNow(*context, [](const Identity&) { return NoCuda(); });
}

grpc::ServerUnaryReactor* InferenceService::CudaSharedMemoryRegister(
    grpc::CallbackServerContext* context, const inference::CudaSharedMemoryRegisterRequest*,
    inference::CudaSharedMemoryRegisterResponse*) {
  return AnswerNow(*context, [](const Identity&) { return NoCuda(); });
}

grpc::ServerUnaryReactor* InferenceService::CudaSharedMemoryUnregister(
    grpc::CallbackServerContext* context, const inference::CudaSharedMemoryUnregisterRequest*,
    inference::CudaSharedMemoryUnregisterResponse*) {
  return AnswerNow(*context, [](const Identity&) { return NoCuda(); });
}

grpc::ServerUnaryReactor* InferenceService::LogSettings(grpc::CallbackServerContext* context,
                                                        const inference::LogSettingsRequest* request,
                                                        inference::LogSettingsResponse* response) {
  return AnswerNow(*context, [&](const Identity& who) -> absl::Status {
    if (!request->settings().empty()) {
      HEADLIGHT_RETURN_IF_ERROR(CheckMayControl(who, context_.gate, "change what is logged"));
      if (!who.models.MaySeeAll()) {
        return absl::PermissionDeniedError(
            "the log is of all models: who changes it must be given all of them");
      }
    }
    HEADLIGHT_RETURN_IF_ERROR(ChangeLog(*request));
    DescribeLog(*response);
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* InferenceService::TraceSetting(grpc::CallbackServerContext* context,
                                                         const inference::TraceSettingRequest* request,
                                                         inference::TraceSettingResponse* response) {
  return AnswerNow(*context, [&](const Identity& who) -> absl::Status {
    if (!request->model_name().empty()) {
      HEADLIGHT_RETURN_IF_ERROR(ViewOf(who).Find(request->model_name(), "").status());
    }
    HEADLIGHT_RETURN_IF_ERROR(ChangeTrace(*request));
    DescribeTrace(context_.exports_spans, *response);
    return absl::OkStatus();
  });
}

}  // namespace headlight
