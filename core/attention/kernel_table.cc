// SPDX-License-Identifier: Apache-2.0
//
// The kernels there are, fastest first. To add one: implement AttentionKernel and give it a row here.
#include "core/attention/fused_scores.h"
#include "core/attention/gemm.h"
#include "core/attention/kernel.h"
#include "core/attention/tiled_kernel.h"
#include "core/base/status_macros.h"
#include "oneapi/dnnl/dnnl.hpp"

namespace headlight {
namespace {

constexpr TiledKernelKind kFused = {"avx512-fused", kBrgemmProvider, /*fused_scores=*/true};
constexpr TiledKernelKind kBrgemm = {"brgemm", kBrgemmProvider, /*fused_scores=*/false};
constexpr TiledKernelKind kMatmul = {"matmul", kMatmulProvider, /*fused_scores=*/false};

// The products that a precision needs: those of the projections, and those of attention itself.
absl::Status ProductsAvailable(const GemmProvider& provider, Precision precision) {
  HEADLIGHT_RETURN_IF_ERROR(provider.Available(precision));
  return provider.Available(precision == Precision::kF32 ? Precision::kF32 : Precision::kBf16);
}

template <const TiledKernelKind& kind>
absl::Status Accepts(const AttentionConfig& config) {
  if (kind.fused_scores) HEADLIGHT_RETURN_IF_ERROR(FusedScoresAvailable(config.precision));
  return ProductsAvailable(kind.provider, config.precision);
}

// Whether bf16 products on vectors are twice as fast as f32 ones, as AMD builds them, rather than half as
// fast, as Intel does.
bool Bf16VectorsAreFast() {
  __builtin_cpu_init();
  return __builtin_cpu_is("amd") != 0;
}

bool HasTiles() {
  const auto has = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
  const auto tiles = static_cast<unsigned>(dnnl::cpu_isa::avx512_core_amx);
  return (has & tiles) == tiles;
}

template <const TiledKernelKind& kind>
absl::Status Pays(const AttentionConfig& config) {
  if (config.precision == Precision::kF32) return absl::OkStatus();
  if (HasTiles()) {
    if (!kind.fused_scores) return absl::OkStatus();
    return absl::UnimplementedError("AMX tiles make its products faster than vectors do");
  }
  if (Bf16VectorsAreFast()) return absl::OkStatus();
  return absl::UnimplementedError("this CPU's bf16 vector products are slower than its f32 ones");
}

template <const TiledKernelKind& kind>
std::unique_ptr<const AttentionKernel> Create(const AttentionConfig& config,
                                              const AttentionWeights& weights) {
  if (config.precision == Precision::kF32) {
    return std::make_unique<TiledKernel<float>>(kind, config, weights);
  }
  return std::make_unique<TiledKernel<Bf16>>(kind, config, weights);
}

template <const TiledKernelKind& kind>
constexpr KernelEntry Entry(const char* description) {
  return {kind.name, description, Accepts<kind>, Pays<kind>, Create<kind>};
}

}  // namespace

std::span<const KernelEntry> KernelTable() {
  static constexpr KernelEntry kTable[] = {
      Entry<kFused>("oneDNN BRGeMM ukernels; scores and exponentials in one AVX-512 loop"),
      Entry<kBrgemm>("oneDNN BRGeMM ukernels"),
      Entry<kMatmul>("oneDNN matmul primitives"),
  };
  return kTable;
}

}  // namespace headlight
