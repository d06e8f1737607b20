// SPDX-License-Identifier: Apache-2.0
//
// Products with parameters that are held in fewer bits than they are multiplied in: what is read from memory
// is narrow, and widened a few rows at a time, for which a near cache has room.
#ifndef HEADLIGHT_CORE_PRODUCT_NARROW_GEMM_H_
#define HEADLIGHT_CORE_PRODUCT_NARROW_GEMM_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/product/gemm.h"
#include "core/product/precision.h"

namespace headlight {

// A right-hand matrix as Gemm has it in the precision that it is held in. It stands for factor * operand, of
// kInt8 factor * (col_scale * operand), each product rounded to f32.
struct NarrowPanel {
  const std::byte* operands = nullptr;
  const float* col_scale = nullptr;  // [columns], kInt8 only
  float factor = 1.0f;
};

// Columns that lie side by side in `held`, as numbers: rows [0, rows) of `out` [rows, width], f32 row-major.
// `panel` is [rows, width], `rows` a multiple of InterleavedRows(held). What lies at `ahead` is asked for
// meanwhile, line by line.
void WidenRows(Precision held, const NarrowPanel& panel, int64_t rows, int64_t width, float* out,
               Ahead ahead);

// The same of kInt8, rounded once more and laid out as Gemm has B of kBf16. `rows` is a multiple of 4.
void WidenRowsToBf16(const NarrowPanel& panel, int64_t rows, int64_t width, std::byte* out, Ahead ahead);

// A product of one shape whose B is held in a narrower precision than shape.operands: to the bit what the
// provider's Gemm of that shape makes of the numbers that B stands for. Immutable and thread-safe; throws as
// Gemm.
class NarrowGemm {
 public:
  // `held` is kBf16 or kInt8, shape.operands a wider one; shape.ldb is n.
  NarrowGemm(const GemmProvider& provider, Precision held, const GemmShape& shape);

  // As Gemm::Run.
  void Run(int64_t rows, const void* a, const NarrowPanel& b, void* c, std::byte* scratch, const float* bias,
           Ahead ahead) const;
  int64_t scratch_bytes() const;

  // Of scratch_bytes(), what the numbers take that are widened together for the provider's product of this
  // shape.
  static int64_t WidenedBytes(const GemmProvider& provider, const GemmShape& shape);

 private:
  // Rows of B that are widened together.
  struct Block {
    int64_t first_row;
    int64_t rows;
    std::shared_ptr<const Gemm> gemm;
  };
  int64_t HeldBytes(int64_t rows) const { return rows * shape_.n * OperandBytes(held_); }

  const Precision held_;
  const GemmShape shape_;
  const int64_t widened_bytes_;
  std::vector<Block> blocks_;
};

}  // namespace headlight

#endif  // HEADLIGHT_CORE_PRODUCT_NARROW_GEMM_H_
