// SPDX-License-Identifier: Apache-2.0
//
// The models that this server holds. Knows nothing of gRPC.
#ifndef HEADLIGHT_SERVER_MODELS_REGISTRY_H_
#define HEADLIGHT_SERVER_MODELS_REGISTRY_H_

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/models/loaded_model.h"
#include "server/models/model_rights.h"
#include "server/models/version_order.h"

namespace headlight {

// What a protocol calls the fields that say which model, for messages to its callers.
struct ModelFields {
  const char* name = "model";
  const char* version = "model_version";
};

// Thread-safe.
class ModelRegistry {
 public:
  // ALREADY_EXISTS if there is a model of that name and version, INVALID_ARGUMENT if name or version is
  // empty.
  absl::Status Add(std::shared_ptr<const LoadedModel> model);

  // Puts `model` in the place of all versions of its name, at once: every Find gets the old or the new one.
  // Requires name and version.
  void Replace(std::shared_ptr<const LoadedModel> model);

  // Takes all versions of `name` and its load error out. NOT_FOUND listing what there is.
  absl::Status Remove(const std::string& name, const ModelFields& fields = {});

  // Keeps why the newest version of `name` could not be loaded, beside the version that serves, if any; an
  // empty `error` takes it away.
  void SetLoadError(const std::string& name, const std::string& error);

  // By name. A name that List does not have serves nothing.
  std::map<std::string, std::string> LoadErrors() const;

  // The model `name`; an empty `version` means the newest. NOT_FOUND listing what there is. UNAVAILABLE: no
  // version of it could be loaded; the message says why.
  // What `rights` do not allow to see is as if it were not there, and takes as long.
  absl::StatusOr<std::shared_ptr<const LoadedModel>> Find(const std::string& name, const std::string& version,
                                                          const ModelRights& rights = ModelRights::All(),
                                                          const ModelFields& fields = {}) const;

  // NOT_FOUND, listing what there is of what may be seen.
  absl::Status NoModel(const std::string& name, const ModelRights& rights,
                       const ModelFields& fields = {}) const;

  // By name, then version, oldest first.
  std::vector<std::shared_ptr<const LoadedModel>> List() const;

 private:
  using Versions = std::map<std::string, std::shared_ptr<const LoadedModel>, VersionLess>;

  // Requires mutex_.
  absl::Status NoModelLocked(const std::string& name, const ModelRights& rights,
                             const ModelFields& fields) const;

  mutable std::mutex mutex_;
  std::map<std::string, Versions> models_;          // guarded by mutex_; no entry is empty
  std::map<std::string, std::string> load_errors_;  // guarded by mutex_; no entry is empty
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_MODELS_REGISTRY_H_
