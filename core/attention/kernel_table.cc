// SPDX-License-Identifier: Apache-2.0
//
// The kernels there are, fastest first. To add one: implement AttentionKernel and give it a row here.
#include "core/attention/kernel.h"
#include "core/attention/tiled/fused_scores.h"
#include "core/attention/tiled/tiled_kernel.h"
#include "core/base/status_macros.h"
#include "core/product/gemm.h"
#include "oneapi/dnnl/dnnl.hpp"

namespace headlight {
namespace {

constexpr TiledKernelKind kFused = {"avx512-fused", kVectorProvider, /*fused_scores=*/true};
constexpr TiledKernelKind kBrgemm = {"brgemm", kBrgemmProvider, /*fused_scores=*/false};
constexpr TiledKernelKind kMatmul = {"matmul", kMatmulProvider, /*fused_scores=*/false};

bool HasTiles() {
  const auto has = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
  const auto tiles = static_cast<unsigned>(dnnl::cpu_isa::avx512_core_amx);
  return (has & tiles) == tiles;
}

// Whether bf16 products are faster than f32 ones: on AMX tiles, and on vectors as AMD builds them (twice as
// fast) rather than Intel (half as fast).
bool Bf16IsFast() {
  __builtin_cpu_init();
  return HasTiles() || (__builtin_cpu_is("amd") != 0 && kBrgemmProvider.Available(Precision::kBf16).ok());
}

// The operands of attention itself, between the projections: int8 leaves it in the faster of the wider types.
Precision AttentionOperands(Precision precision) {
  if (precision != Precision::kInt8) return precision;
  return Bf16IsFast() ? Precision::kBf16 : Precision::kF32;
}

template <const TiledKernelKind& kind>
absl::Status Accepts(const AttentionConfig& config) {
  const Precision operands = AttentionOperands(config.precision);
  if (kind.fused_scores) HEADLIGHT_RETURN_IF_ERROR(FusedScoresAvailable(operands));
  HEADLIGHT_RETURN_IF_ERROR(kind.provider.Available(config.precision));
  return kind.provider.Available(operands);
}

template <const TiledKernelKind& kind>
absl::Status Pays(const AttentionConfig& config) {
  if (config.precision == Precision::kF32) return absl::OkStatus();
  if (HasTiles() && kind.fused_scores) {
    return absl::UnimplementedError("AMX tiles make its products faster than vectors do");
  }
  if (config.precision == Precision::kInt8 || Bf16IsFast()) return absl::OkStatus();
  return absl::UnimplementedError("this CPU's bf16 vector products are slower than its f32 ones");
}

template <const TiledKernelKind& kind>
std::unique_ptr<const AttentionKernel> Create(const AttentionConfig& config,
                                              const AttentionParameters& weights) {
  if (AttentionOperands(config.precision) == Precision::kF32) {
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
      Entry<kFused>("products, scores and exponentials in AVX-512 loops"),
      Entry<kBrgemm>("oneDNN BRGeMM ukernels"),
      Entry<kMatmul>("oneDNN matmul primitives"),
  };
  return kTable;
}

}  // namespace headlight
