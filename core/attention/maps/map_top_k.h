// SPDX-License-Identifier: Apache-2.0
//
// The largest attention weights of a query, straight from the exponentials that a block's softmax leaves
// behind. T is float or Bf16.
#ifndef HEADLIGHT_CORE_ATTENTION_MAPS_MAP_TOP_K_H_
#define HEADLIGHT_CORE_ATTENTION_MAPS_MAP_TOP_K_H_

#include <cstdint>

#include "core/attention/maps/map_rows.h"
#include "core/tensor/bf16.h"

namespace headlight {

// Where the lists of consecutive rows go; row i's is at i * stride of both, [k].
struct TopKLists {
  int64_t k = 0;
  float* weights = nullptr;
  int32_t* keys = nullptr;
  int64_t stride = 0;
};

// The k largest weights above 0 of the rows [first_row, end_row) of a block, best first, equal ones in the
// order of their keys; the rest is weight 0, key -1.
void SelectTopK(const WeightTiles<float>& tiles, int64_t first_row, int64_t end_row, const TopKLists& lists);
void SelectTopK(const WeightTiles<Bf16>& tiles, int64_t first_row, int64_t end_row, const TopKLists& lists);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_MAPS_MAP_TOP_K_H_
