// SPDX-License-Identifier: Apache-2.0
#include "server/models/make_model.h"

#include <algorithm>
#include <array>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/attention/batch.h"
#include "core/base/status_macros.h"
#include "core/model/model.h"
#include "core/model/model_folder.h"
#include "core/runtime/compute_arena.h"

namespace headlight {
namespace {

constexpr int64_t kWarmUpTokens = 16;

absl::Status CheckNotCancelled(const CancellationToken& cancelled) {
  return cancelled.IsCancelled() ? absl::CancelledError("loading was abandoned") : absl::OkStatus();
}

absl::Status CheckMemory(const ModelConfig& config, int64_t held_bytes, int64_t limit_bytes) {
  const MemoryEstimate estimate = EstimateMemory(config);
  const int64_t left_bytes = std::max<int64_t>(limit_bytes - held_bytes, 0);
  if (estimate.peak_bytes <= left_bytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat("loading it takes up to ", estimate.peak_bytes, " bytes (",
                                                   estimate.packed_bytes, " once loaded), of the ",
                                                   limit_bytes, " bytes for models (--memory-limit) ",
                                                   left_bytes, " are free: other models hold ", held_bytes));
}

}  // namespace

absl::StatusOr<std::shared_ptr<const LoadedModel>> MakeModelFromFolder(const FolderModelOptions& options,
                                                                       const ModelSource& source,
                                                                       const CancellationToken& cancelled) {
  HEADLIGHT_RETURN_IF_ERROR(CheckNotCancelled(cancelled));
  const auto with_precision = [&](const ModelSummary& summary) {
    ModelConfig config = summary.config;
    config.block.attention.precision = options.precision.Of(source.name, summary.precision);
    return config;
  };
  HEADLIGHT_ASSIGN_OR_RETURN(const ModelSummary summary, InspectModelFolder(source.version.folder));
  HEADLIGHT_RETURN_IF_ERROR(
      CheckMemory(with_precision(summary), source.held_bytes, options.memory_limit_bytes));
  HEADLIGHT_RETURN_IF_ERROR(CheckNotCancelled(cancelled));
  HEADLIGHT_ASSIGN_OR_RETURN(const LoadedModelFolder folder, LoadModelFolder(source.version.folder));
  HEADLIGHT_RETURN_IF_ERROR(CheckNotCancelled(cancelled));
  HEADLIGHT_ASSIGN_OR_RETURN(auto model,
                             LoadModel(source.name, source.version.version, folder.summary.layout,
                                       with_precision(folder.summary), folder.weights, options.kernel));
  HEADLIGHT_RETURN_IF_ERROR(CheckNotCancelled(cancelled));
  HEADLIGHT_RETURN_IF_ERROR(WarmUp(model->model));
  return model;
}

absl::Status WarmUp(const Model& model) {
  const ModelConfig& config = model.config();
  const AttentionConfig& attention = config.block.attention;
  const int64_t tokens =
      config.embedding ? std::min(kWarmUpTokens, config.embedding->max_seq_len()) : kWarmUpTokens;
  const std::array<int64_t, 2> bounds = {0, tokens};
  const std::array<SequenceOptions, 1> sequences;
  const int64_t width = std::max({attention.embed_dim, attention.kdim, attention.vdim});
  const std::vector<float> input(config.embedding ? 0 : tokens * width);
  const std::vector<int32_t> ids(config.embedding ? tokens : 0);
  std::vector<float> output(tokens * attention.embed_dim);
  ModelBatch batch;
  if (config.embedding) {
    batch.token_ids = ids;
  } else {
    batch.attention.query = {input.data(), tokens, attention.embed_dim, attention.embed_dim};
    batch.attention.key = {input.data(), tokens, attention.kdim, attention.kdim};
    batch.attention.value = {input.data(), tokens, attention.vdim, attention.vdim};
  }
  batch.attention.cu_q_lens = bounds;
  batch.attention.cu_kv_lens = bounds;
  batch.attention.sequences = sequences;
  batch.attention.output = {output.data(), tokens, attention.embed_dim, attention.embed_dim};
  ComputeArena arena(1);
  const std::unique_ptr<ModelWorkspace> workspace = model.NewWorkspace(arena);
  return model.Forward(batch, arena, *workspace);
}

}  // namespace headlight
