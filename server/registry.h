// SPDX-License-Identifier: Apache-2.0
//
// The models that this server holds. Knows nothing of gRPC.
#ifndef HEADLIGHT_SERVER_REGISTRY_H_
#define HEADLIGHT_SERVER_REGISTRY_H_

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/attention/multi_head_attention.h"

namespace headlight {

// Immutable. Requests share it, so that a model outlives its removal while they finish.
struct LoadedModel {
  std::string name;
  std::string version;
  MultiHeadAttention attention;
};

// Orders versions as people do: numbers by value and before all other texts, those by their letters.
struct VersionLess {
  bool operator()(const std::string& a, const std::string& b) const;
};

// Thread-safe.
class ModelRegistry {
 public:
  // ALREADY_EXISTS if there is a model of that name and version, INVALID_ARGUMENT if name or version is
  // empty.
  absl::Status Add(std::shared_ptr<const LoadedModel> model);

  // The model `name`; an empty `version` means the newest. NOT_FOUND listing what there is.
  absl::StatusOr<std::shared_ptr<const LoadedModel>> Find(const std::string& name,
                                                          const std::string& version) const;

  // By name, then version, oldest first.
  std::vector<std::shared_ptr<const LoadedModel>> List() const;

 private:
  using Versions = std::map<std::string, std::shared_ptr<const LoadedModel>, VersionLess>;

  mutable std::mutex mutex_;
  std::map<std::string, Versions> models_;  // guarded by mutex_; no entry is empty
};

// The built-in model "demo", version "1": embed_dim 768, 12 heads, random weights of a fixed seed, the same
// everywhere. `kernel_name` and errors as in MultiHeadAttention::Create.
absl::StatusOr<std::shared_ptr<const LoadedModel>> MakeDemoModel(const std::string& kernel_name);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_REGISTRY_H_
