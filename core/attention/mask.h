// SPDX-License-Identifier: Apache-2.0
//
// An explicit mask, as a request brings it.
#ifndef HEADLIGHT_CORE_ATTENTION_MASK_H_
#define HEADLIGHT_CORE_ATTENTION_MASK_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/tensor/dtype.h"

namespace headlight {

// An explicit mask for one sequence, seen in place: element (head, query, key) is at
// head * head_stride + query * query_stride + key, in elements; a head_stride of 0 shares one mask among the
// heads.
//   kBool  one byte, non-zero where the query may attend to the key
//   kF32   added to the scaled scores; -inf forbids
struct MaskView {
  const void* data = nullptr;  // no explicit mask if null; need not be aligned
  DType dtype = DType::kBool;
  int64_t head_stride = 0;
  int64_t query_stride = 0;

  bool empty() const { return data == nullptr; }
};

// INVALID_ARGUMENT: of another type than these two, or strides below 0. Messages begin with ".mask".
absl::Status CheckMask(const MaskView& mask);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_MASK_H_
