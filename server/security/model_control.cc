// SPDX-License-Identifier: Apache-2.0
#include "server/security/model_control.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace headlight {

absl::Status CheckMayControl(const Identity& who, const Gate& gate, const std::string& what) {
  if (who.may_control_models) return absl::OkStatus();
  if (gate.tokens() != nullptr)
    return absl::PermissionDeniedError(absl::StrCat("this caller may not ", what));
  return absl::PermissionDeniedError(
      absl::StrCat("callers may not ", what, " here; the server allows it with --allow-model-control"));
}

void ModelControl::Load(const Who& who, const char* field, const std::string& model, Done done) const {
  const absl::Status allowed = Check(*who, field, model);
  if (!allowed.ok()) return done(allowed);
  loader_->Load(model, ForEyesOf(who, field, model, std::move(done)), {field});
}

void ModelControl::Unload(const Who& who, const char* field, const std::string& model, Done done) const {
  const absl::Status allowed = Check(*who, field, model);
  if (!allowed.ok()) return done(allowed);
  loader_->Unload(model, ForEyesOf(who, field, model, std::move(done)), {field});
}

absl::Status ModelControl::Check(const Identity& who, const char* field, const std::string& model) const {
  HEADLIGHT_RETURN_IF_ERROR(CheckMayControl(who, gate_, "load and unload models"));
  if (loader_ == nullptr) {
    return absl::FailedPreconditionError(
        "the server has no --model-repository to load models from; its built-in models stay");
  }
  if (model.empty())
    return absl::InvalidArgumentError(absl::StrCat(field, ": got none, wanted a model's name"));
  const ModelView view = ModelView(registry_, who.models).Naming({field});
  return view.MaySee(model) ? absl::OkStatus() : view.NoModel(model);
}

ModelControl::Done ModelControl::ForEyesOf(const Who& who, const char* field, const std::string& model,
                                           Done done) const {
  return [this, who, field, model, done = std::move(done)](const absl::Status& status) {
    const ModelView view = ModelView(registry_, who->models).Naming({field});
    done(absl::IsNotFound(status) && !view.MaySeeAll() ? view.NoModel(model) : status);
  };
}

}  // namespace headlight
