// SPDX-License-Identifier: Apache-2.0
//
// From the hidden states of a sequence to one vector.
#ifndef HEADLIGHT_CORE_MODEL_POOLING_H_
#define HEADLIGHT_CORE_MODEL_POOLING_H_

#include <cstdint>
#include <span>

#include "core/model/config.h"
#include "core/tensor/matrix_view.h"

namespace headlight {

// Pools each sequence of `hidden` [tokens, embed_dim], whose rows [cu_lens[i], cu_lens[i + 1]) are sequence
// i, into row i of `out` [sequences, embed_dim]. `pooling` is not kNone. With `normalize` each row is divided
// by its L2 norm; a row of zeros stays. `out` aliases nothing. A row's bits depend on its sequence alone.
void PoolSequences(MatrixView hidden, std::span<const int64_t> cu_lens, Pooling pooling, bool normalize,
                   MutableMatrixView out);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_MODEL_POOLING_H_
