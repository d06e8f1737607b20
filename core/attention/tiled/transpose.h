// SPDX-License-Identifier: Apache-2.0
//
// Keys and values in the order in which the products of attention read them.
#ifndef HEADLIGHT_CORE_ATTENTION_TILED_TRANSPOSE_H_
#define HEADLIGHT_CORE_ATTENTION_TILED_TRANSPOSE_H_

#include <cstdint>

#include "core/tensor/bf16.h"

namespace headlight {

// Rows of keys into columns, 32-bit words at a time (for bf16: pairs of elements): word w of row r goes to
// panel[w * panel_cols + r]; columns from `rows` to panel_cols become zero. `words` and panel_cols are
// multiples of 16; row_stride counts words.
void TransposeWords(const void* in, int64_t rows, int64_t words, int64_t row_stride, void* panel,
                    int64_t panel_cols);

// Interleaves rows 2i and 2i + 1 element by element: out [rows / 2, cols, 2]. cols is a multiple of 32, rows
// are even.
void InterleavePairs(const Bf16* in, int64_t rows, int64_t cols, Bf16* out);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_TILED_TRANSPOSE_H_
