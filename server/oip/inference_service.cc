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

namespace headlight {
namespace {

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

absl::Status InferenceService::ServerLive(const inference::ServerLiveRequest& /*request*/,
                                          inference::ServerLiveResponse& response) const {
  response.set_live(true);
  return absl::OkStatus();
}

absl::Status InferenceService::ServerReady(const inference::ServerReadyRequest& /*request*/,
                                           inference::ServerReadyResponse& response) const {
  response.set_ready(context_.serves(""));
  return absl::OkStatus();
}

absl::Status InferenceService::ModelReady(const Identity& who, const inference::ModelReadyRequest& request,
                                          inference::ModelReadyResponse& response) const {
  HEADLIGHT_RETURN_IF_ERROR(CheckName(request.name()));
  response.set_ready(ViewOf(who).Find(request.name(), request.version()).ok() && Serves(request.name()));
  return absl::OkStatus();
}

absl::Status InferenceService::ServerMetadata(const Identity& /*who*/,
                                              const inference::ServerMetadataRequest& /*request*/,
                                              inference::ServerMetadataResponse& response) const {
  DescribeServer(context_.version, context_.regions != nullptr, response);
  return absl::OkStatus();
}

absl::Status InferenceService::ModelMetadata(const Identity& who,
                                             const inference::ModelMetadataRequest& request,
                                             inference::ModelMetadataResponse& response) const {
  HEADLIGHT_RETURN_IF_ERROR(CheckName(request.name()));
  const ModelView view = ViewOf(who);
  HEADLIGHT_ASSIGN_OR_RETURN(const auto model, view.Find(request.name(), request.version()));
  DescribeMetadata(*model, response);
  for (const auto& held : view.List()) {
    if (held->name == model->name) response.add_versions(held->version);
  }
  return absl::OkStatus();
}

absl::Status InferenceService::ModelConfig(const Identity& who, const inference::ModelConfigRequest& request,
                                           inference::ModelConfigResponse& response) const {
  HEADLIGHT_RETURN_IF_ERROR(CheckName(request.name()));
  HEADLIGHT_ASSIGN_OR_RETURN(const auto model, ViewOf(who).Find(request.name(), request.version()));
  DescribeConfig(*model, context_.limits, *response.mutable_config());
  return absl::OkStatus();
}

absl::Status InferenceService::ModelStatistics(const Identity& who,
                                               const inference::ModelStatisticsRequest& request,
                                               inference::ModelStatisticsResponse& response) const {
  const ModelView view = ViewOf(who);
  if (!request.name().empty()) {
    HEADLIGHT_RETURN_IF_ERROR(view.Find(request.name(), request.version()).status());
  } else if (!request.version().empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("version: got ", Quoted(request.version()), ", wanted none without a name"));
  }
  for (const auto& model : view.List()) {
    if (!request.name().empty() && model->name != request.name()) continue;
    if (!request.version().empty() && model->version != request.version()) continue;
    DescribeStatistics(*model, context_.tallies.Of(model->name, model->version), *response.add_model_stats());
  }
  return absl::OkStatus();
}

absl::Status InferenceService::RepositoryIndex(const Identity& who,
                                               const inference::RepositoryIndexRequest& request,
                                               inference::RepositoryIndexResponse& response) const {
  HEADLIGHT_RETURN_IF_ERROR(CheckRepository(request.repository_name()));
  const auto serves = [this](const std::string& model) { return Serves(model); };
  DescribeRepository(ViewOf(who), Facts(), serves, request.ready(), response);
  return absl::OkStatus();
}

RepositoryFacts InferenceService::Facts() const {
  RepositoryFacts facts;
  if (context_.loader != nullptr) facts.on_disk = context_.loader->OnDisk();
  if (context_.loads != nullptr) facts.loading = context_.loads->loading();
  return facts;
}

void InferenceService::RepositoryModelLoad(
    const Who& who, const inference::RepositoryModelLoadRequest& request,
    const std::shared_ptr<inference::RepositoryModelLoadResponse>& /*response*/, Done done) const {
  absl::Status wrong = CheckRepository(request.repository_name());
  wrong.Update(CheckParameters(request.parameters(), /*harmless=*/nullptr));
  if (!wrong.ok()) return done(wrong);
  control_.Load(who, "model_name", request.model_name(), std::move(done));
}

void InferenceService::RepositoryModelUnload(
    const Who& who, const inference::RepositoryModelUnloadRequest& request,
    const std::shared_ptr<inference::RepositoryModelUnloadResponse>& /*response*/, Done done) const {
  absl::Status wrong = CheckRepository(request.repository_name());
  wrong.Update(CheckParameters(request.parameters(), /*harmless=*/"unload_dependents"));  // there are none
  if (!wrong.ok()) return done(wrong);
  control_.Unload(who, "model_name", request.model_name(), std::move(done));
}

absl::Status InferenceService::SystemSharedMemoryStatus(
    const Identity& who, const inference::SystemSharedMemoryStatusRequest& request,
    inference::SystemSharedMemoryStatusResponse& response) const {
  return headlight::SystemSharedMemoryStatus(context_.regions, who.tenant, request, response);
}

absl::Status InferenceService::SystemSharedMemoryRegister(
    const Identity& who, const inference::SystemSharedMemoryRegisterRequest& request,
    inference::SystemSharedMemoryRegisterResponse& /*response*/) const {
  return headlight::SystemSharedMemoryRegister(context_.regions, who.tenant, request);
}

absl::Status InferenceService::SystemSharedMemoryUnregister(
    const Identity& who, const inference::SystemSharedMemoryUnregisterRequest& request,
    inference::SystemSharedMemoryUnregisterResponse& /*response*/) const {
  return headlight::SystemSharedMemoryUnregister(context_.regions, who.tenant, request);
}

absl::Status InferenceService::LogSettings(const Identity& who, const inference::LogSettingsRequest& request,
                                           inference::LogSettingsResponse& response) const {
  if (!request.settings().empty()) {
    HEADLIGHT_RETURN_IF_ERROR(CheckMayControl(who, context_.gate, "change what is logged"));
    if (!who.models.MaySeeAll()) {
      return absl::PermissionDeniedError(
          "the log is of all models: who changes it must be given all of them");
    }
  }
  HEADLIGHT_RETURN_IF_ERROR(ChangeLog(request));
  DescribeLog(response);
  return absl::OkStatus();
}

absl::Status InferenceService::TraceSetting(const Identity& who,
                                            const inference::TraceSettingRequest& request,
                                            inference::TraceSettingResponse& response) const {
  if (!request.model_name().empty()) {
    HEADLIGHT_RETURN_IF_ERROR(ViewOf(who).Naming({"model_name"}).Find(request.model_name(), "").status());
  }
  HEADLIGHT_RETURN_IF_ERROR(ChangeTrace(request));
  DescribeTrace(context_.exports_spans, response);
  return absl::OkStatus();
}

}  // namespace headlight
