// SPDX-License-Identifier: Apache-2.0
#include "core/model/activation.h"

#include <algorithm>

// Highway compiles this file once for each instruction set by including it again and again.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/model/activation.cc"
#include "hwy/foreach_target.h"
// Must come after foreach_target.h.
#include "core/simd/exp2-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace headlight::HWY_NAMESPACE {

constexpr float kLog2E = 1.44269504f;

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

// x (1 + tanh(y)) / 2 = x / (1 + e^(-2 y))
struct GeluTanh {
  HWY_INLINE V operator()(V x) const {
    constexpr float kLinear = -2.0f * 0.797884561f * kLog2E;  // -2 sqrt(2 / pi) log2(e)
    const V square = hn::Mul(x, x);
    const V factor = hn::MulAdd(square, hn::Set(kFloats, 0.044715f * kLinear), hn::Set(kFloats, kLinear));
    return Sigmoidal(x, hn::Mul(x, factor));
  }
};

struct Silu {
  HWY_INLINE V operator()(V x) const { return Sigmoidal(x, hn::Mul(x, hn::Set(kFloats, -kLog2E))); }
};

// Stores the first `count` numbers.
HWY_INLINE void StoreFirst(V value, int64_t count, float* out) { hn::StoreN(value, kFloats, out, count); }
HWY_INLINE void StoreFirst(V value, int64_t count, Bf16* out) {
  alignas(64) Bf16 whole[kLanes];
  StoreAs(value, whole);
  std::copy_n(whole, count, out);
}

template <typename Function, typename T>
HWY_INLINE void ActivateTile(const Function& function, const HiddenTile& tile, BasicMatrixView<T> out) {
  const bool gated = !tile.gate.empty();
  for (int64_t row = 0; row < out.rows; ++row) {
    const float* up = tile.up.Row(row);
    T* const to = out.Row(row);
    for (int64_t col = 0; col < out.cols; col += kStep) {
      V y = hn::Add(hn::LoadU(kFloats, up + col), hn::LoadU(kFloats, tile.up_bias + col));
      if (gated) {
        const V gate =
            hn::Add(hn::LoadU(kFloats, tile.gate.Row(row) + col), hn::LoadU(kFloats, tile.gate_bias + col));
        y = hn::Mul(function(gate), y);
      } else {
        y = function(y);
      }
      if (col + kStep <= out.cols) {
        StoreAs(y, to + col);
      } else {
        StoreFirst(y, out.cols - col, to + col);
      }
    }
  }
}

template <typename T>
HWY_INLINE void ActivateAs(Activation activation, const HiddenTile& tile, BasicMatrixView<T> out) {
  switch (activation) {
    case Activation::kRelu:
      return ActivateTile(Relu(), tile, out);
    case Activation::kGeluErf:
      return ActivateTile(GeluErf(), tile, out);
    case Activation::kGeluTanh:
      return ActivateTile(GeluTanh(), tile, out);
    case Activation::kSilu:
      return ActivateTile(Silu(), tile, out);
  }
}

void ActivateF32(Activation activation, const HiddenTile& tile, BasicMatrixView<float> out) {
  ActivateAs(activation, tile, out);
}

void ActivateBf16(Activation activation, const HiddenTile& tile, BasicMatrixView<Bf16> out) {
  ActivateAs(activation, tile, out);
}

}  // namespace headlight::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headlight {

HWY_EXPORT(ActivateF32);
HWY_EXPORT(ActivateBf16);

void Activate(Activation activation, const HiddenTile& tile, BasicMatrixView<float> out) {
  HWY_DYNAMIC_DISPATCH(ActivateF32)(activation, tile, out);
}

void Activate(Activation activation, const HiddenTile& tile, BasicMatrixView<Bf16> out) {
  HWY_DYNAMIC_DISPATCH(ActivateBf16)(activation, tile, out);
}

}  // namespace headlight
#endif  // HWY_ONCE
