// SPDX-License-Identifier: Apache-2.0
//
// What all SIMD code of the core agrees on. The code itself is written once with Highway, compiled for each
// instruction set and chosen at run time.
#ifndef HEADLIGHT_CORE_SIMD_TARGETS_H_
#define HEADLIGHT_CORE_SIMD_TARGETS_H_

#include <cstdint>
#include <string>

namespace headlight {

// f32 numbers in an AVX-512 register, and so a whole number of registers of every narrower instruction set.
constexpr int64_t kLanes = 16;

// Key counts and head widths inside the kernel are rounded up to this many operands of type T: 64 bytes, a
// cache line, a register of AVX-512 and a row of an AMX tile.
template <typename T>
constexpr int64_t kGranule = 64 / static_cast<int64_t>(sizeof(T));

constexpr int64_t RoundUp(int64_t n, int64_t granule) { return (n + granule - 1) / granule * granule; }

// Restricts Highway to the instruction sets that oneDNN uses, so that ONEDNN_MAX_CPU_ISA limits both. Takes
// effect once per process; thread-safe.
void MatchSimdToOneDnn();

// Name of the instruction set that SIMD code runs on, such as "AVX3_SPR" or "AVX2".
std::string SimdTargetName();

}  // namespace headlight

#endif  // HEADLIGHT_CORE_SIMD_TARGETS_H_
