// SPDX-License-Identifier: Apache-2.0
#include "core/model/embedding_table.h"

#include <algorithm>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/model/row_norm.h"
#include "core/tensor/convert.h"

namespace headlight {

absl::StatusOr<EmbeddingTable> EmbeddingTable::Copy(DType dtype, const void* from, int64_t elements) {
  const auto* const bytes = static_cast<const std::byte*>(from);
  return Make(dtype, elements, [&](int64_t first, int64_t count, std::byte* to) {
    std::memcpy(to, bytes + first * SizeOf(dtype), count * SizeOf(dtype));
    return absl::OkStatus();
  });
}

absl::StatusOr<EmbeddingTable> EmbeddingTable::Make(DType dtype, int64_t elements, Fill fill) {
  constexpr int64_t kElementsAtOnce = int64_t{1} << 16;
  EmbeddingTable table;
  if (elements == 0) return table;
  const int64_t bytes = elements * SizeOf(dtype);
  table.dtype_ = dtype;
  table.elements_ = elements;
  table.bytes_ = Buffer::Allocate(bytes);
  if (!table.bytes_.ok()) {
    return absl::ResourceExhaustedError(absl::StrCat("no memory for a table of ", bytes, " bytes"));
  }
  for (int64_t first = 0; first < elements; first += kElementsAtOnce) {
    const int64_t count = std::min(kElementsAtOnce, elements - first);
    HEADLIGHT_RETURN_IF_ERROR(fill(first, count, table.bytes_.bytes() + first * SizeOf(dtype)));
  }
  return table;
}

void EmbeddingTable::ReadRow(int64_t row, int64_t cols, float* out) const {
  ConvertToF32(dtype_, Row(row, cols), cols, out);
}

void EmbeddingTable::AddRow(int64_t row, int64_t cols, float* out) const {
  constexpr int64_t kColsAtOnce = 512;
  float converted[kColsAtOnce];
  const auto* from = static_cast<const std::byte*>(Row(row, cols));
  for (int64_t col = 0; col < cols; col += kColsAtOnce) {
    const int64_t count = std::min(kColsAtOnce, cols - col);
    ConvertToF32(dtype_, from + col * SizeOf(dtype_), count, converted);
    AddRows({.x = {out + col, 1, count, count}, .f = {converted, 1, count, count}},
            {out + col, 1, count, count});
  }
}

}  // namespace headlight
