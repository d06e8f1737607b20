// SPDX-License-Identifier: Apache-2.0
//
// Matrix products through oneDNN's BRGeMM ukernels: sequential, no threading runtime, no set-up cost per
// call. This is the only file that knows the ukernel API, which is experimental and changes between oneDNN
// releases.
#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "core/attention/gemm.h"
#include "oneapi/dnnl/dnnl_config.h"
#ifdef DNNL_EXPERIMENTAL_UKERNEL
#include "oneapi/dnnl/dnnl_ukernel.hpp"
#endif

namespace headlight {
namespace {

#ifdef DNNL_EXPERIMENTAL_UKERNEL

using dnnl::memory;
using dnnl::ukernel::brgemm;

brgemm Compile(int64_t rows, const GemmShape& shape) {
  constexpr auto kF32 = memory::data_type::f32;
  brgemm kernel(rows, shape.n, shape.k, /*batch_size=*/1, shape.lda, shape.ldb, shape.ldc, kF32, kF32, kF32);
  kernel.set_add_C(shape.accumulate);
  kernel.finalize();
  kernel.generate();
  return kernel;
}

// A ukernel has a fixed number of rows, so a call is cut into the largest ones that fit. All row counts up to
// 16 exist because a short call costs one pass over B whatever its rows: 15 rows in one call beat 8 + 4 + 2 +
// 1 nearly fourfold.
class BrgemmGemm final : public Gemm {
 public:
  explicit BrgemmGemm(const GemmShape& shape) : shape_(shape) {
    kernels_.reserve(kRows.size());
    for (int64_t rows : kRows) {
      kernels_.push_back(Compile(rows, shape));
      scratch_bytes_ = std::max<int64_t>(scratch_bytes_, kernels_.back().get_scratchpad_size());
    }
  }

  void Run(int64_t rows, const float* a, const float* b, float* c, std::byte* scratch) const override {
    static const std::vector<std::pair<memory::dim, memory::dim>> kOneBlock = {{0, 0}};
    for (size_t i = 0; rows > 0; ++i) {
      for (; rows >= kRows[i]; rows -= kRows[i]) {
        kernels_[i].execute(a, b, kOneBlock, c, scratch);
        a += kRows[i] * shape_.lda;
        c += kRows[i] * shape_.ldc;
      }
    }
  }

  int64_t scratch_bytes() const override { return scratch_bytes_; }

 private:
  static constexpr std::array<int64_t, 20> kRows = {256, 128, 64, 32, 16, 15, 14, 13, 12, 11,
                                                    10,  9,   8,  7,  6,  5,  4,  3,  2,  1};
  GemmShape shape_;
  std::vector<brgemm> kernels_;  // one for each entry of kRows
  int64_t scratch_bytes_ = 0;
};

absl::Status Available() {
  try {
    Compile(1, {.n = 16, .k = 16, .lda = 16, .ldb = 16, .ldc = 16});
  } catch (const dnnl::error& error) {
    return absl::UnimplementedError("oneDNN has no f32 ukernel for this CPU (AVX2 is the least it takes)");
  }
  return absl::OkStatus();
}

std::unique_ptr<const Gemm> Make(const GemmShape& shape) { return std::make_unique<BrgemmGemm>(shape); }

#else

absl::Status Available() { return absl::UnimplementedError("this oneDNN was built without the ukernel API"); }
std::unique_ptr<const Gemm> Make(const GemmShape&) { return nullptr; }

#endif

}  // namespace

const GemmProvider kBrgemmProvider = {"brgemm", Available, Make};

}  // namespace headlight
