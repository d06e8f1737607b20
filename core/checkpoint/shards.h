// SPDX-License-Identifier: Apache-2.0
//
// The tensors of a model folder, wherever they lie: one safetensors file, or shards listed by an index.
#ifndef HEADLIGHT_CORE_CHECKPOINT_SHARDS_H_
#define HEADLIGHT_CORE_CHECKPOINT_SHARDS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/checkpoint/safetensors.h"
#include "core/tensor/shape.h"

namespace headlight {

// Immutable. Holds its files mapped.
class Shards {
 public:
  // Reads the tensor names of the folder: those of `model.safetensors`, else of the files that
  // `model.safetensors.index.json` lists, else of the only *.safetensors file. That is the order in which
  // transformers looks: its save_pretrained leaves an older index beside a newer single file. NOT_FOUND: none
  // of them is there, or a listed file is missing. INVALID_ARGUMENT: as SafetensorsFile::Open, or the index
  // contradicts the files (a tensor that is not where the index says, or in two files without the index
  // saying in which); the message names file and tensor. An index that leaves the folder ("../x") is refused.
  //
  // Names are as the model has them: what torch.compile and DataParallel put before all of them, "_orig_mod."
  // and "module.", is taken off. A tensor that safetensors' save_model left out because another is the same
  // is there, as the file's metadata tell.
  static absl::StatusOr<Shards> Open(const std::string& folder);

  // One file of a folder, whatever else lies there. Errors as SafetensorsFile::Open.
  static absl::StatusOr<Shards> OpenFile(const std::string& folder, const std::string& name);

  // All tensors by name. Null if there is no such tensor.
  const std::map<std::string, SafetensorsEntry>& entries() const { return entries_; }
  const SafetensorsEntry* Find(const std::string& name) const;

  // What was taken off all names.
  const std::string& wrapper() const { return wrapper_; }

  // As ReadF32 of the entry; messages begin with the folder. INVALID_ARGUMENT too: there is no such tensor.
  absl::StatusOr<std::vector<float>> ReadF32(const std::string& name) const;

 private:
  Shards() = default;
  absl::Status AddFile(const std::string& name);
  absl::Status AddShards(const std::string& index);
  void AddAliases();
  void TakeOffWrappers();

  std::string folder_;
  std::vector<std::unique_ptr<const SafetensorsFile>> files_;
  std::map<std::string, SafetensorsEntry> entries_;
  std::string wrapper_;
};

}  // namespace headlight

#endif  // HEADLIGHT_CORE_CHECKPOINT_SHARDS_H_
