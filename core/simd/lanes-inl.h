// SPDX-License-Identifier: Apache-2.0
//
// The registers that all row operations work in, and how operands get in and out of them. Included once per
// instruction set, as Highway's own *-inl.h files are.
#if defined(HEADLIGHT_CORE_SIMD_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HEADLIGHT_CORE_SIMD_LANES_INL_H_
#undef HEADLIGHT_CORE_SIMD_LANES_INL_H_
#else
#define HEADLIGHT_CORE_SIMD_LANES_INL_H_
#endif

#include "core/simd/targets.h"
#include "core/tensor/bf16.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace headlight::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using Floats = hn::CappedTag<float, kLanes>;
using V = hn::Vec<Floats>;
constexpr Floats kFloats;
constexpr int64_t kStep = hn::MaxLanes(kFloats);  // f32 numbers in a register
// Sums over a row are taken in kLanes lanes, held by so many registers, and folded in one order: their bits
// do not depend on the width of registers.
constexpr int64_t kParts = kLanes / kStep;
using Lanes = V[kParts];

HWY_INLINE V LoadAs(const float* in) { return hn::LoadU(kFloats, in); }

HWY_INLINE V LoadAs(const Bf16* in) {
  const hn::Rebind<hwy::bfloat16_t, Floats> halves;
  return hn::PromoteTo(kFloats, hn::LoadU(halves, reinterpret_cast<const hwy::bfloat16_t*>(in)));
}

HWY_INLINE void StoreAs(V value, float* out) { hn::StoreU(value, kFloats, out); }

// Rounds to nearest, ties to even.
HWY_INLINE void StoreAs(V value, Bf16* out) {
  const hn::Rebind<hwy::bfloat16_t, Floats> halves;
  hn::StoreU(hn::DemoteTo(halves, value), halves, reinterpret_cast<hwy::bfloat16_t*>(out));
}

// The larger and the smaller of two; b where one of them is NaN, as x86 has it. Highway leaves that open: NEON takes the number.
HWY_INLINE V MaxOrSecond(V a, V b) {
#if HWY_ARCH_X86
  return hn::Max(a, b);
#else
  return hn::IfThenElse(hn::Gt(a, b), a, b);
#endif
}

HWY_INLINE V MinOrSecond(V a, V b) {
#if HWY_ARCH_X86
  return hn::Min(a, b);
#else
  return hn::IfThenElse(hn::Lt(a, b), a, b);
#endif
}

using FourFloats = hn::FixedTag<float, 4>;
using V4 = hn::Vec<FourFloats>;
constexpr FourFloats kFourFloats;

template <class D, class Op>
HWY_INLINE V4 FoldToFour(D d, hn::Vec<D> v, const Op& op) {
  if constexpr (hn::MaxLanes(d) == 4) {
    return v;
  } else {
    const hn::Half<D> half;
    return FoldToFour(half, op(hn::LowerHalf(half, v), hn::UpperHalf(half, v)), op);
  }
}

static_assert(kParts <= 4);

template <class Op>
HWY_INLINE V FoldParts(const Lanes& lanes, const Op& op) {
  if constexpr (kParts == 1) return lanes[0];
  if constexpr (kParts == 2) return op(lanes[0], lanes[kParts - 1]);
  return op(op(lanes[0], lanes[kParts / 2]), op(lanes[kParts / 4], lanes[kParts - 1]));
}

// Lane i is `op` over all lanes of rows[i]: four reductions for little more than the price of one. The order
// in a row does not depend on its place.
template <class Op>
HWY_INLINE V4 ReduceFour(const Lanes (&rows)[4], const Op& op) {
  const auto fold = [&](V a, V b) HWY_ATTR {
    return op(hn::InterleaveLower(kFloats, a, b), hn::InterleaveUpper(kFloats, a, b));
  };
  Lanes folded;
#pragma GCC unroll 4
  for (int64_t p = 0; p < kParts; ++p) {
    folded[p] = fold(fold(rows[0][p], rows[2][p]), fold(rows[1][p], rows[3][p]));
  }
  return FoldToFour(kFloats, FoldParts(folded, op), op);
}

HWY_INLINE V4 SumFour(const Lanes (&rows)[4]) {
  return ReduceFour(rows, [](auto a, auto b) HWY_ATTR { return hn::Add(a, b); });
}

HWY_INLINE V4 MaxFour(const Lanes (&rows)[4]) {
  return ReduceFour(rows, [](auto a, auto b) HWY_ATTR { return hn::Max(a, b); });
}

HWY_INLINE float SumOf(V4 lanes) {
  const V4 pairs = hn::Add(lanes, hn::Shuffle1032(lanes));
  return hn::GetLane(hn::Add(pairs, hn::Shuffle2301(pairs)));
}

HWY_INLINE float SumOf(const Lanes& lanes) {
  const auto add = [](auto a, auto b) HWY_ATTR { return hn::Add(a, b); };
  return SumOf(FoldToFour(kFloats, FoldParts(lanes, add), add));
}

// Whether all of n numbers are: x * 0 is NaN for those that are not, and stays so. Whole registers.
HWY_INLINE bool AreFinite(const float* numbers, int64_t n) {
  const V zero = hn::Zero(kFloats);
  V a = zero, b = zero, c = zero, d = zero;
  int64_t i = 0;
  for (; i + 4 * kStep <= n; i += 4 * kStep) {
    a = hn::MulAdd(hn::LoadU(kFloats, numbers + i), zero, a);
    b = hn::MulAdd(hn::LoadU(kFloats, numbers + i + kStep), zero, b);
    c = hn::MulAdd(hn::LoadU(kFloats, numbers + i + 2 * kStep), zero, c);
    d = hn::MulAdd(hn::LoadU(kFloats, numbers + i + 3 * kStep), zero, d);
  }
  for (; i < n; i += kStep) a = hn::MulAdd(hn::LoadU(kFloats, numbers + i), zero, a);
  return hn::AllFalse(kFloats, hn::IsNaN(hn::Add(hn::Add(a, b), hn::Add(c, d))));
}

}  // namespace headlight::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
