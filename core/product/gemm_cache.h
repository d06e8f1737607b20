// SPDX-License-Identifier: Apache-2.0
//
// Products that are compiled once, however many layers and models use them: a compiled kernel is a mapping of
// 256 KiB, and each copy of it is cold in the instruction cache when its layer's turn comes.
#ifndef HEADLIGHT_CORE_PRODUCT_GEMM_CACHE_H_
#define HEADLIGHT_CORE_PRODUCT_GEMM_CACHE_H_

#include <memory>

#include "core/product/gemm.h"

namespace headlight {

// The provider's product of this shape: the one that somebody in this process still holds, or a new one.
// Thread-safe. Throws as GemmProvider::Make.
std::shared_ptr<const Gemm> SharedGemm(const GemmProvider& provider, const GemmShape& shape);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_PRODUCT_GEMM_CACHE_H_
