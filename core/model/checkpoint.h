// SPDX-License-Identifier: Apache-2.0
//
// The tensors of a model folder, wherever they lie: one safetensors file, or shards listed by an index.
#ifndef HEADLIGHT_CORE_MODEL_CHECKPOINT_H_
#define HEADLIGHT_CORE_MODEL_CHECKPOINT_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/model/safetensors.h"
#include "core/tensor/shape.h"

namespace headlight {

// Immutable. Holds its files mapped.
class Checkpoint {
 public:
  // Reads the tensor names of the folder: those of the files that `model.safetensors.index.json` lists, else
  // of `model.safetensors`, else of the only *.safetensors file. NOT_FOUND: none of them is there, or a
  // listed file is missing. INVALID_ARGUMENT: as SafetensorsFile::Open, or the index contradicts the files (a
  // tensor that is not where the index says, or in two files); the message names file and tensor. An index
  // that leaves the folder ("../x") is refused.
  static absl::StatusOr<Checkpoint> Open(const std::string& folder);

  // All tensors by name. Null if there is no such tensor.
  const std::map<std::string, SafetensorsEntry>& entries() const { return entries_; }
  const SafetensorsEntry* Find(const std::string& name) const;

  // The elements of a floating-point tensor as f32, row-major. INVALID_ARGUMENT: there is no such tensor, or
  // its dtype is not F32, F16, BF16 or F64 (F64 is rounded). RESOURCE_EXHAUSTED: memory is short.
  absl::StatusOr<std::vector<float>> ReadF32(const std::string& name) const;

  int64_t size_bytes() const;  // of all tensors

 private:
  std::vector<std::unique_ptr<const SafetensorsFile>> files_;
  std::map<std::string, SafetensorsEntry> entries_;
};

}  // namespace headlight

#endif  // HEADLIGHT_CORE_MODEL_CHECKPOINT_H_
