// SPDX-License-Identifier: Apache-2.0
#include "server/models/built_in_models.h"

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/text.h"
#include "core/checkpoint/memory_estimate.h"
#include "core/model/config.h"
#include "core/model/parameters.h"
#include "server/models/model_memory.h"

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

}  // namespace

std::vector<std::string> BuiltInModelNames() {
  std::vector<std::string> names;
  for (const BuiltInModel& model : kBuiltInModels) names.emplace_back(model.name);
  return names;
}

absl::StatusOr<std::shared_ptr<const LoadedModel>> MakeBuiltInModel(const std::string& name,
                                                                    const std::string& kernel_name,
                                                                    Precision precision, MemoryBudget* memory,
                                                                    Precision parameters) {
  for (const BuiltInModel& model : kBuiltInModels) {
    if (name != model.name) continue;
    ModelConfig config;
    config.block.attention = model.config();
    config.block.attention.precision = precision;
    config.block.attention.parameters_precision = parameters;
    config = config.Resolved();
    absl::StatusOr<Lease> lease = ReserveForLoading(EstimateMemory(config), memory);
    if (!lease.ok()) {
      return absl::Status(lease.status().code(),
                          absl::StrCat("model ", name, ": ", std::string(lease.status().message())));
    }
    const ModelParameters weights = RandomModelParameters(config, kBuiltInSeed);
    return PackModel(name, "1", "built-in", config, weights, kernel_name, &*lease);
  }
  return absl::InvalidArgumentError(absl::StrCat("there is no built-in model ", Quoted(name),
                                                 ", wanted one of ",
                                                 absl::StrJoin(BuiltInModelNames(), ", ")));
}

}  // namespace headlight
