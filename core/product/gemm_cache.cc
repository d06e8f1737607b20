// SPDX-License-Identifier: Apache-2.0
#include "core/product/gemm_cache.h"

#include <utility>

#include "core/base/weak_cache.h"

namespace headlight {

std::shared_ptr<const Gemm> SharedGemm(const GemmProvider& provider, const GemmShape& shape) {
  using Cache = WeakCache<std::pair<const GemmProvider*, GemmShape>, Gemm>;
  static Cache& cache = *new Cache;  // never destroyed: models may outlive static objects
  return cache.Get({&provider, shape}, [&] { return provider.Make(shape); });
}

}  // namespace headlight
