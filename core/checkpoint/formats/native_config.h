// SPDX-License-Identifier: Apache-2.0
//
// The keys of our own config.json, which docs/models.md describes.
#ifndef HEADLIGHT_CORE_CHECKPOINT_FORMATS_NATIVE_CONFIG_H_
#define HEADLIGHT_CORE_CHECKPOINT_FORMATS_NATIVE_CONFIG_H_

#include <optional>
#include <string>

#include "core/checkpoint/config_fields.h"
#include "core/model/config.h"

namespace headlight {

// Keys of a layer that tensors do not tell, for every format: num_heads, scale, rope, windows and so on.
void ReadAttentionOptions(ConfigFields& fields, AttentionConfig& attention);

// "pooling" and "normalize_pooled"; what `config` says stands where a key is absent.
void ReadPoolingOptions(ConfigFields& fields, ModelConfig& config);

// Keys of a whole model that tensors do not tell: causal and those of pooling.
void ReadModelOptions(ConfigFields& fields, ModelConfig& config);

// A key that may be absent: "precision", or "parameters_precision".
std::optional<Precision> ReadPrecision(ConfigFields& fields, const std::string& key = "precision");

// "layer_norm", which it is where the key is absent, or "rms_norm".
NormKind ReadNormKind(ConfigFields& fields, const std::string& key);

// "activation": relu, gelu (erf), gelu_tanh or silu.
Activation ReadActivation(ConfigFields& fields, Activation fallback);

// All keys of the native format.
ModelConfig ReadNativeConfig(ConfigFields& fields);
// The text of config.json that ReadNativeConfig reads back as `config` (resolved), whose layers are alike and
// have all norms: there are no keys for more. Without its precision where that is left to whoever serves it.
std::string NativeConfigText(const ModelConfig& config, bool with_precision);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_CHECKPOINT_FORMATS_NATIVE_CONFIG_H_
