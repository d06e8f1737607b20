// SPDX-License-Identifier: Apache-2.0
#include "server/models/make_model.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "core/attention/batch.h"
#include "core/base/status_macros.h"
#include "core/model/model.h"
#include "core/model/model_folder.h"
#include "core/runtime/compute_arena.h"
#include "server/models/model_memory.h"

namespace headlight {
namespace {

constexpr int64_t kWarmUpTokens = 16;

absl::Status CheckNotCancelled(const CancellationToken& cancelled) {
  return cancelled.IsCancelled() ? absl::CancelledError("loading was abandoned") : absl::OkStatus();
}

void WarnIfOverruled(const PrecisionChoice& choice, const std::string& name,
                     std::optional<Precision> asked_by_config) {
  const std::optional<Precision> overruled = choice.Overruled(name, asked_by_config);
  if (!overruled) return;
  spdlog::warn(
      "model {}: its config.json asks for {}, which goes before --precision {}; --precision {}={} would go "
      "before both",
      name, Name(*asked_by_config), Name(*overruled), name, Name(*overruled));
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
  // Before anything is touched that a shutdown takes away: files may have been out of reach for long.
  HEADLIGHT_RETURN_IF_ERROR(CheckNotCancelled(cancelled));
  WarnIfOverruled(options.precision, source.name, summary.precision);
  HEADLIGHT_ASSIGN_OR_RETURN(Lease memory, ReserveForLoading(with_precision(summary), options.memory));
  HEADLIGHT_ASSIGN_OR_RETURN(const LoadedModelFolder folder, LoadModelFolder(source.version.folder));
  HEADLIGHT_RETURN_IF_ERROR(CheckNotCancelled(cancelled));
  HEADLIGHT_ASSIGN_OR_RETURN(
      auto model, PackModel(source.name, source.version.version, folder.summary.layout,
                            with_precision(folder.summary), folder.weights, options.kernel, &memory));
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
