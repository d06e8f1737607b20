// SPDX-License-Identifier: Apache-2.0
#include "core/product/narrow_gemm.h"

#include <algorithm>

#include "core/product/gemm_cache.h"
#include "core/tensor/buffer.h"

// Highway compiles this file once for each instruction set by including it again and again.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/product/narrow_gemm.cc"
#include "hwy/foreach_target.h"
// Must come after foreach_target.h.
#include "core/simd/lanes-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace headlight::HWY_NAMESPACE {

constexpr hn::RebindToUnsigned<Floats> kWords;
constexpr hn::RebindToSigned<Floats> kIntegers;
using Words = hn::Vec<hn::RebindToUnsigned<Floats>>;

// The numbers of the rows that a register of words holds, of kInt8 times the scales of their columns.
template <Precision kHeld>
struct Widened;

template <>
struct Widened<Precision::kBf16> {
  static constexpr int kRows = 2;
  HWY_INLINE Widened(Words words, V /*scale*/) {
    rows[0] = hn::BitCast(kFloats, hn::ShiftLeft<16>(words));
    rows[1] = hn::BitCast(kFloats, hn::And(words, hn::Set(kWords, 0xffff0000u)));
  }
  V rows[kRows];
};

template <>
struct Widened<Precision::kInt8> {
  static constexpr int kRows = 4;
  HWY_INLINE Widened(Words words, V scale) {
    const auto number = [scale](Words high) HWY_ATTR {
      return hn::Mul(hn::ConvertTo(kFloats, hn::ShiftRight<24>(hn::BitCast(kIntegers, high))), scale);
    };
    rows[0] = number(hn::ShiftLeft<24>(words));
    rows[1] = number(hn::ShiftLeft<16>(words));
    rows[2] = number(hn::ShiftLeft<8>(words));
    rows[3] = number(words);
  }
  V rows[kRows];
};

// Columns [col, col + count) of all rows, count at most kStep.
template <Precision kHeld, bool kWhole, typename Take>
HWY_INLINE void WidenColumns(const uint32_t* words, int64_t col, size_t count, const NarrowPanel& panel,
                             const Take& take) {
  const Words held = kWhole ? hn::LoadU(kWords, words + col) : hn::LoadN(kWords, words + col, count);
  V scale = hn::Zero(kFloats);
  if constexpr (kHeld == Precision::kInt8) {
    scale =
        kWhole ? hn::LoadU(kFloats, panel.col_scale + col) : hn::LoadN(kFloats, panel.col_scale + col, count);
  }
  Widened<kHeld> widened(held, scale);
  if (panel.factor != 1.0f) {
    const V factor = hn::Set(kFloats, panel.factor);
    for (V& row : widened.rows) row = hn::Mul(row, factor);
  }
  take(widened.rows);
}

// Calls take(first row, column, columns, registers of the rows) for each register of the panel.
template <Precision kHeld, typename Take>
HWY_INLINE void ForEachWidened(const NarrowPanel& panel, int64_t rows, int64_t width, Ahead ahead,
                               const Take& take) {
  constexpr int64_t kRows = Widened<kHeld>::kRows;
  const auto* words = reinterpret_cast<const uint32_t*>(panel.operands);
  int64_t asked_bytes = 0;
  const int64_t step_bytes = width * int64_t{sizeof(uint32_t)};
  for (int64_t row = 0; row < rows; row += kRows, words += width) {
    for (const int64_t to = std::min(asked_bytes + step_bytes, ahead.size_bytes); asked_bytes < to;
         asked_bytes += kCacheLineBytes) {
      __builtin_prefetch(ahead.begin + asked_bytes, 0, 2);
    }
    int64_t col = 0;
    for (; col + kStep <= width; col += kStep) {
      WidenColumns<kHeld, true>(words, col, kStep, panel,
                                [&](const auto& of_rows) HWY_ATTR { take(row, col, kStep, of_rows); });
    }
    if (col == width) continue;
    WidenColumns<kHeld, false>(words, col, width - col, panel,
                               [&](const auto& of_rows) HWY_ATTR { take(row, col, width - col, of_rows); });
  }
}

template <Precision kHeld>
void Widen(const NarrowPanel& panel, int64_t rows, int64_t width, float* out, Ahead ahead) {
  ForEachWidened<kHeld>(panel, rows, width, ahead,
                        [&](int64_t row, int64_t col, int64_t count, const auto& of_rows) HWY_ATTR {
                          float* to = out + row * width + col;
                          for (const V& numbers : of_rows) {
                            if (count == kStep) {
                              hn::StoreU(numbers, kFloats, to);
                            } else {
                              hn::StoreN(numbers, kFloats, to, count);
                            }
                            to += width;
                          }
                        });
}

// Rounded to nearest, ties to even, in the lower half of each word.
HWY_INLINE Words RoundedToBf16(V numbers) {
  const Words bits = hn::BitCast(kWords, numbers);
  const Words odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(kWords, 1u));
  return hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(kWords, 0x7fffu))));
}

void WidenAsFloats(Precision held, const NarrowPanel& panel, int64_t rows, int64_t width, float* out,
                   Ahead ahead) {
  if (held == Precision::kBf16) return Widen<Precision::kBf16>(panel, rows, width, out, ahead);
  return Widen<Precision::kInt8>(panel, rows, width, out, ahead);
}

void WidenAsBf16(const NarrowPanel& panel, int64_t rows, int64_t width, uint32_t* out, Ahead ahead) {
  ForEachWidened<Precision::kInt8>(
      panel, rows, width, ahead, [&](int64_t row, int64_t col, int64_t count, const auto& of_rows) HWY_ATTR {
        uint32_t* to = out + row / 2 * width + col;
        for (int pair = 0; pair < 2; ++pair, to += width) {
          const Words words = hn::Or(RoundedToBf16(of_rows[2 * pair]),
                                     hn::ShiftLeft<16>(RoundedToBf16(of_rows[2 * pair + 1])));
          if (count == kStep) {
            hn::StoreU(words, kWords, to);
          } else {
            hn::StoreN(words, kWords, to, count);
          }
        }
      });
}

}  // namespace headlight::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headlight {

HWY_EXPORT(WidenAsFloats);
HWY_EXPORT(WidenAsBf16);

void WidenRows(Precision held, const NarrowPanel& panel, int64_t rows, int64_t width, float* out,
               Ahead ahead) {
  HWY_DYNAMIC_DISPATCH(WidenAsFloats)(held, panel, rows, width, out, ahead);
}

void WidenRowsToBf16(const NarrowPanel& panel, int64_t rows, int64_t width, std::byte* out, Ahead ahead) {
  HWY_DYNAMIC_DISPATCH(WidenAsBf16)(panel, rows, width, reinterpret_cast<uint32_t*>(out), ahead);
}

namespace {

// Rows of B in f32 that are widened together: 32 KiB of 64 columns.
constexpr int64_t kBlockRows = 128;

// Whether a product may go on where another one of the same rows has ended, to the same bits as one product.
bool ChainsGoOn(const GemmProvider& provider, const GemmShape& shape) {
  return shape.operands == Precision::kF32 && &provider != &kMatmulProvider &&
         MakeVectorGemm(shape) != nullptr;
}

int64_t BlockRows(const GemmProvider& provider, const GemmShape& shape) {
  return ChainsGoOn(provider, shape) ? std::min(shape.k, kBlockRows) : shape.k;
}

}  // namespace

NarrowGemm::NarrowGemm(const GemmProvider& provider, Precision held, const GemmShape& shape)
    : held_(held), shape_(shape), widened_bytes_(WidenedBytes(provider, shape)) {
  const int64_t block_rows = BlockRows(provider, shape);
  for (int64_t row = 0; row < shape.k; row += block_rows) {
    GemmShape of_block = shape;
    of_block.k = std::min(block_rows, shape.k - row);
    of_block.accumulate = shape.accumulate || row > 0;
    of_block.bias = shape.bias && row == 0;
    blocks_.push_back({row, of_block.k, SharedGemm(provider, of_block)});
  }
}

int64_t NarrowGemm::WidenedBytes(const GemmProvider& provider, const GemmShape& shape) {
  const int64_t rows = RoundUp(BlockRows(provider, shape), InterleavedRows(Precision::kInt8));
  return RoundUp(rows * shape.n * OperandBytes(shape.operands), kCacheLineBytes);
}

int64_t NarrowGemm::scratch_bytes() const {
  int64_t of_gemms = 0;
  for (const Block& block : blocks_) of_gemms = std::max(of_gemms, block.gemm->scratch_bytes());
  return widened_bytes_ + of_gemms;
}

void NarrowGemm::Run(int64_t rows, const void* a, const NarrowPanel& b, void* c, std::byte* scratch,
                     const float* bias, Ahead ahead) const {
  for (const Block& block : blocks_) {
    NarrowPanel part = b;
    part.operands += HeldBytes(block.first_row);
    const int64_t part_rows = RoundUp(block.rows, InterleavedRows(held_));
    const int64_t end_row = block.first_row + block.rows;
    const Ahead next = end_row < shape_.k ? Ahead{b.operands + HeldBytes(end_row),
                                                  HeldBytes(std::min(block.rows, shape_.k - end_row))}
                                          : ahead;
    if (shape_.operands == Precision::kF32) {
      WidenRows(held_, part, part_rows, shape_.n, reinterpret_cast<float*>(scratch), next);
    } else {
      WidenRowsToBf16(part, part_rows, shape_.n, scratch, next);
    }
    const auto* const columns =
        static_cast<const std::byte*>(a) + block.first_row * OperandBytes(shape_.operands);
    block.gemm->Run(rows, columns, scratch, c, scratch + widened_bytes_, bias, {});
  }
}

}  // namespace headlight
#endif  // HWY_ONCE
