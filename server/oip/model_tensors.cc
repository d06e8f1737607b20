// SPDX-License-Identifier: Apache-2.0
#include "server/oip/model_tensors.h"

#include <algorithm>
#include <cstdlib>
#include <initializer_list>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/oip/output_names.h"

namespace headlight {
namespace {

constexpr int64_t kAnySize = -1;
constexpr char kLogits[] = "logits";  // of whichever head a model has

DescribedTensor Rows(const std::string& name, int64_t width) {
  return {name, DType::kF32, {kAnySize, width}};
}

void DescribeIds(const ModelConfig& config, ModelTensors& tensors) {
  tensors.inputs.push_back({"input_ids", DType::kI64, {kAnySize}});
  if (config.embedding->num_token_types > 0) tensors.optional_inputs.emplace_back("token_type_ids");
  if (config.Gives(OutputKind::kTokenLogits)) tensors.optional_inputs.emplace_back("positions");
}

// Keys default to queries, and values to keys, where they are as wide.
void DescribeEmbeddings(const ModelConfig& config, ModelTensors& tensors) {
  const AttentionConfig& attention = config.block.attention;
  tensors.inputs.push_back(Rows("query", attention.embed_dim));
  if (!TakesKey(config)) return;
  const bool needs_value = attention.vdim != attention.kdim;
  const bool needs_key = needs_value || attention.kdim != attention.embed_dim;
  const auto describe = [&](const char* name, int64_t width, bool needed) {
    if (needed) {
      tensors.inputs.push_back(Rows(name, width));
    } else {
      tensors.optional_inputs.emplace_back(name);
    }
  };
  describe("key", attention.kdim, needs_key);
  describe("value", attention.vdim, needs_value);
  tensors.optional_inputs.emplace_back("kv_seq_lens");
}

void DescribeHeads(const ModelConfig& config, ModelTensors& tensors) {
  if (config.Gives(OutputKind::kPooled)) {
    tensors.outputs.push_back(
        {NameOfOutput(OutputKind::kPooled), DType::kF32, {config.OutputWidth(OutputKind::kPooled)}});
  }
  const bool gives_scores = config.Gives(OutputKind::kScores);
  if (gives_scores) {
    tensors.outputs.push_back({kLogits, DType::kF32, {config.OutputWidth(OutputKind::kScores)}});
  }
  if (config.Gives(OutputKind::kTokenScores)) {
    tensors.outputs.push_back(Rows(gives_scores ? NameOfOutput(OutputKind::kTokenScores) : kLogits,
                                   config.OutputWidth(OutputKind::kTokenScores)));
  }
  const auto other = [&](OutputKind kind, std::initializer_list<const char*> suffixes) {
    if (!config.Gives(kind)) return;
    for (const char* suffix : suffixes)
      tensors.other_outputs.push_back(absl::StrCat(NameOfOutput(kind), suffix));
  };
  other(OutputKind::kTokenLogits, {""});
  other(OutputKind::kSparse, {"", "_indices", "_lens"});
  other(OutputKind::kTokenVectors, {"", "_lens"});
}

// Bytes of one sequence of one token.
int64_t BytesOfOne(std::span<const DescribedTensor> tensors) {
  int64_t bytes = 0;
  for (const DescribedTensor& tensor : tensors) {
    int64_t elements = 1;
    for (const int64_t dim : tensor.dims) elements *= std::abs(dim);
    bytes += elements * SizeOf(tensor.dtype);
  }
  return bytes;
}

}  // namespace

ModelTensors TensorsOf(const ModelConfig& config) {
  ModelTensors tensors;
  tensors.optional_inputs = {"attention_mask", "seq_lens"};
  tensors.outputs.push_back(Rows("output", config.OutputWidth(OutputKind::kHiddenStates)));
  tensors.other_outputs = {"attention_weights",      "attention_weights_mean", "attention_topk_probs",
                           "attention_topk_indices", "head_summary",           "attention_received",
                           "attention_grid"};
  if (config.embedding) {
    DescribeIds(config, tensors);
    DescribeHeads(config, tensors);
  } else {
    DescribeEmbeddings(config, tensors);
  }
  return tensors;
}

int32_t MaxBatchSize(const ModelTensors& tensors, int64_t max_message_bytes) {
  const int64_t bytes = std::max(BytesOfOne(tensors.inputs), BytesOfOne(std::span(tensors.outputs).first(1)));
  return static_cast<int32_t>(std::clamp<int64_t>(max_message_bytes / bytes, 1, INT32_MAX));
}

}  // namespace headlight
