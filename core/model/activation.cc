// SPDX-License-Identifier: Apache-2.0
#include "core/model/activation.h"

#include <algorithm>

// Highway compiles this file once for each instruction set by including it again and again.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/model/activation.cc"
#include "hwy/foreach_target.h"
// Must come after foreach_target.h.
#include "core/simd/functions-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace headlight::HWY_NAMESPACE {

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
