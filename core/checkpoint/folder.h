// SPDX-License-Identifier: Apache-2.0
//
// A model on disk: a folder with config.json and *.safetensors, ours, PyTorch's or Hugging Face's.
#ifndef HEADLIGHT_CORE_CHECKPOINT_FOLDER_H_
#define HEADLIGHT_CORE_CHECKPOINT_FOLDER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/model/config.h"
#include "core/model/parameter_source.h"
#include "core/model/parameters.h"
#include "core/tensor/dtype.h"

namespace headlight {

// What is known of a folder without reading its tensors' bytes.
struct ModelSummary {
  std::string format;  // "native", "torch.nn.MultiheadAttention", "bert", ...
  ModelConfig config;  // resolved
  std::optional<Precision>
      precision;  // that config.json asks for; config.block.attention.precision follows it
  std::optional<Precision> parameters_precision;  // likewise
  int64_t num_parameters = 0;                     // of what is loaded
  DType table_dtype = DType::kF32;                // that tables of embeddings are held in, the widest of them
  std::vector<std::string> ignored_tensors;  // task heads beside the encoder and constant buffers, not loaded
  // Keys of another family's or a later version's config.json that nobody here knows. They may change what
  // the model computes elsewhere, or nothing.
  std::vector<std::string> not_understood;
  std::vector<std::string> assumed;  // what stands for absent keys of config.json: "hidden_act \"gelu\""
};

// UNIMPLEMENTED, naming the keys, where something was not understood.
absl::Status CheckUnderstood(const ModelSummary& summary);

// A folder whose tensors can be read: a source of parameters that reads each part from the mapped files when
// it is asked for. Errors begin with the folder.
class ModelFolder : public ParameterSource {
 public:
  // As InspectModelFolder.
  static absl::StatusOr<std::unique_ptr<const ModelFolder>> Open(const std::string& folder);

  virtual const ModelSummary& summary() const = 0;
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

// The same, with all parameters in plain layout: for tests and tools.
absl::StatusOr<LoadedModelFolder> LoadModelFolder(const std::string& folder);

// Writes config.json and model.safetensors in the native format, which LoadModelFolder reads back bit for
// bit. Makes the folder. Without `with_precision` config.json asks for none, which leaves it to the server.
// ALREADY_EXISTS: there is a config.json in it. UNIMPLEMENTED: layers differ, share parameters, or
// have no attention_norm, or attention is more than positions and windows.
absl::Status SaveModelFolder(const std::string& folder, const ModelConfig& config,
                             const ModelParameters& weights, bool with_precision = true);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_CHECKPOINT_FOLDER_H_
