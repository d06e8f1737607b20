// SPDX-License-Identifier: Apache-2.0
//
// From the hidden states of a sequence to one vector.
#ifndef HEADLIGHT_CORE_MODEL_POOLING_H_
#define HEADLIGHT_CORE_MODEL_POOLING_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "absl/strings/string_view.h"
#include "core/model/config.h"
#include "core/tensor/matrix_view.h"

namespace headlight {

inline constexpr Pooling kAllPoolings[] = {Pooling::kCls,         Pooling::kMean, Pooling::kMax,
                                           Pooling::kMeanSqrtLen, Pooling::kLast, Pooling::kWeightedMean};

// "cls", "mean", "max", "mean_sqrt_len", "weighted_mean", "last"; of several, "mean,cls"; of none, "none".
const char* Name(Pooling pooling);
std::string Names(std::span<const Pooling> poolings, const char* separator = ",");
std::optional<Pooling> PoolingNamed(absl::string_view name);
// All of them, for messages.
std::string PoolingNames();

// How the row that a head scores comes from a sequence.
Pooling PoolingOf(ScoresOf scores_of);

// Pools each sequence of `hidden` [tokens, embed_dim], whose rows [cu_lens[i], cu_lens[i + 1]) are sequence
// i, into row i of `out` [sequences, dim]: the vectors of `poolings`, at least one, side by side, of which
// the first dim numbers are kept, at most all. With `normalize` each row is then divided by its L2 norm; a
// row of zeros stays. Sums are in double precision. `out` aliases nothing. A row's bits depend on its
// sequence alone.
void PoolSequences(MatrixView hidden, std::span<const int64_t> cu_lens, std::span<const Pooling> poolings,
                   bool normalize, MutableMatrixView out);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_MODEL_POOLING_H_
