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
#include "core/attention/config.h"
#include "core/attention/precision_error.h"
#include "core/model/model.h"
#include "core/model/model_config.h"
#include "core/model/model_weights.h"

namespace headlight {

// Immutable. Requests share it, so that a model outlives its removal while they finish.
struct LoadedModel {
  std::string name;
  std::string version;
  std::string layout;  // what the weights were stored as: "bert", ... (ModelSummary::layout), or "built-in"
  Model model;
  PrecisionError precision_error;  // of `model` against f32
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

  // Puts `model` in the place of all versions of its name, at once: every Find gets the old or the new one.
  // Requires name and version.
  void Replace(std::shared_ptr<const LoadedModel> model);

  // Takes all versions of `name` and its load error out. NOT_FOUND listing what there is.
  absl::Status Remove(const std::string& name);

  // Keeps why the newest version of `name` could not be loaded, beside the version that serves, if any; an
  // empty `error` takes it away.
  void SetLoadError(const std::string& name, const std::string& error);

  // By name. A name that List does not have serves nothing.
  std::map<std::string, std::string> LoadErrors() const;

  // The model `name`; an empty `version` means the newest. NOT_FOUND listing what there is. UNAVAILABLE: no
  // version of it could be loaded; the message says why.
  absl::StatusOr<std::shared_ptr<const LoadedModel>> Find(const std::string& name,
                                                          const std::string& version) const;

  // By name, then version, oldest first.
  std::vector<std::shared_ptr<const LoadedModel>> List() const;

 private:
  using Versions = std::map<std::string, std::shared_ptr<const LoadedModel>, VersionLess>;

  absl::Status NoModel(const std::string& name) const;  // NOT_FOUND; requires mutex_

  mutable std::mutex mutex_;
  std::map<std::string, Versions> models_;          // guarded by mutex_; no entry is empty
  std::map<std::string, std::string> load_errors_;  // guarded by mutex_; no entry is empty
};

// Packs a model and measures its precision. `kernel_name` as in Model::Create, and so are the errors; their
// messages begin with the model's name.
absl::StatusOr<std::shared_ptr<const LoadedModel>> LoadModel(
    const std::string& name, const std::string& version, const std::string& layout, const ModelConfig& config,
    const ModelWeights& weights, const std::string& kernel_name);

// The models that need no file: version "1", random weights of a fixed seed, the same everywhere. All are 768
// wide with 12 heads.
//   demo        nothing else
//   demo-gqa    4 key/value heads, RoPE with Llama 3's scaling, a window of 255 tokens before, softcap 30
//   demo-alibi  ALiBi, and the two keys that torch.nn.MultiheadAttention's add_bias_kv and add_zero_attn
//   append
std::vector<std::string> BuiltInModelNames();

// One of them in `precision`. INVALID_ARGUMENT if there is none of that name. Others as LoadModel.
absl::StatusOr<std::shared_ptr<const LoadedModel>> MakeBuiltInModel(const std::string& name,
                                                                    const std::string& kernel_name = "",
                                                                    Precision precision = Precision::kF32);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_MODELS_REGISTRY_H_
