// SPDX-License-Identifier: Apache-2.0
#include "core/attention/mask.h"

#include "absl/strings/str_cat.h"

namespace headlight {

absl::Status CheckMask(const MaskView& mask) {
  if (mask.empty()) return absl::OkStatus();
  if (mask.dtype != DType::kBool && mask.dtype != DType::kF32) {
    return absl::InvalidArgumentError(
        absl::StrCat(".mask: got the type ", Name(mask.dtype), ", wanted bool or f32"));
  }
  if (mask.head_stride >= 0 && mask.query_stride >= 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(".mask: got strides of ", mask.head_stride, " and ",
                                                 mask.query_stride, ", wanted none below 0"));
}

}  // namespace headlight
