// SPDX-License-Identifier: Apache-2.0
//
// Checkpoints in narrower types than those that we write.
#ifndef HEADLIGHT_TESTS_CORE_CHECKPOINT_AS_DTYPE_H_
#define HEADLIGHT_TESTS_CORE_CHECKPOINT_AS_DTYPE_H_

#include <string>

#include "absl/status/status.h"
#include "core/tensor/dtype.h"

namespace headlight::testing {

// Writes model.safetensors of `folder`, all of whose tensors are F32, anew in `dtype`: kF32, kF16 or kBf16.
absl::Status RewriteAs(DType dtype, const std::string& folder);

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_CORE_CHECKPOINT_AS_DTYPE_H_
