// SPDX-License-Identifier: Apache-2.0
//
// Small models in folders, read by the reader of one format alone.
#ifndef HEADLIGHT_TESTS_CORE_CHECKPOINT_FORMATS_FORMAT_FOLDER_H_
#define HEADLIGHT_TESTS_CORE_CHECKPOINT_FORMATS_FORMAT_FOLDER_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/status_macros.h"
#include "core/checkpoint/formats/format.h"
#include "core/checkpoint/safetensors_writer.h"
#include "core/tensor/shape.h"
#include "tests/testing/temp_folder.h"

namespace headlight::testing {

// What a reader makes of a folder.
struct ReadModel {
  ModelConfig config;  // resolved
  std::optional<Precision> precision;
  ModelParameters parameters;
  std::vector<std::string> ignored;
};

class FormatFolder {
 public:
  // A tensor whose elements, row by row, are first, first + 1, ...; of the same name replaces.
  void Add(const std::string& name, const headlight::Shape& shape, float first = 0.0f) {
    std::vector<float> numbers(NumElements(shape).value());
    for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = first + static_cast<float>(i);
    tensors_[name] = {shape, std::move(numbers)};
  }
  void Remove(const std::string& name) { tensors_.erase(name); }
  // Puts `prefix` before the names of all tensors so far.
  void Prefix(const std::string& prefix) {
    std::map<std::string, std::pair<headlight::Shape, std::vector<float>>> prefixed;
    for (auto& [name, tensor] : tensors_) prefixed[prefix + name] = std::move(tensor);
    tensors_ = std::move(prefixed);
  }

  absl::StatusOr<Shards> Checkpoint() const {
    std::map<std::string, TensorToWrite> tensors;
    for (const auto& [name, tensor] : tensors_) tensors[name] = {tensor.first, tensor.second.data()};
    HEADLIGHT_RETURN_IF_ERROR(WriteSafetensors(folder_.File("model.safetensors"), tensors));
    return Shards::Open(folder_.path());
  }

  absl::StatusOr<ConfigFields> Fields(const std::string& config) const {
    return ConfigFields::Read(folder_.Write("config.json", config));
  }

  // Errors of config, names and shapes as the format has them.
  absl::StatusOr<ReadModel> Read(FormatReader read, const std::string& config) const {
    HEADLIGHT_ASSIGN_OR_RETURN(const Shards checkpoint, Checkpoint());
    HEADLIGHT_ASSIGN_OR_RETURN(ConfigFields fields, Fields(config));
    Format format = read(fields, checkpoint);
    HEADLIGHT_RETURN_IF_ERROR(fields.status());
    format.config.heads = {};  // no plan has their tensors
    HEADLIGHT_RETURN_IF_ERROR(format.config.Validate());
    ReadModel model{.config = format.config.Resolved(), .precision = format.precision};
    model.parameters.layers.resize(model.config.num_layers);
    const TensorPlan plan = format.plan(model.config, model.parameters);
    HEADLIGHT_RETURN_IF_ERROR(CheckPlan(plan, checkpoint));
    HEADLIGHT_RETURN_IF_ERROR(LoadTensors(plan.wanted, checkpoint));
    HEADLIGHT_RETURN_IF_ERROR(model.parameters.Validate(model.config));
    model.ignored = IgnoredTensors(plan, checkpoint);
    return model;
  }

  const TempFolder& folder() const { return folder_; }

 private:
  TempFolder folder_;
  std::map<std::string, std::pair<headlight::Shape, std::vector<float>>> tensors_;
};

// Numbers first, first + 1, ...
inline std::vector<float> CountedFrom(float first, int64_t count) {
  std::vector<float> numbers(count);
  for (int64_t i = 0; i < count; ++i) numbers[i] = first + static_cast<float>(i);
  return numbers;
}

// The [in, out] matrix of a module whose weight [out, in] counts from `first`.
inline std::vector<float> TransposedFrom(float first, int64_t in, int64_t out) {
  std::vector<float> numbers(in * out);
  for (int64_t i = 0; i < in; ++i) {
    for (int64_t o = 0; o < out; ++o) numbers[i * out + o] = first + static_cast<float>(o * in + i);
  }
  return numbers;
}

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_CORE_CHECKPOINT_FORMATS_FORMAT_FOLDER_H_
