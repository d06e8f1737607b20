// SPDX-License-Identifier: Apache-2.0
//
// Matrix products on vectors. The tile is the usual one, 6 rows x 64 columns of C (or 12 x 32; with AVX2
// 6 x 16) held in registers while one pass is made over the depth. What is gained over the ukernel is what
// happens beside the products: the panel that comes next is asked for line by line, so that weights which do
// not fit L2 together are there when their turn comes. And sums begin with what C holds or with a bias, which
// the ukernels add at the end: each element is one chain of multiply-adds whatever the instruction set.
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
#include "core/simd/lanes-inl.h"
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
  int64_t last_columns = 0;     // of the last register, where it is not whole
  Ahead ahead;
};
using WordProductFunction = void (*)(const WordProduct& product);

}  // namespace headlight
#endif  // HEADLIGHT_CORE_PRODUCT_GEMM_VECTOR_CC_ONCE_

HWY_BEFORE_NAMESPACE();
namespace headlight::HWY_NAMESPACE {

#if HWY_TARGET <= HWY_AVX2

using Register = decltype(V::raw);

// Rows of C in registers: as many as leave a few of 32 (16 with AVX2) for B, A and the mask of a last register
// that is not whole.
template <int kVectors, bool kWhole>
constexpr int kMaxTileRows = kWhole ? (kParts == 1 ? 24 : 12) / kVectors : (kVectors == 1 ? 8 : 5);
constexpr int64_t kUnrolledWords = 4;

// acc += a * b: a product for each lane, or sums of two or four. In assembly, since GCC 12 otherwise lets a
// product take the register of `a` for its sum, and pays for that in copies and spills.
template <Precision kOperands>
HWY_INLINE Register MultiplyAdd(Register acc, Register a, Register b) {
#if HWY_TARGET <= HWY_AVX3
  if constexpr (kOperands == Precision::kF32) {
    asm("vfmadd231ps %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b));
  } else if constexpr (kOperands == Precision::kBf16) {
    asm("vdpbf16ps %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b));
  } else {
    asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b));
  }
#else
  static_assert(kOperands == Precision::kF32);
  asm("vfmadd231ps %2, %1, %0" : "+x"(acc) : "x"(a), "x"(b));
#endif
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

// Columns of a row in registers, of which the last one may not be whole.
template <int kVectors, bool kWhole>
struct Columns {
  HWY_INLINE explicit Columns(int64_t last) : mask(hn::FirstN(kFloats, static_cast<size_t>(last))) {}

  HWY_INLINE void Load(const float* from, Register (&registers)[kVectors]) const {
#pragma GCC unroll 4
    for (int v = 0; v < kWholeRegisters; ++v) registers[v] = hn::LoadU(kFloats, from + v * kStep).raw;
    if constexpr (!kWhole) registers[kLast] = hn::MaskedLoad(mask, kFloats, from + kLast * kStep).raw;
  }
  HWY_INLINE void Store(const Register (&registers)[kVectors], float* to) const {
#pragma GCC unroll 4
    for (int v = 0; v < kWholeRegisters; ++v) hn::StoreU(V{registers[v]}, kFloats, to + v * kStep);
    if constexpr (!kWhole) hn::BlendedStore(V{registers[kLast]}, mask, kFloats, to + kLast * kStep);
  }

  static constexpr int kLast = kVectors - 1;
  static constexpr int kWholeRegisters = kWhole ? kVectors : kLast;
  const hn::Mask<Floats> mask;
};

// Products of kRows rows with one word of the depth.
template <Precision kOperands, int kRows, int kVectors, bool kWhole>
HWY_INLINE void MultiplyWord(const RowPointers<kRows>& a, int64_t word, const float* b,
                             const Columns<kVectors, kWhole>& columns, Register (&acc)[kRows][kVectors]) {
  Register of_b[kVectors];
  columns.Load(b, of_b);
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    float of_row;  // which need not be a float
    std::memcpy(&of_row, a.At(r, word), sizeof(of_row));
    const Register of_a = hn::Set(kFloats, of_row).raw;
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) acc[r][v] = MultiplyAdd<kOperands>(acc[r][v], of_a, of_b[v]);
  }
}

// What the sums begin with: C itself, the bias or zeros.
template <int kRows, int kVectors, bool kWhole>
HWY_INLINE void Begin(const WordProduct& product, const float* c, const Columns<kVectors, kWhole>& columns,
                      Register (&acc)[kRows][kVectors]) {
  if (product.accumulate) {
#pragma GCC unroll 12
    for (int64_t r = 0; r < kRows; ++r) columns.Load(c + r * product.ldc, acc[r]);
    return;
  }
  Register first[kVectors];
#pragma GCC unroll 4
  for (Register& sum : first) sum = hn::Zero(kFloats).raw;
  if (product.bias != nullptr) columns.Load(product.bias, first);
#pragma GCC unroll 12
  for (int64_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int64_t v = 0; v < kVectors; ++v) acc[r][v] = first[v];
  }
}

// Rows [row, row + kRows) of C. Each of their elements is one chain of multiply-adds, whatever panels it goes
// through. With kAhead, asks for a line of product.ahead from `line` on every two words.
template <Precision kOperands, int kRows, int kVectors, bool kWhole, bool kAhead>
HWY_NOINLINE void MultiplyTile(const WordProduct& product, int64_t row, const std::byte* line) {
  const int64_t words = product.words, ldb = product.ldb, ldc = product.ldc;
  float* const c = product.c + row * ldc;
  const Columns<kVectors, kWhole> columns(product.last_columns);
  Register acc[kRows][kVectors];
  Begin(product, c, columns, acc);
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
        MultiplyWord<kOperands>(a, w, b + w * ldb, columns, acc);
      }
    }
    for (; word < words; ++word) MultiplyWord<kOperands>(a, word, b + word * ldb, columns, acc);
  }
#pragma GCC unroll 12
  for (int64_t r = 0; r < kRows; ++r) columns.Store(acc[r], c + r * ldc);
}

// A tile of at most kRows rows.
template <Precision kOperands, int kRows, int kVectors, bool kWhole>
HWY_INLINE void MultiplyRest(const WordProduct& product, int64_t row, int64_t rows) {
  if (rows == kRows) return MultiplyTile<kOperands, kRows, kVectors, kWhole, false>(product, row, nullptr);
  if constexpr (kRows > 1) return MultiplyRest<kOperands, kRows - 1, kVectors, kWhole>(product, row, rows);
}

template <Precision kOperands, int kVectors, bool kWhole = true>
void Multiply(const WordProduct& product) {
  constexpr int kMaxRows = kMaxTileRows<kVectors, kWhole>;
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
      MultiplyRest<kOperands, kMaxRows - 1, kVectors, kWhole>(product, row, rows);
    } else if (kWhole && line < end) {
      MultiplyTile<kOperands, kMaxRows, kVectors, kWhole, kWhole>(product, row, line);
      line += lines_bytes;
    } else {
      MultiplyTile<kOperands, kMaxRows, kVectors, kWhole, false>(product, row, nullptr);
    }
  }
}

// Of whole registers of AVX-512.
template <Precision kOperands>
WordProductFunction ForColumns(int64_t columns) {
#if HWY_TARGET <= HWY_AVX3
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
#else
  if (columns == 2 * kLanes) return Multiply<kOperands, 4>;
  return columns == kLanes ? Multiply<kOperands, 2> : nullptr;
#endif
}

#endif

// Null where this instruction set has no such product.
WordProductFunction Choose([[maybe_unused]] Precision operands, [[maybe_unused]] int64_t columns) {
#if HWY_TARGET <= HWY_AVX2
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

// Of at most kLanes columns in f32.
WordProductFunction ChooseNarrow([[maybe_unused]] int64_t columns) {
#if HWY_TARGET <= HWY_AVX2
  if (columns <= kStep) return Multiply<Precision::kF32, 1, false>;
  if constexpr (kParts == 2) return Multiply<Precision::kF32, 2, false>;
#endif
  return nullptr;
}

int64_t RegisterLanes() { return kStep; }

// Whole registers of AVX-512 that are columns of one tile, which may be of few rows; 0: there are no products.
int64_t RegistersAtOnce([[maybe_unused]] bool few_rows) {
#if HWY_TARGET <= HWY_AVX3
  return 4;
#elif HWY_TARGET <= HWY_AVX2
  return few_rows ? 2 : 1;  // or their few sums would wait for each other
#else
  return 0;
#endif
}

}  // namespace headlight::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headlight {

HWY_EXPORT(Choose);
HWY_EXPORT(ChooseNarrow);
HWY_EXPORT(RegistersAtOnce);
HWY_EXPORT(RegisterLanes);

namespace {

// Columns of C that are held in registers together.
struct ColumnBlock {
  int64_t first_column;
  int64_t last_columns;  // of the last register
  WordProductFunction multiply;
};

constexpr int64_t kFewRows = 2;

// Blocks as even as whole registers allow, for at most kFewRows rows or for more. Empty where this CPU has no
// such product.
std::vector<ColumnBlock> BlocksOf(const GemmShape& shape, bool few_rows) {
  const int64_t at_once = HWY_DYNAMIC_DISPATCH(RegistersAtOnce)(few_rows);
  if (at_once == 0) return {};
  const int64_t registers = shape.n / kLanes;
  const int64_t num_blocks = (registers + at_once - 1) / at_once;
  std::vector<ColumnBlock> blocks;
  const auto add = [&](int64_t first_column, int64_t columns) {
    WordProductFunction multiply = HWY_DYNAMIC_DISPATCH(Choose)(shape.operands, columns);
    if (multiply == nullptr && columns <= kLanes && shape.operands == Precision::kF32) {
      multiply = HWY_DYNAMIC_DISPATCH(ChooseNarrow)(columns);
    }
    const int64_t step = HWY_DYNAMIC_DISPATCH(RegisterLanes)();
    blocks.push_back({first_column, (columns - 1) % step + 1, multiply});
    return multiply != nullptr;
  };
  for (int64_t block = 0; block < num_blocks; ++block) {
    const int64_t first = block * registers / num_blocks;
    const int64_t end = (block + 1) * registers / num_blocks;
    if (!add(first * kLanes, (end - first) * kLanes)) return {};
  }
  const int64_t rest = shape.n % kLanes;
  if (rest != 0 && !add(registers * kLanes, rest)) return {};
  return blocks;
}

class VectorGemm final : public Gemm {
 public:
  VectorGemm(const GemmShape& shape, std::vector<ColumnBlock> blocks)
      : Gemm(shape), blocks_(std::move(blocks)), few_rows_blocks_(BlocksOf(shape, true)) {}

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
    for (const auto& [first_column, last_columns, multiply] : rows > kFewRows ? blocks_ : few_rows_blocks_) {
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
                .last_columns = last_columns,
                .ahead = first_column == 0 ? ahead : Ahead{}});
    }
  }

  const std::vector<ColumnBlock> blocks_;
  const std::vector<ColumnBlock> few_rows_blocks_;
};

absl::Status Available(Precision operands) {
  HEADLIGHT_RETURN_IF_ERROR(kBrgemmProvider.Available(operands));
  if (HWY_DYNAMIC_DISPATCH(Choose)(operands, 4 * kLanes) != nullptr) return absl::OkStatus();
  return absl::UnimplementedError(
      absl::StrCat("this CPU has no AVX-512 instructions for products of ", Name(operands)));
}

bool IsWhole(const GemmShape& shape) {
  return shape.n % kLanes == 0 && shape.lda % InterleavedRows(shape.operands) == 0;
}

std::unique_ptr<const Gemm> Make(const GemmShape& shape) {
  if (IsWhole(shape) && shape.n >= 2 * kLanes) {
    std::vector<ColumnBlock> blocks = BlocksOf(shape, false);
    if (!blocks.empty()) return std::make_unique<VectorGemm>(shape, std::move(blocks));
  }
  return kBrgemmProvider.Make(shape);
}

void BeginWork() { kBrgemmProvider.BeginWork(); }

}  // namespace

const GemmProvider kVectorProvider = {"vector", Available, Make, BeginWork};

std::unique_ptr<const Gemm> MakeVectorGemm(const GemmShape& shape) {
  if (shape.operands != Precision::kF32) return nullptr;
  std::vector<ColumnBlock> blocks = BlocksOf(shape, false);
  if (blocks.empty()) return nullptr;
  return std::make_unique<VectorGemm>(shape, std::move(blocks));
}

}  // namespace headlight
#endif  // HWY_ONCE
