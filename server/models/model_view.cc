// SPDX-License-Identifier: Apache-2.0
#include "server/models/model_view.h"

namespace headlight {

absl::StatusOr<std::shared_ptr<const LoadedModel>> ModelView::Find(const std::string& name,
                                                                   const std::string& version) const {
  return registry_->Find(name, version, *rights_, fields_);
}

std::vector<std::shared_ptr<const LoadedModel>> ModelView::List() const {
  std::vector<std::shared_ptr<const LoadedModel>> models = registry_->List();
  std::erase_if(models, [this](const auto& model) { return !MaySee(model->name); });
  return models;
}

std::map<std::string, std::string> ModelView::LoadErrors() const {
  std::map<std::string, std::string> errors = registry_->LoadErrors();
  std::erase_if(errors, [this](const auto& error) { return !MaySee(error.first); });
  return errors;
}

absl::Status ModelView::NoModel(const std::string& name) const {
  return registry_->NoModel(name, *rights_, fields_);
}

}  // namespace headlight
