// SPDX-License-Identifier: Apache-2.0
//
// What memory a request takes while it is computed, in closed form: known before anything is allocated.
#ifndef HEADLIGHT_SERVER_BATCH_MEMORY_NEED_H_
#define HEADLIGHT_SERVER_BATCH_MEMORY_NEED_H_

#include <cstdint>

#include "core/attention/forward_shape.h"
#include "server/batch/batch_input.h"

namespace headlight {

// Inputs as the kernels read them, outputs, and what they become on their way into a reply; an upper bound of
// what PackedBatch acquires for this request, lists included. It grows with the request, so the needs of a
// batch are the sum of its requests'.
int64_t BufferNeed(const BatchInput& input);

// The shape of a batch of this request alone, for Model::ForwardBytes: the workspace is shared by all batches
// of a lane, so only the largest counts.
ForwardShape ShapeOf(const BatchInput& input);

// All that an otherwise empty server needs to compute the request on `num_threads` threads, its message and
// its reply apart from those buffers not counted.
int64_t MemoryNeed(const BatchInput& input, int num_threads);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_BATCH_MEMORY_NEED_H_
