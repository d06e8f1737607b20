// SPDX-License-Identifier: Apache-2.0
#include "server/registry.h"

#include <cstdint>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/attention/config.h"
#include "core/attention/weights.h"
#include "core/base/status_macros.h"
#include "server/text.h"

namespace headlight {
namespace {

constexpr uint64_t kDemoSeed = 20170612;  // the day "Attention Is All You Need" appeared

// "a, b, c" of the keys of a map.
template <typename Map>
std::string Keys(const Map& map) {
  return absl::StrJoin(map, ", ",
                       [](std::string* out, const auto& entry) { absl::StrAppend(out, entry.first); });
}

}  // namespace

bool VersionLess::operator()(const std::string& a, const std::string& b) const {
  uint64_t number_a = 0;
  uint64_t number_b = 0;
  const bool a_is_number = absl::SimpleAtoi(a, &number_a);
  const bool b_is_number = absl::SimpleAtoi(b, &number_b);
  if (a_is_number != b_is_number) return a_is_number;
  if (a_is_number && number_a != number_b) return number_a < number_b;
  return a < b;
}

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

absl::StatusOr<std::shared_ptr<const LoadedModel>> ModelRegistry::Find(const std::string& name,
                                                                       const std::string& version) const {
  const std::lock_guard lock(mutex_);
  const auto versions = models_.find(name);
  if (versions == models_.end()) {
    return absl::NotFoundError(absl::StrCat("model: no model ", Quoted(name), "; there is ",
                                            models_.empty() ? "none" : Keys(models_)));
  }
  if (version.empty()) return versions->second.rbegin()->second;
  const auto model = versions->second.find(version);
  if (model == versions->second.end()) {
    return absl::NotFoundError(absl::StrCat("model_version: model ", Quoted(name), " has no version ",
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

absl::StatusOr<std::shared_ptr<const LoadedModel>> MakeDemoModel(const std::string& kernel_name) {
  AttentionConfig config;
  config.embed_dim = 768;
  config.num_heads = 12;
  config = config.Resolved();
  HEADLIGHT_ASSIGN_OR_RETURN(
      MultiHeadAttention attention,
      MultiHeadAttention::Create(config, RandomWeights(config, kDemoSeed), kernel_name));
  return std::make_shared<const LoadedModel>(LoadedModel{"demo", "1", std::move(attention)});
}

}  // namespace headlight
