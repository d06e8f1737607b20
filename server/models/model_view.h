// SPDX-License-Identifier: Apache-2.0
//
// The models as one caller sees them: the only way in which services and protocols find models.
#ifndef HEADLIGHT_SERVER_MODELS_MODEL_VIEW_H_
#define HEADLIGHT_SERVER_MODELS_MODEL_VIEW_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/models/loaded_model.h"
#include "server/models/model_rights.h"
#include "server/models/registry.h"

namespace headlight {

// Cheap to copy. Registry and rights must outlive it. Thread-safe.
class ModelView {
 public:
  ModelView(const ModelRegistry& registry, const ModelRights& rights)
      : registry_(&registry), rights_(&rights) {}

  // Everything: the view of what has no callers, such as benches and fuzzers, and therefore implicit.
  ModelView(const ModelRegistry& registry)  // NOLINT(google-explicit-constructor)
      : ModelView(registry, ModelRights::All()) {}

  // The same, whose messages call the fields so.
  ModelView Naming(const ModelFields& fields) const {
    ModelView view = *this;
    view.fields_ = fields;
    return view;
  }

  // As ModelRegistry::Find, where a model that may not be seen is as one that does not exist, and errors
  // list what may be seen.
  absl::StatusOr<std::shared_ptr<const LoadedModel>> Find(const std::string& name,
                                                          const std::string& version) const;

  // As ModelRegistry::List and LoadErrors, of what may be seen.
  std::vector<std::shared_ptr<const LoadedModel>> List() const;
  std::map<std::string, std::string> LoadErrors() const;

  bool MaySee(const std::string& name) const { return rights_->MaySee(name); }
  bool MaySeeAll() const { return rights_->MaySeeAll(); }

  // NOT_FOUND as Find says it.
  absl::Status NoModel(const std::string& name) const;

 private:
  const ModelRegistry* registry_;
  const ModelRights* rights_;
  ModelFields fields_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_MODELS_MODEL_VIEW_H_
