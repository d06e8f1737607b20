// SPDX-License-Identifier: Apache-2.0
//
// From token ids to the rows that the first layer sees.
#ifndef HEADLIGHT_CORE_MODEL_EMBEDDING_H_
#define HEADLIGHT_CORE_MODEL_EMBEDDING_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "core/model/config.h"
#include "core/model/embedding_table.h"
#include "core/model/row_norm.h"
#include "core/tensor/matrix_view.h"

namespace headlight {

// Tables of embeddings. Immutable and thread-safe.
class Embedding {
 public:
  // `config` is resolved, and `tables` fit it.
  Embedding(const EmbeddingConfig& config, int64_t embed_dim, double norm_eps, EmbeddingTables tables);
  Embedding(const Embedding&) = delete;  // norm_ points into tables_
  Embedding& operator=(const Embedding&) = delete;

  int64_t size_bytes() const;
  const EmbeddingTable& tokens() const { return tables_.tokens; }

  // INVALID_ARGUMENT naming the first id outside of its table, or the sequence that is longer than the
  // position table. cu_lens is valid for as many tokens as there are ids; token_types may be empty.
  absl::Status Validate(std::span<const int32_t> token_ids, std::span<const int32_t> token_types,
                        std::span<const int64_t> cu_lens) const;

  // The row of the position table at which each token stands; nothing without a table.
  void FindPositions(std::span<const int32_t> token_ids, std::span<const int64_t> cu_lens,
                     std::vector<int32_t>& positions) const;

  // Rows [first_row, first_row + out.rows) of the batch, whose lists these are.
  void Lookup(std::span<const int32_t> token_ids, std::span<const int32_t> token_types,
              std::span<const int32_t> positions, int64_t first_row, MutableMatrixView out) const;

 private:
  const EmbeddingConfig config_;
  const int64_t embed_dim_;
  EmbeddingTables tables_;
  RowNorm norm_;
};

}  // namespace headlight

#endif  // HEADLIGHT_CORE_MODEL_EMBEDDING_H_
