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

// 2^x as precisely as an operand of type T can show. Zero below the normal range; above 127 something too
// large to be a sum of probabilities, or infinity; NaN for NaN.
template <typename T>
HWY_INLINE V Exp2(V x) {
#if HWY_TARGET <= HWY_AVX3
  // Neither needs clamps: the reduction's result is in [0, 1), the scaling rounds its exponent down and
  // saturates.
  const V fraction{_mm512_reduce_ps(x.raw, 0x09)};
  return V{_mm512_scalef_ps(Exp2Fraction<T>(fraction).raw, x.raw)};
#else
  const hn::RebindToSigned<Floats> integers;
  const auto underflows = hn::Lt(x, hn::Set(kFloats, -126.0f));
  x = hn::IfThenElse(underflows, hn::Zero(kFloats), x);
  x = hn::IfThenElse(hn::Gt(x, hn::Set(kFloats, 127.5f)), hn::Set(kFloats, 127.5f), x);
  const V whole = hn::Floor(x);
  const V power = Exp2Fraction<T>(hn::Sub(x, whole));
  const auto exponent = hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(integers, whole), hn::Set(integers, 127)));
  return hn::IfThenZeroElse(underflows, hn::Mul(power, hn::BitCast(kFloats, exponent)));
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
