// SPDX-License-Identifier: Apache-2.0
//
// Matrix products on AVX-512 vectors, for whole registers of 32 columns and more; other shapes are oneDNN's. The tile is
// the usual one, 6 rows x 4 registers of C (or 12 x 2) held in registers while one pass is made over the
// depth. What is gained over the ukernel is what happens beside the products: the panel that comes next is
// asked for line by line, so that weights which do not fit L2 together are there when their turn comes.
#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/product/gemm.h"
#include "core/tensor/buffer.h"

// Highway compiles this file once for each instruction set by including it again and again.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/product/gemm_vector.cc"
#include "hwy/foreach_target.h"
// Must come after foreach_target.h.
#include "core/simd/targets.h"
#include "hwy/highway.h"

#ifndef HEADLIGHT_CORE_PRODUCT_GEMM_VECTOR_CC_ONCE_
#define HEADLIGHT_CORE_PRODUCT_GEMM_VECTOR_CC_ONCE_
namespace headlight {

// A call, in words: an f32, a pair of bf16 or four bytes, which is what one lane multiplies with at once.
struct WordProduct {
  const float* a = nullptr;         // [rows, words of all panels], rows lda apart
  const float* const* b = nullptr;  // [panels], each [words, columns] from first_column on, rows ldb apart
  int64_t first_column = 0;
  float* c = nullptr;  // [rows, columns], rows ldc apart; of int32 for kInt8
  int64_t panels = 1;
  int64_t rows = 0;
  int64_t words = 0;
  int64_t lda = 0;
  int64_t ldb = 0;
  int64_t ldc = 0;
  bool accumulate = false;
  const float* bias = nullptr;  // [columns], or null
  Ahead ahead;
};
using WordProductFunction = void (*)(const WordProduct& product);

}  // namespace headlight
#endif  // HEADLIGHT_CORE_PRODUCT_GEMM_VECTOR_CC_ONCE_

HWY_BEFORE_NAMESPACE();
namespace headlight::HWY_NAMESPACE {

#if HWY_TARGET <= HWY_AVX3

// 24 registers of C, 4 of B and one of A leave a few of the 32.
template <int kVectors>
constexpr int kMaxTileRows = 24 / kVectors;
constexpr int64_t kUnrolledWords = 4;

// acc += a * b: sixteen products, or sums of two or four. In assembly, since GCC 12 otherwise lets a product
// take the register of `a` for its sum, and pays for that in copies and spills.
template <Precision kOperands>
HWY_INLINE __m512 MultiplyAdd(__m512 acc, __m512 a, __m512 b) {
  if constexpr (kOperands == Precision::kF32) {
    asm("vfmadd231ps %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b));
  } else if constexpr (kOperands == Precision::kBf16) {
    asm("vdpbf16ps %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b));
  } else {
    asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b));
  }
  return acc;
}

// Rows of A by one pointer for every three of them: one for each would not leave enough registers.
template <int kRows>
struct RowPointers {
  HWY_INLINE RowPointers(const float* first, int64_t stride) : stride(stride) {
#pragma GCC unroll 4
    for (int i = 0; i < kPointers; ++i) {
      const float* row = first + 3 * i * stride;
      asm("" : "+r"(row));  // or the compiler would see through it
      third_rows[i] = row;
    }
  }
  HWY_INLINE const float* At(int row, int64_t word) const {
    return third_rows[row / 3] + row % 3 * stride + word;
  }

  static constexpr int kPointers = (kRows + 2) / 3;
  const float* third_rows[kPointers];
  int64_t stride;
};

// Products of kRows rows with one word of the depth.
template <Precision kOperands, int kRows, int kVectors>
HWY_INLINE void MultiplyWord(const RowPointers<kRows>& a, int64_t word, const float* b,
                             __m512 (&acc)[kRows][kVectors]) {
  __m512 of_b[kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    of_b[v] = _mm512_loadu_ps(b + v * kLanes);
  }
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    float of_row;  // which need not be a float
    std::memcpy(&of_row, a.At(r, word), sizeof(of_row));
    const __m512 of_a = _mm512_set1_ps(of_row);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) acc[r][v] = MultiplyAdd<kOperands>(acc[r][v], of_a, of_b[v]);
  }
}

// What the sums begin with: C itself, the bias or zeros.
template <int kRows, int kVectors>
HWY_INLINE void Begin(const WordProduct& product, const float* c, __m512 (&acc)[kRows][kVectors]) {
  if (product.accumulate) {
#pragma GCC unroll 12
    for (int64_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int64_t v = 0; v < kVectors; ++v) acc[r][v] = _mm512_loadu_ps(c + r * product.ldc + v * kLanes);
    }
    return;
  }
  __m512 first[kVectors];
#pragma GCC unroll 4
  for (__m512& sum : first) sum = _mm512_setzero_ps();
  if (product.bias != nullptr) {
#pragma GCC unroll 4
    for (int64_t v = 0; v < kVectors; ++v) first[v] = _mm512_loadu_ps(product.bias + v * kLanes);
  }
#pragma GCC unroll 12
  for (int64_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int64_t v = 0; v < kVectors; ++v) acc[r][v] = first[v];
  }
}

// Rows [row, row + kRows) of C. Each of their elements is one chain of multiply-adds, whatever panels it goes
// through. With kAhead, asks for a line of product.ahead from `line` on every two words.
template <Precision kOperands, int kRows, int kVectors, bool kAhead>
HWY_NOINLINE void MultiplyTile(const WordProduct& product, int64_t row, const std::byte* line) {
  const int64_t words = product.words, ldb = product.ldb, ldc = product.ldc;
  float* const c = product.c + row * ldc;
  __m512 acc[kRows][kVectors];
  Begin(product, c, acc);
  for (int64_t panel = 0; panel < product.panels; ++panel) {
    const RowPointers<kRows> a(product.a + row * product.lda + panel * words, product.lda);
    const float* const b = product.b[panel] + product.first_column;
    int64_t word = 0;
    for (; word + kUnrolledWords <= words; word += kUnrolledWords) {
#pragma GCC unroll 4
      for (int64_t w = word; w < word + kUnrolledWords; ++w) {
        if (kAhead && (w - word) % 2 == 0) {
          __builtin_prefetch(line, 0, 2);
          line += kCacheLineBytes;
        }
        MultiplyWord<kOperands, kRows, kVectors>(a, w, b + w * ldb, acc);
      }
    }
    for (; word < words; ++word) MultiplyWord<kOperands, kRows, kVectors>(a, word, b + word * ldb, acc);
  }
#pragma GCC unroll 12
  for (int64_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int64_t v = 0; v < kVectors; ++v) _mm512_storeu_ps(c + r * ldc + v * kLanes, acc[r][v]);
  }
}

// A tile of at most kRows rows.
template <Precision kOperands, int kRows, int kVectors>
HWY_INLINE void MultiplyRest(const WordProduct& product, int64_t row, int64_t rows) {
  if (rows == kRows) return MultiplyTile<kOperands, kRows, kVectors, false>(product, row, nullptr);
  if constexpr (kRows > 1) return MultiplyRest<kOperands, kRows - 1, kVectors>(product, row, rows);
}

template <Precision kOperands, int kVectors>
void Multiply(const WordProduct& product) {
  constexpr int kMaxRows = kMaxTileRows<kVectors>;
  const std::byte* line = product.ahead.begin;
  const std::byte* const end = line + product.ahead.size_bytes;
  const int64_t lines_bytes =
      product.words / kUnrolledWords * kUnrolledWords / 2 * kCacheLineBytes;  // that a tile asks for
  for (int64_t row = 0, rows = 0; row < product.rows; row += rows) {
    const int64_t left = product.rows - row;
    rows = std::min<int64_t>(left, kMaxRows);
    // A tile of few rows costs as much as one of half the rows: 4 + 3 rows instead of 6 + 1.
    if (left > kMaxRows && left < kMaxRows + kMaxRows / 2) rows = (left + 1) / 2;
    if (rows < kMaxRows) {
      MultiplyRest<kOperands, kMaxRows - 1, kVectors>(product, row, rows);
    } else if (line < end) {
      MultiplyTile<kOperands, kMaxRows, kVectors, true>(product, row, line);
      line += lines_bytes;
    } else {
      MultiplyTile<kOperands, kMaxRows, kVectors, false>(product, row, nullptr);
    }
  }
}

template <Precision kOperands>
WordProductFunction ForColumns(int64_t columns) {
  switch (columns / kLanes) {
    case 2:
      return Multiply<kOperands, 2>;
    case 3:
      return Multiply<kOperands, 3>;
    case 4:
      return Multiply<kOperands, 4>;
    default:
      return nullptr;
  }
}

#endif

// Null where this instruction set has no such product.
WordProductFunction Choose([[maybe_unused]] Precision operands, [[maybe_unused]] int64_t columns) {
#if HWY_TARGET <= HWY_AVX3
  if (operands == Precision::kF32) return ForColumns<Precision::kF32>(columns);
#endif
#if HWY_TARGET <= HWY_AVX3_ZEN4
  if (operands == Precision::kBf16) return ForColumns<Precision::kBf16>(columns);
#endif
#if HWY_TARGET <= HWY_AVX3_DL
  if (operands == Precision::kInt8) return ForColumns<Precision::kInt8>(columns);
#endif
  return nullptr;
}

}  // namespace headlight::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headlight {

HWY_EXPORT(Choose);

namespace {

// Columns of C that are held in registers together, 32 to 64 of them.
struct ColumnBlock {
  int64_t first_column;
  WordProductFunction multiply;
};

// Blocks as even as whole registers allow. Empty where this CPU has no such product.
std::vector<ColumnBlock> BlocksOf(const GemmShape& shape) {
  const int64_t registers = shape.n / kLanes;
  const int64_t num_blocks = (registers + 3) / 4;
  std::vector<ColumnBlock> blocks;
  for (int64_t block = 0; block < num_blocks; ++block) {
    const int64_t first = block * registers / num_blocks;
    const int64_t end = (block + 1) * registers / num_blocks;
    const WordProductFunction multiply = HWY_DYNAMIC_DISPATCH(Choose)(shape.operands, (end - first) * kLanes);
    if (multiply == nullptr) return {};
    blocks.push_back({first * kLanes, multiply});
  }
  return blocks;
}

class VectorGemm final : public Gemm {
 public:
  VectorGemm(const GemmShape& shape, std::vector<ColumnBlock> blocks)
      : Gemm(shape), blocks_(std::move(blocks)) {}

  void Run(int64_t rows, const void* a, const void* b, void* c, std::byte*, const float* bias,
           Ahead ahead) const override {
    Multiply(rows, a, &b, 1, c, bias, ahead);
  }

  void RunPanels(int64_t rows, const void* a, const void* const* b, int64_t num_panels, void* c,
                 std::byte*) const override {
    Multiply(rows, a, b, num_panels, c, nullptr, {});
  }

  int64_t scratch_bytes() const override { return 0; }

 private:
  void Multiply(int64_t rows, const void* a, const void* const* b, int64_t num_panels, void* c,
                const float* bias, Ahead ahead) const {
    const int64_t operands_per_word = InterleavedRows(shape_.operands);
    for (const auto& [first_column, multiply] : blocks_) {
      multiply({.a = static_cast<const float*>(a),
                .b = reinterpret_cast<const float* const*>(b),
                .first_column = first_column,
                .c = static_cast<float*>(c) + first_column,
                .panels = num_panels,
                .rows = rows,
                .words = shape_.k / operands_per_word,
                .lda = shape_.lda / operands_per_word,
                .ldb = shape_.ldb,
                .ldc = shape_.ldc,
                .accumulate = shape_.accumulate,
                .bias = shape_.bias ? bias + first_column : nullptr,
                .ahead = first_column == 0 ? ahead : Ahead{}});
    }
  }

  const std::vector<ColumnBlock> blocks_;
};

absl::Status Available(Precision operands) {
  HEADLIGHT_RETURN_IF_ERROR(kBrgemmProvider.Available(operands));
  if (HWY_DYNAMIC_DISPATCH(Choose)(operands, 4 * kLanes) != nullptr) return absl::OkStatus();
  return absl::UnimplementedError(
      absl::StrCat("this CPU has no AVX-512 instructions for products of ", Name(operands)));
}

std::unique_ptr<const Gemm> Make(const GemmShape& shape) {
  const bool whole_words = shape.lda % InterleavedRows(shape.operands) == 0;
  if (shape.n % kLanes == 0 && whole_words) {
    std::vector<ColumnBlock> blocks = BlocksOf(shape);
    if (!blocks.empty()) return std::make_unique<VectorGemm>(shape, std::move(blocks));
  }
  return kBrgemmProvider.Make(shape);
}

void BeginWork() { kBrgemmProvider.BeginWork(); }

}  // namespace

const GemmProvider kVectorProvider = {"vector", Available, Make, BeginWork};

}  // namespace headlight
#endif  // HWY_ONCE
