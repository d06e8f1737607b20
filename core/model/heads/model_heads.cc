// SPDX-License-Identifier: Apache-2.0
#include "core/model/heads/model_heads.h"

#include <algorithm>
#include <utility>

#include "core/base/status_macros.h"
#include "core/product/arithmetic.h"

namespace headlight {
namespace {

// Keeps the heaviest, in the order of ids.
void CutSparse(int64_t top_k, std::vector<SparseEntry>& entries) {
  if (top_k == 0 || static_cast<int64_t>(entries.size()) <= top_k) return;
  std::nth_element(entries.begin(), entries.begin() + top_k, entries.end(),
                   [](const SparseEntry& a, const SparseEntry& b) {
                     return a.weight != b.weight ? a.weight > b.weight : a.id < b.id;
                   });
  entries.resize(top_k);
  std::sort(entries.begin(), entries.end(),
            [](const SparseEntry& a, const SparseEntry& b) { return a.id < b.id; });
}

}  // namespace

PackedHead::PackedHead(const HeadConfig& config, int64_t embed_dim, HeadTables tables,
                       const EmbeddingTable* tokens, const GemmProvider& provider)
    : config_(config),
      steps_(config.steps, embed_dim, std::move(tables.steps), provider),
      own_table_(std::move(tables.vocab)) {
  if (config.kind != HeadKind::kLanguageModel) return;
  vocab_.emplace(config.tied ? *tokens : own_table_, config.vocab_size, steps_.out_dim(),
                 std::move(tables.vocab_bias), config.logit_cap, provider);
}

int64_t PackedHead::packed_bytes() const {
  return steps_.packed_bytes() + own_table_.size_bytes() + (vocab_ ? vocab_->packed_bytes() : 0);
}

absl::StatusOr<std::unique_ptr<const ModelHeads>> ModelHeads::Create(const ModelConfig& config,
                                                                     const ParameterSource& source,
                                                                     const EmbeddingTable* tokens,
                                                                     const std::string& kernel_name) {
  absl::StatusOr<Arithmetic> arithmetic =
      ChooseArithmetic(Precision::kF32, config.LargestDepth(), kernel_name);
  // A kernel that is named for the layers' precision need not know f32.
  if (!arithmetic.ok()) arithmetic = ChooseArithmetic(Precision::kF32, config.LargestDepth());
  HEADLIGHT_RETURN_IF_ERROR(arithmetic.status());
  const GemmProvider& provider = arithmetic->provider();
  const int64_t embed_dim = config.block.attention.embed_dim;
  std::unique_ptr<ModelHeads> heads(new ModelHeads(config.heads));
  std::vector<RowStepParameters> steps;
  if (!config.pooled_steps.empty()) {
    HEADLIGHT_ASSIGN_OR_RETURN(steps, source.PooledSteps());
  }
  heads->pooled_steps_.emplace(config.pooled_steps, config.raw_pooled_dim(), std::move(steps), provider);
  for (size_t i = 0; i < config.heads.heads.size(); ++i) {
    HEADLIGHT_ASSIGN_OR_RETURN(HeadTables tables, source.Head(static_cast<int64_t>(i)));
    heads->heads_.push_back(std::make_unique<const PackedHead>(config.heads.heads[i], embed_dim,
                                                               std::move(tables), tokens, provider));
  }
  return heads;
}

int64_t ModelHeads::packed_bytes() const {
  int64_t bytes = pooled_steps_->packed_bytes();
  for (const auto& head : heads_) bytes += head->packed_bytes();
  return bytes;
}

int64_t ModelHeads::ScratchBytes() const {
  int64_t bytes = pooled_steps_->ScratchBytes();
  for (const auto& head : heads_) {
    bytes = std::max(bytes, head->steps().ScratchBytes());
    if (head->config().kind == HeadKind::kLanguageModel)
      bytes = std::max(bytes, head->vocab().ScratchBytes());
  }
  return bytes;
}

std::vector<SparseEntry> SparseOfIds(std::span<const float> weights, int64_t top_k) {
  std::vector<SparseEntry> entries;
  for (size_t id = 0; id < weights.size(); ++id) {
    if (weights[id] > 0) entries.push_back({static_cast<int32_t>(id), weights[id]});
  }
  CutSparse(top_k, entries);
  return entries;
}

std::vector<SparseEntry> SparseOfTokens(std::span<const float> weights, std::span<const int32_t> token_ids,
                                        std::span<const int32_t> silent_ids, int64_t top_k) {
  std::vector<SparseEntry> entries;
  for (size_t i = 0; i < weights.size(); ++i) {
    if (!(weights[i] > 0) || std::binary_search(silent_ids.begin(), silent_ids.end(), token_ids[i])) continue;
    entries.push_back({token_ids[i], weights[i]});
  }
  std::sort(entries.begin(), entries.end(), [](const SparseEntry& a, const SparseEntry& b) {
    return a.id != b.id ? a.id < b.id : a.weight > b.weight;
  });
  const auto same_id = [](const SparseEntry& a, const SparseEntry& b) { return a.id == b.id; };
  entries.erase(std::unique(entries.begin(), entries.end(), same_id), entries.end());
  CutSparse(top_k, entries);
  return entries;
}

}  // namespace headlight
