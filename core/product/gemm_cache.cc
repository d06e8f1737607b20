// SPDX-License-Identifier: Apache-2.0
#include "core/product/gemm_cache.h"

#include <map>
#include <mutex>
#include <tuple>
#include <utility>

namespace headlight {
namespace {

using Key = std::pair<const GemmProvider*,
                      std::tuple<Precision, int64_t, int64_t, int64_t, int64_t, int64_t, bool, bool>>;

Key KeyOf(const GemmProvider& provider, const GemmShape& shape) {
  return {&provider,
          {shape.operands, shape.n, shape.k, shape.lda, shape.ldb, shape.ldc, shape.accumulate, shape.bias}};
}

struct Cache {
  std::mutex mutex;
  std::map<Key, std::weak_ptr<const Gemm>> gemms;
};

}  // namespace

std::shared_ptr<const Gemm> SharedGemm(const GemmProvider& provider, const GemmShape& shape) {
  static Cache& cache = *new Cache;  // never destroyed: models may outlive static objects
  const std::lock_guard lock(cache.mutex);
  std::weak_ptr<const Gemm>& known = cache.gemms[KeyOf(provider, shape)];
  if (std::shared_ptr<const Gemm> gemm = known.lock()) return gemm;
  std::shared_ptr<const Gemm> gemm = provider.Make(shape);
  known = gemm;
  std::erase_if(cache.gemms, [](const auto& entry) { return entry.second.expired(); });
  return gemm;
}

}  // namespace headlight
