// SPDX-License-Identifier: Apache-2.0
//
// A model's heads ready to run, and what its pooled vectors pass through. They compute in f32, whatever the
// precision of its layers: what they read is rounded as it is, and they are a small part of the work.
#ifndef HEADLIGHT_CORE_MODEL_HEADS_MODEL_HEADS_H_
#define HEADLIGHT_CORE_MODEL_HEADS_MODEL_HEADS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/model/config.h"
#include "core/model/heads/row_steps.h"
#include "core/model/heads/vocab_products.h"
#include "core/model/parameter_source.h"

namespace headlight {

class PackedHead {
 public:
  // `tokens` is the embedding's table, used where the head is tied to it, and outlives this.
  PackedHead(const HeadConfig& config, int64_t embed_dim, HeadTables tables, const EmbeddingTable* tokens,
             const GemmProvider& provider);
  PackedHead(const PackedHead&) = delete;  // the products point into it
  PackedHead& operator=(const PackedHead&) = delete;

  const HeadConfig& config() const { return config_; }
  const PackedRowSteps& steps() const { return steps_; }
  const VocabProducts& vocab() const { return *vocab_; }  // of kLanguageModel
  int64_t packed_bytes() const;

 private:
  const HeadConfig config_;
  const PackedRowSteps steps_;
  const EmbeddingTable own_table_;
  std::optional<VocabProducts> vocab_;
};

// Immutable and thread-safe.
class ModelHeads {
 public:
  // Reads the parameters of `config`, which is resolved and valid for `source`. `tokens` as of PackedHead.
  // Products are those of `kernel_name` if it computes in f32. Errors as the source has them; may throw as
  // its parts.
  static absl::StatusOr<std::unique_ptr<const ModelHeads>> Create(const ModelConfig& config,
                                                                  const ParameterSource& source,
                                                                  const EmbeddingTable* tokens,
                                                                  const std::string& kernel_name);

  const PackedRowSteps& pooled_steps() const { return *pooled_steps_; }
  // What gives `kind`, which HeadsConfig::Find has.
  const PackedHead& For(OutputKind kind) const { return *heads_[config_.PlaceOf(kind)]; }
  int64_t packed_bytes() const;
  // Of one thread, while it works on any of them.
  int64_t ScratchBytes() const;

 private:
  explicit ModelHeads(HeadsConfig config) : config_(std::move(config)) {}

  const HeadsConfig config_;
  std::optional<PackedRowSteps> pooled_steps_;
  std::vector<std::unique_ptr<const PackedHead>> heads_;
};

// One id of a sparse vector.
struct SparseEntry {
  int32_t id = 0;
  float weight = 0.0f;

  bool operator==(const SparseEntry&) const = default;
};

// The ids of weight above 0, ascending; of more than `top_k` (unless that is 0) the heaviest, equal ones in
// the order of their ids.
// Of a weight for each id:
std::vector<SparseEntry> SparseOfIds(std::span<const float> weights, int64_t top_k);
// Of a weight for each token, of which an id's largest counts and those in `silent_ids`, ascending, do not:
std::vector<SparseEntry> SparseOfTokens(std::span<const float> weights, std::span<const int32_t> token_ids,
                                        std::span<const int32_t> silent_ids, int64_t top_k);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_MODEL_HEADS_MODEL_HEADS_H_
