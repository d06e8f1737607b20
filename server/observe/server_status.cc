// SPDX-License-Identifier: Apache-2.0
#include "server/observe/server_status.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/text.h"

namespace headlight {
namespace {

constexpr char kText[] = "text/plain; charset=utf-8";

bool HasModels(const ServerStatus& status) {
  return std::any_of(status.models.begin(), status.models.end(),
                     [](const ModelStatus& model) { return model.state == ModelStatus::State::kServing; });
}

}  // namespace

const char* Name(ServerPhase phase) {
  switch (phase) {
    case ServerPhase::kStarting:
      return "starting";
    case ServerPhase::kServing:
      return "serving";
    case ServerPhase::kDraining:
      return "draining";
  }
  return "";
}

const char* Name(ModelStatus::State state) {
  switch (state) {
    case ModelStatus::State::kServing:
      return "serving";
    case ModelStatus::State::kWrong:
      return "wrong";
    case ModelStatus::State::kLoading:
      return "loading";
    case ModelStatus::State::kFailed:
      return "failed";
  }
  return "";
}

bool IsReady(const ServerStatus& status) {
  return status.phase == ServerPhase::kServing && HasModels(status);
}

HttpPage LivePage() { return {200, kText, "alive\n"}; }

HttpPage ReadyPage(const ServerStatus& status) {
  std::string body = Name(status.phase);
  if (status.phase == ServerPhase::kServing && !HasModels(status)) body += ": there is no model";
  body += absl::StrFormat(", %.1f s after the start\n", status.up_s);
  for (const ModelStatus& model : status.models) {
    if (model.state == ModelStatus::State::kLoading) {
      body += absl::StrFormat("loading %s version %s for %.1f s\n", Quoted(model.name), Quoted(model.version),
                              model.loading_s);
    }
    if (!model.error.empty())
      absl::StrAppend(&body, "failed ", Quoted(model.name), ": ", absl::CHexEscape(model.error), "\n");
  }
  return {IsReady(status) ? 200 : 503, kText, std::move(body)};
}

HttpPage ModelsPage(const ServerStatus& status) {
  nlohmann::ordered_json models = nlohmann::ordered_json::array();
  for (const ModelStatus& model : status.models) {
    nlohmann::ordered_json entry = {
        {"name", model.name}, {"version", model.version}, {"state", Name(model.state)}};
    if (model.state == ModelStatus::State::kServing || model.state == ModelStatus::State::kWrong) {
      entry["precision"] = model.precision;
      entry["memory_bytes"] = model.memory_bytes;
    }
    if (model.state == ModelStatus::State::kLoading) entry["loading_s"] = model.loading_s;
    if (!model.error.empty()) entry["error"] = model.error;
    models.push_back(std::move(entry));
  }
  const nlohmann::ordered_json page = {{"state", Name(status.phase)}, {"models", std::move(models)}};
  // File systems may put any bytes into names and errors.
  return {200, "application/json",
          page.dump(2, ' ', /*ensure_ascii=*/true, nlohmann::ordered_json::error_handler_t::replace) + "\n"};
}

}  // namespace headlight
