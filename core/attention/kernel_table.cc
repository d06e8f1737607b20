// SPDX-License-Identifier: Apache-2.0
//
// The kernels there are, fastest first. To add one: implement AttentionKernel and give it a row here.
#include "core/attention/gemm.h"
#include "core/attention/kernel.h"
#include "core/attention/tiled_kernel.h"
#include "core/base/status_macros.h"

namespace headlight {
namespace {

// What the tiled kernel does not compute yet.
absl::Status TiledKernelAccepts(const AttentionConfig& config, const AttentionWeights& weights) {
  if (config.add_zero_attn) return absl::UnimplementedError("it does not serve add_zero_attn yet");
  if (!weights.bias_k.empty()) return absl::UnimplementedError("it does not serve bias_k and bias_v yet");
  return absl::OkStatus();
}

template <const GemmProvider& provider>
absl::Status Accepts(const AttentionConfig& config, const AttentionWeights& weights) {
  HEADLIGHT_RETURN_IF_ERROR(provider.Available());
  return TiledKernelAccepts(config, weights);
}

template <const GemmProvider& provider>
std::unique_ptr<const AttentionKernel> Create(const AttentionConfig& config,
                                              const AttentionWeights& weights) {
  return std::make_unique<TiledKernel>(provider, config, weights);
}

}  // namespace

std::span<const KernelEntry> KernelTable() {
  static constexpr KernelEntry kTable[] = {
      {"brgemm", "tiles of oneDNN BRGeMM ukernels", Accepts<kBrgemmProvider>, Create<kBrgemmProvider>},
      {"matmul", "tiles of oneDNN matmul primitives", Accepts<kMatmulProvider>, Create<kMatmulProvider>},
  };
  return kTable;
}

}  // namespace headlight
