// SPDX-License-Identifier: Apache-2.0
//
// Writes f32 tensors as a safetensors file.
#ifndef HEADLIGHT_CORE_CHECKPOINT_SAFETENSORS_WRITER_H_
#define HEADLIGHT_CORE_CHECKPOINT_SAFETENSORS_WRITER_H_

#include <map>
#include <string>

#include "absl/status/status.h"
#include "core/tensor/shape.h"

namespace headlight {

struct TensorToWrite {
  Shape shape;
  const float* data = nullptr;  // row-major, NumElements(shape) of them
};

// Writes `tensors` to `path`: to a temporary file beside it, synced, then renamed, so that a reader sees the
// old file or the whole new one. The same tensors give the same bytes. Errors name the path and what the
// system said.
absl::Status WriteSafetensors(const std::string& path, const std::map<std::string, TensorToWrite>& tensors,
                              const std::map<std::string, std::string>& metadata = {});

}  // namespace headlight

#endif  // HEADLIGHT_CORE_CHECKPOINT_SAFETENSORS_WRITER_H_
