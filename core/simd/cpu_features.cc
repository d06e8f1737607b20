// SPDX-License-Identifier: Apache-2.0
#include "core/simd/cpu_features.h"

#include "oneapi/dnnl/dnnl.hpp"

namespace headlight {
namespace {

#if defined(__x86_64__)
bool Covers(dnnl::cpu_isa isa) {
  const auto has = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
  return (has & static_cast<unsigned>(isa)) == static_cast<unsigned>(isa);
}
#else  // where these bits mean other sets
bool Covers(dnnl::cpu_isa) { return false; }
#endif

}  // namespace

bool HasTiles() { return Covers(dnnl::cpu_isa::avx512_core_amx); }

bool HasVnni() { return Covers(dnnl::cpu_isa::avx512_core_vnni) || Covers(dnnl::cpu_isa::avx2_vnni); }

bool HasFastBf16Vectors() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return __builtin_cpu_is("amd") != 0;
#else
  return false;
#endif
}

}  // namespace headlight
