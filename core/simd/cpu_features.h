// SPDX-License-Identifier: Apache-2.0
//
// What this CPU can do for products, as far as oneDNN is allowed to use it (ONEDNN_MAX_CPU_ISA).
#ifndef HEADLIGHT_CORE_SIMD_CPU_FEATURES_H_
#define HEADLIGHT_CORE_SIMD_CPU_FEATURES_H_

namespace headlight {

// AMX: products of bf16 and of bytes on tiles.
bool HasTiles();

// Sums of four products of bytes in 32 bits. Without it they are summed in 16 bits, which saturate.
bool HasVnni();

// Whether a vector product of bf16 takes half the time of one of f32, as AMD builds them where there are any;
// on Intel it takes twice the time.
bool HasFastBf16Vectors();

}  // namespace headlight

#endif  // HEADLIGHT_CORE_SIMD_CPU_FEATURES_H_
