// SPDX-License-Identifier: Apache-2.0
//
// Tables of embeddings in the element type of their checkpoint: of all that a small model holds they are the
// most, and a request reads a few rows.
#ifndef HEADLIGHT_CORE_MODEL_EMBEDDING_TABLE_H_
#define HEADLIGHT_CORE_MODEL_EMBEDDING_TABLE_H_

#include <cstddef>
#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/model/block_parameters.h"
#include "core/tensor/buffer.h"
#include "core/tensor/dtype.h"

namespace headlight {

// A matrix, row-major. A row that is read has the bits that the whole table has when it is converted to f32.
class EmbeddingTable {
 public:
  EmbeddingTable() = default;  // no table

  // `elements` of `dtype`: kF32, kF16 or kBf16. RESOURCE_EXHAUSTED: memory is short.
  static absl::StatusOr<EmbeddingTable> Copy(DType dtype, const void* from, int64_t elements);

  // Writes elements [first, first + count) to `to`, aligned for them; an error ends the table.
  using Fill = absl::FunctionRef<absl::Status(int64_t first, int64_t count, std::byte* to)>;
  // Of what `fill` writes, a stretch after the other that a core's cache holds: what looks at it once more
  // finds it there.
  static absl::StatusOr<EmbeddingTable> Make(DType dtype, int64_t elements, Fill fill);

  DType dtype() const { return dtype_; }
  int64_t elements() const { return elements_; }
  int64_t size_bytes() const { return bytes_.size_bytes(); }

  // out = row `row` of `cols` columns; out += it, each sum rounded to f32.
  void ReadRow(int64_t row, int64_t cols, float* out) const;
  void AddRow(int64_t row, int64_t cols, float* out) const;

 private:
  const void* Row(int64_t row, int64_t cols) const { return bytes_.bytes() + row * cols * SizeOf(dtype_); }

  DType dtype_ = DType::kF32;
  int64_t elements_ = 0;
  Buffer bytes_;
};

struct EmbeddingTables {
  EmbeddingTable tokens;       // [vocab_size, dim]
  EmbeddingTable positions;    // [num_positions, dim] or none
  EmbeddingTable token_types;  // [num_token_types, dim] or none
  NormParameters norm;         // with EmbeddingConfig::norm
  // With EmbeddingConfig::projected.
  std::vector<float> projection;       // [dim, embed_dim]
  std::vector<float> projection_bias;  // [embed_dim] or empty
};

}  // namespace headlight

#endif  // HEADLIGHT_CORE_MODEL_EMBEDDING_TABLE_H_
