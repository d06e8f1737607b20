// SPDX-License-Identifier: Apache-2.0
//
// Matrix products through oneDNN's matmul primitive, for builds and CPUs without the ukernels. Plain rather
// than fast.
#include <algorithm>
#include <unordered_map>

#include "core/product/gemm.h"
#include "core/runtime/openmp.h"
#include "core/simd/targets.h"
#include "core/tensor/buffer.h"
#include "oneapi/dnnl/dnnl.hpp"

namespace headlight {
namespace {

using dnnl::memory;

const dnnl::engine& Engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

// One primitive of a fixed number of rows; a shorter rest goes through padded copies. A fixed shape also
// makes the bits of a row independent of how many rows there are: oneDNN may pick another implementation for
// another shape.
class MatmulGemm final : public Gemm {
 public:
  explicit MatmulGemm(const GemmShape& shape)
      : Gemm(shape),
        // oneDNN 3.7 takes the rows of a C of one column for contiguous, whatever its stride says.
        always_padded_(shape.n == 1 && shape.ldc != 1),
        c_stride_(always_padded_ ? 1 : shape.ldc),
        a_desc_({kRows, shape.k}, memory::data_type::f32, memory::dims{shape.lda, 1}),
        b_desc_({shape.k, shape.n}, memory::data_type::f32, memory::dims{shape.ldb, 1}),
        c_desc_({kRows, shape.n}, memory::data_type::f32, memory::dims{c_stride_, 1}) {
    const OneOpenMpThread one_thread;
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(
        dnnl::scratchpad_mode::user);  // the default one is tied to the creating thread
    if (shape.accumulate || shape.bias) {
      dnnl::post_ops post_ops;
      post_ops.append_sum();
      attributes.set_post_ops(post_ops);
    }
    const dnnl::matmul::primitive_desc description(Engine(), a_desc_, b_desc_, c_desc_, attributes);
    scratchpad_desc_ = description.scratchpad_desc();
    primitive_ = dnnl::matmul(description);
  }

  void Run(int64_t rows, const void* a_rows, const void* b_rows, void* c_rows, std::byte* scratch,
           const float* bias, Ahead) const override {
    if (shape_.bias && bias != nullptr)
      FillRows(bias, {static_cast<float*>(c_rows), rows, shape_.n, shape_.ldc});
    const auto* a = static_cast<const float*>(a_rows);
    const auto* b = static_cast<const float*>(b_rows);
    auto* c = static_cast<float*>(c_rows);
    for (int64_t done = 0; done < rows; done += kRows) {
      const int64_t part = std::min(kRows, rows - done);
      const float* a_part = a + done * shape_.lda;
      float* c_part = c + done * shape_.ldc;
      if (part == kRows && !always_padded_) {
        Execute(a_part, b, c_part, scratch);
      } else {
        ExecutePadded(part, a_part, b, c_part, scratch);
      }
    }
  }

  int64_t scratch_bytes() const override { return ScratchpadBytes() + APadBytes() + CPadBytes(); }

 private:
  // A multiple of 6 and of 16, the row blocks of oneDNN's AVX2 and AVX-512 products: a narrower block at the
  // end would be summed in another order, and a row's bits depend on its place.
  static constexpr int64_t kRows = 48;

  // Whole cache lines each.
  int64_t ScratchpadBytes() const {
    return RoundUp(static_cast<int64_t>(scratchpad_desc_.get_size()), kCacheLineBytes);
  }
  int64_t APadBytes() const { return RoundUp(kRows * shape_.lda * int64_t{sizeof(float)}, kCacheLineBytes); }
  int64_t CPadBytes() const { return RoundUp(kRows * c_stride_ * int64_t{sizeof(float)}, kCacheLineBytes); }

  void ExecutePadded(int64_t rows, const float* a, const float* b, float* c, std::byte* scratch) const {
    std::byte* pads = scratch + ScratchpadBytes();
    auto* a_pad = reinterpret_cast<float*>(pads);
    auto* c_pad = reinterpret_cast<float*>(pads + APadBytes());
    std::fill_n(a_pad, kRows * shape_.lda, 0.0f);
    std::fill_n(c_pad, kRows * c_stride_, 0.0f);
    for (int64_t r = 0; r < rows; ++r) {
      std::copy_n(a + r * shape_.lda, shape_.k, a_pad + r * shape_.lda);
      std::copy_n(c + r * shape_.ldc, shape_.n, c_pad + r * c_stride_);
    }
    Execute(a_pad, b, c_pad, scratch);
    for (int64_t r = 0; r < rows; ++r) std::copy_n(c_pad + r * c_stride_, shape_.n, c + r * shape_.ldc);
  }

  void Execute(const float* a, const float* b, float* c, std::byte* scratch) const {
    thread_local dnnl::stream stream(Engine());
    const auto wrap = [](const memory::desc& desc, const void* data) {
      return memory(desc, Engine(), const_cast<void*>(data));
    };
    primitive_.execute(stream, {{DNNL_ARG_SRC, wrap(a_desc_, a)},
                                {DNNL_ARG_WEIGHTS, wrap(b_desc_, b)},
                                {DNNL_ARG_DST, wrap(c_desc_, c)},
                                {DNNL_ARG_SCRATCHPAD, wrap(scratchpad_desc_, scratch)}});
  }

  const bool always_padded_;
  const int64_t c_stride_;  // of the primitive
  memory::desc a_desc_;
  memory::desc b_desc_;
  memory::desc c_desc_;
  memory::desc scratchpad_desc_;
  dnnl::matmul primitive_;
};

absl::Status MatmulAvailable(Precision operands) {
  if (operands == Precision::kF32) return absl::OkStatus();
  return absl::UnimplementedError("it computes in f32 only");
}

std::unique_ptr<const Gemm> MakeMatmul(const GemmShape& shape) { return std::make_unique<MatmulGemm>(shape); }

}  // namespace

const GemmProvider kMatmulProvider = {"matmul", MatmulAvailable, MakeMatmul, [] {}};

}  // namespace headlight
