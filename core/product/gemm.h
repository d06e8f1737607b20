// SPDX-License-Identifier: Apache-2.0
//
// The one matrix product that layers are built from, and what provides it: two interfaces of oneDNN and a loop
// of our own.
#ifndef HEADLIGHT_CORE_PRODUCT_GEMM_H_
#define HEADLIGHT_CORE_PRODUCT_GEMM_H_

#include <algorithm>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "core/product/precision.h"
#include "core/tensor/matrix_view.h"

namespace headlight {

// C[rows, n] = A[rows, k] B[k, n], or C += A B. A and C are row-major; lda, ldb, ldc are elements between
// rows.
//   operands  A      B                                               C     k
//   kF32      f32    f32, row-major                                  f32   any
//   kBf16     bf16   bf16, pairs of rows interleaved: [k/2, ldb, 2]  f32   even
//   kInt8     u8     s8, four rows interleaved: [k/4, ldb, 4]        s32   a multiple of 4
struct GemmShape {
  Precision operands = Precision::kF32;
  int64_t n = 0;
  int64_t k = 0;
  int64_t lda = 0;
  int64_t ldb = 0;
  int64_t ldc = 0;
  bool accumulate = false;
  bool bias = false;  // C = bias + A B, with a row of n added to each row; not with accumulate nor kInt8

  auto operator<=>(const GemmShape&) const = default;
};

// Memory that will be read next. A product may ask for it while it computes, or leave it.
struct Ahead {
  const std::byte* begin = nullptr;
  int64_t size_bytes = 0;
};

// A product of one shape, with any number of rows. Everything is compiled in the constructor, nothing on a
// call. The bits of a row of C depend on that row of A and on B alone: not on the other rows nor on how many
// there are. In f32 an element is one chain of fused multiply-adds over k that begins with 0, C or the bias,
// the same bits for every provider but kMatmulProvider and for every instruction set from AVX2 on. Immutable and
// thread-safe. Runs on the calling thread. The constructor and Run may throw
// dnnl::error.
class Gemm {
 public:
  virtual ~Gemm() = default;
  // `scratch` holds at least scratch_bytes(), aligned to 64, used by one call at a time. `bias` [n] is read
  // where the shape says so.
  virtual void Run(int64_t rows, const void* a, const void* b, void* c, std::byte* scratch, const float* bias,
                   Ahead ahead) const = 0;
  // The same with a B of which each k rows lie in a panel of their own, and with as many columns of A: what
  // many calls of Run would make, one panel after the other. Only where the shape says accumulate.
  virtual void RunPanels(int64_t rows, const void* a, const void* const* b, int64_t num_panels, void* c,
                         std::byte* scratch) const {
    const auto* columns = static_cast<const std::byte*>(a);
    for (int64_t panel = 0; panel < num_panels;
         ++panel, columns += shape_.k * OperandBytes(shape_.operands)) {
      Run(rows, columns, b[panel], c, scratch, nullptr, {});
    }
  }
  virtual int64_t scratch_bytes() const = 0;

 protected:
  explicit Gemm(const GemmShape& shape) : shape_(shape) {}
  const GemmShape shape_;
};

// Each row becomes `row` [rows.cols]: how a product that can only add to C begins at a bias.
inline void FillRows(const float* row, MutableMatrixView rows) {
  for (int64_t r = 0; r < rows.rows; ++r) std::copy_n(row, rows.cols, rows.Row(r));
}

// One way to make them.
struct GemmProvider {
  const char* name;
  // OK, or UNIMPLEMENTED with the sentence why this build or CPU has no such product.
  absl::Status (*Available)(Precision operands);
  std::unique_ptr<const Gemm> (*Make)(const GemmShape& shape);
  // To be called on a thread before its first Run of a piece of work: something else may have used the CPU's
  // matrix tiles in between.
  void (*BeginWork)();
};

extern const GemmProvider kVectorProvider;  // gemm_vector.cc: AVX-512 vectors
// gemm_brgemm.cc: oneDNN's BRGeMM ukernels, and where they would add C or the bias in f32 at the end, vectors
extern const GemmProvider kBrgemmProvider;
extern const GemmProvider kMatmulProvider;  // gemm_matmul.cc: oneDNN's matmul primitive; kF32 only

// gemm_vector.cc: a product of kF32 of any shape on AVX2 or AVX-512 vectors; null where there are none, as in
// builds that leave them out.
std::unique_ptr<const Gemm> MakeVectorGemm(const GemmShape& shape);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_PRODUCT_GEMM_H_
