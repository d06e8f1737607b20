// SPDX-License-Identifier: Apache-2.0
//
// The yardstick of what this machine computes: the fastest f32 matrix product on all compute threads at once.
#ifndef HEADLIGHT_SERVER_OBSERVE_GEMM_PEAK_H_
#define HEADLIGHT_SERVER_OBSERVE_GEMM_PEAK_H_

#include "absl/status/statusor.h"
#include "core/runtime/compute_arena.h"

namespace headlight {

// Floating-point operations a second that the threads of `arena` reach together, each on matrices in its own
// caches. Takes all of them for some 30 ms. UNIMPLEMENTED: there is no product; RESOURCE_EXHAUSTED: no
// memory.
absl::StatusOr<double> MeasureGemmPeak(ComputeArena& arena);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OBSERVE_GEMM_PEAK_H_
