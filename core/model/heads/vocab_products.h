// SPDX-License-Identifier: Apache-2.0
//
// Products of rows with a table of ids: the last step of language models. The table stays as it is
// held, in its own element type and often that of the embedding, and is turned into panels as they are
// needed: a second copy of it would be the largest part of a small model.
#ifndef HEADLIGHT_CORE_MODEL_HEADS_VOCAB_PRODUCTS_H_
#define HEADLIGHT_CORE_MODEL_HEADS_VOCAB_PRODUCTS_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/model/embedding_table.h"
#include "core/product/gemm.h"
#include "core/product/parameter_panels.h"
#include "core/runtime/interruption.h"
#include "core/tensor/matrix_view.h"

namespace headlight {

// logit[id] = x . table[id] + bias[id], capped if there is a cap. Immutable and thread-safe; a logit's bits
// depend on its row and id alone. The constructor and calls may throw dnnl::error and std::bad_alloc.
class VocabProducts {
 public:
  // `table` [vocab_size, width] outlives it; `bias` is empty or [vocab_size]; with a cap above 0 logits
  // become cap * tanh(logit / cap).
  VocabProducts(const EmbeddingTable& table, int64_t vocab_size, int64_t width, std::vector<float> bias,
                double cap, const GemmProvider& provider);

  int64_t vocab_size() const { return vocab_size_; }
  int64_t num_panels() const { return (vocab_size_ + kPanelCols - 1) / kPanelCols; }  // of kPanelCols ids
  int64_t packed_bytes() const { return static_cast<int64_t>(bias_.size() * sizeof(float)); }
  int64_t ScratchBytes() const;  // that a call works in

  // Logits of the ids of panels [first_panel, end_panel) for rows [n, width], which are adjacent, to out [n,
  // vocab_size]. False where the interruption, asked between products, said no.
  bool Logits(MatrixView rows, int64_t first_panel, int64_t end_panel, MutableMatrixView out,
              const Interruption& interruption) const;

  // log(1 + relu(largest logit of a sequence's rows)), without a cap, of the same ids, to weights [sequences,
  // vocab_size]: SPLADE's (Formal et al. 2021, arXiv:2109.10086). Sequence i has the rows [cu_lens[i],
  // cu_lens[i + 1]).
  bool SparseWeights(MatrixView rows, std::span<const int64_t> cu_lens, int64_t first_panel,
                     int64_t end_panel, MutableMatrixView weights, const Interruption& interruption) const;

 private:
  // Calls take(first id, ids, first row, tile [rows, kPanelCols]) for each product.
  template <typename Take>
  bool ForEachTile(MatrixView rows, int64_t first_panel, int64_t end_panel, const Interruption& interruption,
                   const Take& take) const;
  void PackPanel(int64_t panel, float* rows, float* packed) const;
  float LogitOf(float product, int64_t id) const;

  const EmbeddingTable& table_;
  const int64_t vocab_size_;
  const int64_t width_;
  const std::vector<float> bias_;
  const double cap_;
  const GemmProvider& provider_;
  std::shared_ptr<const Gemm> gemm_;
};

}  // namespace headlight

#endif  // HEADLIGHT_CORE_MODEL_HEADS_VOCAB_PRODUCTS_H_
