// SPDX-License-Identifier: Apache-2.0
#include "server/models/registry.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/text.h"

namespace headlight {
namespace {

// "a, b, c" of the keys of a map.
template <typename Map>
std::string Keys(const Map& map) {
  return absl::StrJoin(map, ", ",
                       [](std::string* out, const auto& entry) { absl::StrAppend(out, entry.first); });
}

}  // namespace

absl::Status ModelRegistry::Add(std::shared_ptr<const LoadedModel> model) {
  if (model->name.empty() || model->version.empty()) {
    return absl::InvalidArgumentError("a model needs a name and a version");
  }
  const std::string name = model->name;
  const std::string version = model->version;
  const std::lock_guard lock(mutex_);
  if (!models_[name].emplace(version, std::move(model)).second) {
    return absl::AlreadyExistsError(
        absl::StrCat("model ", Quoted(name), " version ", Quoted(version), " is there"));
  }
  return absl::OkStatus();
}

void ModelRegistry::Replace(std::shared_ptr<const LoadedModel> model) {
  Versions versions;
  const std::string name = model->name;
  const std::string version = model->version;
  versions.emplace(version, std::move(model));
  {
    const std::lock_guard lock(mutex_);
    models_[name].swap(versions);
  }
  // What was swapped out is freed here, if no request has it: out of the lock that every request takes.
}

absl::Status ModelRegistry::Remove(const std::string& name, const ModelFields& fields) {
  Versions versions;
  {
    const std::lock_guard lock(mutex_);
    const bool had_error = load_errors_.erase(name) > 0;
    const auto found = models_.find(name);
    if (found == models_.end()) {
      return had_error ? absl::OkStatus() : NoModelLocked(name, ModelRights::All(), fields);
    }
    versions = std::move(found->second);
    models_.erase(found);
  }
  return absl::OkStatus();
}

void ModelRegistry::SetLoadError(const std::string& name, const std::string& error) {
  const std::lock_guard lock(mutex_);
  if (error.empty()) {
    load_errors_.erase(name);
  } else {
    load_errors_[name] = error;
  }
}

std::map<std::string, std::string> ModelRegistry::LoadErrors() const {
  const std::lock_guard lock(mutex_);
  return load_errors_;
}

absl::Status ModelRegistry::NoModel(const std::string& name, const ModelRights& rights,
                                    const ModelFields& fields) const {
  const std::lock_guard lock(mutex_);
  return NoModelLocked(name, rights, fields);
}

absl::Status ModelRegistry::NoModelLocked(const std::string& name, const ModelRights& rights,
                                          const ModelFields& fields) const {
  std::vector<std::string> names;
  for (const auto& [model, versions] : models_) {
    if (rights.MaySee(model)) names.push_back(model);
  }
  return absl::NotFoundError(absl::StrCat(fields.name, ": no model ", Quoted(name), "; there is ",
                                          names.empty() ? "none" : absl::StrJoin(names, ", ")));
}

absl::StatusOr<std::shared_ptr<const LoadedModel>> ModelRegistry::Find(const std::string& name,
                                                                       const std::string& version,
                                                                       const ModelRights& rights,
                                                                       const ModelFields& fields) const {
  const std::lock_guard lock(mutex_);
  if (!rights.MaySee(name)) return NoModelLocked(name, rights, fields);
  const auto versions = models_.find(name);
  if (versions == models_.end()) {
    const auto error = load_errors_.find(name);
    if (error == load_errors_.end()) return NoModelLocked(name, rights, fields);
    return absl::UnavailableError(
        absl::StrCat(fields.name, ": ", Quoted(name), " could not be loaded: ", error->second));
  }
  if (version.empty()) return versions->second.rbegin()->second;
  const auto model = versions->second.find(version);
  if (model == versions->second.end()) {
    return absl::NotFoundError(absl::StrCat(fields.version, ": model ", Quoted(name), " has no version ",
                                            Quoted(version), "; there is ", Keys(versions->second)));
  }
  return model->second;
}

std::vector<std::shared_ptr<const LoadedModel>> ModelRegistry::List() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<const LoadedModel>> models;
  for (const auto& [name, versions] : models_) {
    for (const auto& [version, model] : versions) models.push_back(model);
  }
  return models;
}

}  // namespace headlight
