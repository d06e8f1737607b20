// SPDX-License-Identifier: Apache-2.0
//
// A model on disk: a folder with config.json and *.safetensors, ours, PyTorch's or Hugging Face's.
#ifndef HEADLIGHT_CORE_CHECKPOINT_FOLDER_H_
#define HEADLIGHT_CORE_CHECKPOINT_FOLDER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/model/config.h"
#include "core/model/parameters.h"

namespace headlight {

// What is known of a folder without reading its tensors' bytes.
struct ModelSummary {
  std::string format;  // "native", "torch.nn.MultiheadAttention", "bert", ...
  ModelConfig config;  // resolved
  std::optional<Precision>
      precision;               // that config.json asks for; config.block.attention.precision follows it
  int64_t num_parameters = 0;  // of what is loaded
  std::vector<std::string> ignored_tensors;  // task heads beside the encoder and constant buffers, not loaded
};

struct LoadedModelFolder {
  ModelSummary summary;
  ModelParameters weights;
};

// Reads config.json and the tensors' names, shapes and dtypes, and checks them against each other. Errors
// begin with the folder; all missing, surplus and misshapen tensors stand in one message, each with what was
// expected and what was found. NOT_FOUND: no config.json or no safetensors. INVALID_ARGUMENT: anything that
// is wrong in them. UNIMPLEMENTED: a model_type or an option that is not served; the message names it and
// what is.
absl::StatusOr<ModelSummary> InspectModelFolder(const std::string& folder);

// The same, with the weights in plain layout.
absl::StatusOr<LoadedModelFolder> LoadModelFolder(const std::string& folder);

// Writes config.json and model.safetensors in the native format, which LoadModelFolder reads back bit for
// bit. Makes the folder. Without `with_precision` config.json asks for none, which leaves it to the server.
// ALREADY_EXISTS: there is a config.json in it.
absl::Status SaveModelFolder(const std::string& folder, const ModelConfig& config,
                             const ModelParameters& weights, bool with_precision = true);

// Memory in bytes that a Model of this config takes on this CPU, packed, and at most while it is being made
// from a folder. `config` is valid. A bound, a little above what is taken.
struct MemoryEstimate {
  int64_t packed_bytes = 0;
  int64_t peak_bytes = 0;
};
MemoryEstimate EstimateMemory(const ModelConfig& config);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_CHECKPOINT_FOLDER_H_
