// SPDX-License-Identifier: Apache-2.0
//
// The models that need no file.
#ifndef HEADLIGHT_SERVER_MODELS_BUILT_IN_MODELS_H_
#define HEADLIGHT_SERVER_MODELS_BUILT_IN_MODELS_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/attention/config.h"
#include "server/memory/memory_budget.h"
#include "server/models/loaded_model.h"

namespace headlight {

// Version "1", random weights of a fixed seed, the same everywhere. All are 768
// wide with 12 heads.
//   demo        nothing else
//   demo-gqa    4 key/value heads, RoPE with Llama 3's scaling, a window of 255 tokens before, softcap 30
//   demo-alibi  ALiBi, and the two keys that torch.nn.MultiheadAttention's add_bias_kv and add_zero_attn
//   append
std::vector<std::string> BuiltInModelNames();

// One of them in `precision`, its parameters in theirs, with a lease of `memory` if there is one.
// INVALID_ARGUMENT if there is none of that name. RESOURCE_EXHAUSTED: it does not fit. Others as PackModel.
absl::StatusOr<std::shared_ptr<const LoadedModel>> MakeBuiltInModel(const std::string& name,
                                                                    const std::string& kernel_name = "",
                                                                    Precision precision = Precision::kF32,
                                                                    MemoryBudget* memory = nullptr,
                                                                    Precision parameters = Precision::kF32);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_MODELS_BUILT_IN_MODELS_H_
