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
absl::Status TiledKernelAccepts(const AttentionConfig& config) {
  if (config.num_appended_keys() > 0) return absl::UnimplementedError("it does not append keys yet");
  if (config.rope || config.alibi || config.logit_softcap != 0.0) {
    return absl::UnimplementedError("it has no RoPE, ALiBi or softcap yet");
  }
  if (config.precision != Precision::kF32) return absl::UnimplementedError("it computes in f32 only");
  return absl::OkStatus();
}

template <const GemmProvider& provider>
absl::Status Accepts(const AttentionConfig& config) {
  HEADLIGHT_RETURN_IF_ERROR(provider.Available());
  return TiledKernelAccepts(config);
}

absl::Status AlwaysPays(const AttentionConfig&) { return absl::OkStatus(); }

template <const GemmProvider& provider>
std::unique_ptr<const AttentionKernel> Create(const AttentionConfig& config,
                                              const AttentionWeights& weights) {
  return std::make_unique<TiledKernel>(provider, config, weights);
}

}  // namespace

std::span<const KernelEntry> KernelTable() {
  static constexpr KernelEntry kTable[] = {
      {"brgemm", "tiles of oneDNN BRGeMM ukernels", Accepts<kBrgemmProvider>, AlwaysPays,
       Create<kBrgemmProvider>},
      {"matmul", "tiles of oneDNN matmul primitives", Accepts<kMatmulProvider>, AlwaysPays,
       Create<kMatmulProvider>},
  };
  return kTable;
}

}  // namespace headlight
