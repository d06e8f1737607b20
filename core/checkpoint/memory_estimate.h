// SPDX-License-Identifier: Apache-2.0
//
// The memory that a model takes, known from its config before any of it is taken.
#ifndef HEADLIGHT_CORE_CHECKPOINT_MEMORY_ESTIMATE_H_
#define HEADLIGHT_CORE_CHECKPOINT_MEMORY_ESTIMATE_H_

#include <cstdint>

#include "core/model/config.h"
#include "core/tensor/dtype.h"

namespace headlight {

// In bytes, on this CPU: packed, and at most while the model is packed from a source that holds one layer at
// a time and its precision is measured. A bound, a little above what is taken. Pages of mapped files are not
// in it: the kernel takes them back when it wants them.
struct MemoryEstimate {
  int64_t packed_bytes = 0;
  int64_t peak_bytes = 0;
};

// `config` is valid; `table_dtype` as in ModelSummary.
MemoryEstimate EstimateMemory(const ModelConfig& config, DType table_dtype = DType::kF32);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_CHECKPOINT_MEMORY_ESTIMATE_H_
