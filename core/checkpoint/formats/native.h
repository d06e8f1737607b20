// SPDX-License-Identifier: Apache-2.0
#ifndef HEADLIGHT_CORE_CHECKPOINT_FORMATS_NATIVE_H_
#define HEADLIGHT_CORE_CHECKPOINT_FORMATS_NATIVE_H_

#include <map>
#include <string>

#include "core/checkpoint/formats/format.h"
#include "core/checkpoint/safetensors_writer.h"

namespace headlight {

// The tensors of a model under the names of the native format, pointing into `weights`. `config` is resolved
// and `weights` fit it.
std::map<std::string, TensorToWrite> NativeTensors(const ModelConfig& config, const ModelParameters& weights);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_CHECKPOINT_FORMATS_NATIVE_H_
