// SPDX-License-Identifier: Apache-2.0
#include "server/models/registry.h"

#include <cstdint>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/attention/config.h"
#include "core/base/status_macros.h"
#include "core/base/text.h"

namespace headlight {
namespace {

constexpr uint64_t kBuiltInSeed = 20170612;  // the day "Attention Is All You Need" appeared

AttentionConfig DemoConfig() {
  AttentionConfig config;
  config.embed_dim = 768;
  config.num_heads = 12;
  return config;
}

AttentionConfig DemoGqaConfig() {
  AttentionConfig config = DemoConfig();
  config.num_kv_heads = 4;
  config.rope.emplace();
  config.rope->theta = 500'000.0;  // this and the rest as Llama 3.1 has them
  config.rope->scaling = RopeConfig::Scaling::kLlama3;
  config.rope->factor = 8.0;
  config.window_left = 255;
  config.logit_softcap = 30.0;
  return config;
}

AttentionConfig DemoAlibiConfig() {
  AttentionConfig config = DemoConfig();
  config.alibi = true;
  config.add_bias_kv = true;
  config.add_zero_attn = true;
  return config;
}

struct BuiltInModel {
  const char* name;
  AttentionConfig (*config)();
};

constexpr BuiltInModel kBuiltInModels[] = {
    {"demo", DemoConfig},
    {"demo-gqa", DemoGqaConfig},
    {"demo-alibi", DemoAlibiConfig},
};

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

absl::Status ModelRegistry::Remove(const std::string& name) {
  Versions versions;
  {
    const std::lock_guard lock(mutex_);
    const bool had_error = load_errors_.erase(name) > 0;
    const auto found = models_.find(name);
    if (found == models_.end()) return had_error ? absl::OkStatus() : NoModel(name);
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

absl::Status ModelRegistry::NoModel(const std::string& name) const {
  return absl::NotFoundError(absl::StrCat("model: no model ", Quoted(name), "; there is ",
                                          models_.empty() ? "none" : Keys(models_)));
}

absl::StatusOr<std::shared_ptr<const LoadedModel>> ModelRegistry::Find(const std::string& name,
                                                                       const std::string& version) const {
  const std::lock_guard lock(mutex_);
  const auto versions = models_.find(name);
  if (versions == models_.end()) {
    const auto error = load_errors_.find(name);
    if (error == load_errors_.end()) return NoModel(name);
    return absl::UnavailableError(
        absl::StrCat("model: ", Quoted(name), " could not be loaded: ", error->second));
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

absl::StatusOr<std::shared_ptr<const LoadedModel>> LoadModel(
    const std::string& name, const std::string& version, const std::string& layout, const ModelConfig& config,
    const ModelWeights& weights, const std::string& kernel_name) {
  const auto named = [&](const absl::Status& status) {
    return absl::Status(status.code(), absl::StrCat("model ", name, ": ", std::string(status.message())));
  };
  absl::StatusOr<Model> model = Model::Create(config, weights, kernel_name);
  if (!model.ok()) return named(model.status());
  const absl::StatusOr<PrecisionError> error = MeasurePrecisionError(*model, weights);
  if (!error.ok()) return named(error.status());
  return std::make_shared<const LoadedModel>(LoadedModel{name, version, layout, *std::move(model), *error});
}

std::vector<std::string> BuiltInModelNames() {
  std::vector<std::string> names;
  for (const BuiltInModel& model : kBuiltInModels) names.emplace_back(model.name);
  return names;
}

absl::StatusOr<std::shared_ptr<const LoadedModel>> MakeBuiltInModel(const std::string& name,
                                                                    const std::string& kernel_name,
                                                                    Precision precision) {
  for (const BuiltInModel& model : kBuiltInModels) {
    if (name != model.name) continue;
    ModelConfig config;
    config.block.attention = model.config();
    config.block.attention.precision = precision;
    config = config.Resolved();
    return LoadModel(name, "1", "built-in", config, RandomModelWeights(config, kBuiltInSeed), kernel_name);
  }
  return absl::InvalidArgumentError(absl::StrCat("there is no built-in model ", Quoted(name),
                                                 ", wanted one of ",
                                                 absl::StrJoin(BuiltInModelNames(), ", ")));
}

}  // namespace headlight
