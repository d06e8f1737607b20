// SPDX-License-Identifier: Apache-2.0
//
// Dimensions of a tensor, outermost first, and the one overflow-checked product over them.
#ifndef HEADLIGHT_CORE_TENSOR_SHAPE_H_
#define HEADLIGHT_CORE_TENSOR_SHAPE_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace headlight {

using Shape = std::vector<int64_t>;  // outermost first, row-major

// Product of the dimensions (1 for none), or nothing if a dimension is negative or the product exceeds int64.
std::optional<int64_t> NumElements(std::span<const int64_t> shape);

// "[2, 16, 768]"
std::string ToString(std::span<const int64_t> shape);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_TENSOR_SHAPE_H_
