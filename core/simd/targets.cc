// SPDX-License-Identifier: Apache-2.0
#include "core/simd/targets.h"

#include <mutex>

#include "oneapi/dnnl/dnnl.hpp"

// Highway compiles this file once for each instruction set by including it again and again.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/simd/targets.cc"
#include "hwy/foreach_target.h"
// Must come after foreach_target.h.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace headlight::HWY_NAMESPACE {

std::string TargetName() { return hwy::TargetName(HWY_TARGET); }

}  // namespace headlight::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headlight {

HWY_EXPORT(TargetName);

void MatchSimdToOneDnn() {
  static std::once_flag once;
  std::call_once(once, [] {
    constexpr int64_t kAvx512Bf16 = HWY_AVX3_ZEN4 | HWY_AVX3_SPR;
    constexpr int64_t kAvx512 = HWY_AVX3 | HWY_AVX3_DL | kAvx512Bf16;
    // Elsewhere than on x86 the answer means other sets, and what it takes away here is not there.
    switch (dnnl::get_effective_cpu_isa()) {
      case dnnl::cpu_isa::isa_default:
      case dnnl::cpu_isa::sse41:
      case dnnl::cpu_isa::avx:
        return hwy::DisableTargets(kAvx512 | HWY_AVX2);
      case dnnl::cpu_isa::avx2:
      case dnnl::cpu_isa::avx2_vnni:
      case dnnl::cpu_isa::avx2_vnni_2:
        return hwy::DisableTargets(kAvx512);
      case dnnl::cpu_isa::avx512_core:
      case dnnl::cpu_isa::avx512_core_vnni:
        return hwy::DisableTargets(kAvx512Bf16);
      default:
        return;
    }
  });
}

std::string SimdTargetName() { return HWY_DYNAMIC_DISPATCH(TargetName)(); }

}  // namespace headlight
#endif  // HWY_ONCE
