// SPDX-License-Identifier: Apache-2.0
//
// Powers of two for the softmax. Included once per instruction set, as Highway's own *-inl.h files are.
#if defined(HEADLIGHT_CORE_SIMD_EXP2_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HEADLIGHT_CORE_SIMD_EXP2_INL_H_
#undef HEADLIGHT_CORE_SIMD_EXP2_INL_H_
#else
#define HEADLIGHT_CORE_SIMD_EXP2_INL_H_
#endif

#include "core/simd/lanes-inl.h"
#include "core/tensor/bf16.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace headlight::HWY_NAMESPACE {

// 2^f for f in [0, 1): minimax polynomials, relative error 7.5e-8, or 7.5e-5 where the result becomes bf16.
template <typename T>
HWY_INLINE V Exp2Fraction(V f) {
  const auto horner = [&](V power, float coefficient)
                          HWY_ATTR { return hn::MulAdd(power, f, hn::Set(kFloats, coefficient)); };
  if constexpr (sizeof(T) == 2) {
    V power = hn::Set(kFloats, 0.0780245227f);
    power = horner(power, 0.226067155f);
    power = horner(power, 0.695833541f);
    return horner(power, 0.999925219f);
  } else {
    V power = hn::Set(kFloats, 0.00187757667f);
    power = horner(power, 0.00898934009f);
    power = horner(power, 0.0558263181f);
    power = horner(power, 0.240153617f);
    power = horner(power, 0.693153073f);
    return horner(power, 0.999999925f);
  }
}

// 2^x as precisely as an operand of type T can show: the same bits for every instruction set that has fused
// multiply-adds. Subnormal numbers and zero below the normal range, infinity from 128 on; NaN for NaN.
template <typename T>
HWY_INLINE V Exp2(V x) {
#if HWY_TARGET <= HWY_AVX3
  // The reduction rounds down, so that its result is in [0, 1); the scaling rounds its exponent down, and its
  // result once.
  const V fraction{_mm512_reduce_ps(x.raw, 0x09)};
  return V{_mm512_scalef_ps(Exp2Fraction<T>(fraction).raw, x.raw)};
#else
  const hn::RebindToSigned<Floats> integers;
  constexpr float kZero = -151.0f, kInfinity = 129.0f;  // whose powers are that already
  // NaN, as the second one, is what both give.
  x = MinOrSecond(hn::Set(kFloats, kInfinity), MaxOrSecond(hn::Set(kFloats, kZero), x));
  const V whole = hn::Floor(x);
  const V nearest = hn::Sub(x, whole);
  // One less, as a whole number, where the difference was rounded up.
  const auto is_above = hn::RebindMask(integers, hn::Gt(hn::Add(nearest, whole), x));
  const V fraction =
      hn::BitCast(kFloats, hn::Add(hn::BitCast(integers, nearest), hn::VecFromMask(integers, is_above)));
  // 2^whole in two factors, for neither overflows nor underflows, so that only the last product rounds. A
  // float of this size shows whole numbers in its lowest bits; what is above them is shifted out.
  constexpr float kShowWhole = 0x1.8p23f;
  constexpr float kBias = 127.0f;
  const auto half =
      hn::BitCast(integers, hn::MulAdd(whole, hn::Set(kFloats, 0.5f), hn::Set(kFloats, kShowWhole + kBias)));
  const auto both = hn::BitCast(integers, hn::Add(whole, hn::Set(kFloats, kShowWhole + 2 * kBias)));
  const auto power_of = [&](auto exponent)
                            HWY_ATTR { return hn::BitCast(kFloats, hn::ShiftLeft<23>(exponent)); };
  const V scaled = hn::Mul(Exp2Fraction<T>(fraction), power_of(half));
  return hn::Mul(scaled, power_of(hn::Sub(both, half)));
#endif
}

// sum + e x, where e = 2^x: 0 * -inf, a forbidden score, adds nothing.
HWY_INLINE V AddExponent(V e, V x, V sum) {
  constexpr float kLeastExponent = -1024.0f;  // its power is 0 already
  return hn::MulAdd(e, hn::Max(x, hn::Set(kFloats, kLeastExponent)), sum);
}

}  // namespace headlight::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
