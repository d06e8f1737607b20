// SPDX-License-Identifier: Apache-2.0
//
// The functions of one number that feed-forward networks apply, each made of a polynomial and powers of two.
// Included once per instruction set, as Highway's own *-inl.h files are.
#if defined(HEADLIGHT_CORE_SIMD_FUNCTIONS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HEADLIGHT_CORE_SIMD_FUNCTIONS_INL_H_
#undef HEADLIGHT_CORE_SIMD_FUNCTIONS_INL_H_
#else
#define HEADLIGHT_CORE_SIMD_FUNCTIONS_INL_H_
#endif

#include <numbers>

#include "core/simd/exp2-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace headlight::HWY_NAMESPACE {

// x / (1 + 2^exponent)
HWY_INLINE V Sigmoidal(V x, V exponent) {
  return hn::Div(x, hn::Add(hn::Set(kFloats, 1.0f), Exp2<float>(exponent)));
}

struct Relu {
  // Keeps NaN, which Max may lose.
  HWY_INLINE V operator()(V x) const {
    return hn::IfThenElse(hn::Lt(x, hn::Zero(kFloats)), hn::Zero(kFloats), x);
  }
};

// x Phi(x) = max(x, 0) - |x| Phi(-|x|), and the tail Phi(-z) = 2^p(z). p is a minimax fit of log2 Phi(-z) on
// [0, 6], weighted so that the error of the product is below 5.5e-8 everywhere; beyond 6 it is below 6e-9.
struct GeluErf {
  HWY_INLINE V operator()(V x) const {
    const V z = hn::Abs(x);
    const auto horner = [&](V power, float coefficient)
                            HWY_ATTR { return hn::MulAdd(power, z, hn::Set(kFloats, coefficient)); };
    V power = hn::Set(kFloats, 3.39377657e-05f);
    power = horner(power, -0.000775652705f);
    power = horner(power, 0.00809906796f);
    power = horner(power, -0.0534366816f);
    power = horner(power, -0.458755165f);
    power = horner(power, -1.15120614f);
    power = horner(power, -0.999992669f);
    const V tail = hn::Mul(z, Exp2<float>(power));
    const V rest = hn::IfThenZeroElse(hn::Gt(z, hn::Set(kFloats, 6.0f)), tail);
    return hn::Sub(Relu()(x), rest);
  }
};

// The same to within 2e-4, for what is rounded to bf16 or quantised next, at half the price: x (1/2 + z Q(z^2)),
// where z is x between -3.9 and 3.9, Q a minimax fit that is exact at both ends.
struct GeluErfCoarse {
  HWY_INLINE V operator()(V x) const {
    const V end = hn::Set(kFloats, 3.9f);
    const V no_less = MaxOrSecond(hn::Neg(end), x);  // in this order it keeps NaN
    const V z = hn::Min(no_less, end);
    const V square = hn::Mul(z, z);
    const auto horner = [&](V sum, float coefficient)
                            HWY_ATTR { return hn::MulAdd(sum, square, hn::Set(kFloats, coefficient)); };
    V sum = hn::Set(kFloats, 2.84431164e-08f);
    sum = horner(sum, -1.88954110e-06f);
    sum = horner(sum, 5.38188930e-05f);
    sum = horner(sum, -8.72523576e-04f);
    sum = horner(sum, 9.07152225e-03f);
    sum = horner(sum, -6.52960259e-02f);
    sum = horner(sum, 3.98502386e-01f);
    return hn::Mul(no_less, hn::MulAdd(z, sum, hn::Set(kFloats, 0.5f)));
  }
};

// x (1 + tanh(y)) / 2 = x / (1 + e^(-2 y))
struct GeluTanh {
  HWY_INLINE V operator()(V x) const {
    constexpr float kLinear = -2.0f * 0.797884561f * std::numbers::log2e_v<float>;  // -2 sqrt(2 / pi) log2(e)
    const V square = hn::Mul(x, x);
    const V factor = hn::MulAdd(square, hn::Set(kFloats, 0.044715f * kLinear), hn::Set(kFloats, kLinear));
    return Sigmoidal(x, hn::Mul(x, factor));
  }
};

struct Silu {
  HWY_INLINE V operator()(V x) const {
    return Sigmoidal(x, hn::Mul(x, hn::Set(kFloats, -std::numbers::log2e_v<float>)));
  }
};

}  // namespace headlight::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
