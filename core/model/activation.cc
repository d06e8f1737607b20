// SPDX-License-Identifier: Apache-2.0
#include "core/model/activation.h"

#include <algorithm>

#include "core/product/parameter_panels.h"

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

// A row of products with their biases.
struct RowOfFloats {
  HWY_INLINE RowOfFloats(const MatrixView& products, const float* bias, int64_t row)
      : products(products.Row(row)), bias(bias) {}
  HWY_INLINE V At(int64_t col) const {
    return hn::Add(hn::LoadU(kFloats, products + col), hn::LoadU(kFloats, bias + col));
  }
  const float* products;
  const float* bias;
};

// The same of sums of quantised operands.
struct RowOfSums {
  HWY_INLINE RowOfSums(const int32_t* sums, const QuantizedProduct& product, int64_t row)
      : sums(sums + row * kPanelCols),
        product(product),
        scale(hn::Set(kFloats, product.row_scale[row])),
        zero(hn::Set(kFloats, product.row_zero[row])) {}
  HWY_INLINE V At(int64_t col) const {
    const V sum = hn::ConvertTo(kFloats, hn::LoadU(hn::RebindToSigned<Floats>(), sums + col));
    const V shifted = hn::NegMulAdd(zero, hn::LoadU(kFloats, product.col_sum + col), sum);
    const V scaled = hn::Mul(shifted, hn::LoadU(kFloats, product.col_scale + col));
    return hn::MulAdd(scaled, scale, hn::LoadU(kFloats, product.bias + col));
  }
  const int32_t* sums;
  const QuantizedProduct& product;
  V scale, zero;
};

struct Ungated {};

HWY_INLINE V Gated(const auto& function, const auto& up, const auto& gate, int64_t col) {
  return hn::Mul(function(gate.At(col)), up.At(col));
}
HWY_INLINE V Gated(const auto& function, const auto& up, const Ungated&, int64_t col) {
  return function(up.At(col));
}

template <typename T>
HWY_INLINE void ActivateRow(const auto& function, const auto& up, const auto& gate, int64_t cols, T* out) {
  int64_t col = 0;
  for (; col + kStep <= cols; col += kStep) StoreAs(Gated(function, up, gate, col), out + col);
  if (col < cols) StoreFirst(Gated(function, up, gate, col), cols - col, out + col);
}

template <typename T>
HWY_INLINE void ActivateTile(const auto& function, const HiddenTile& tile, const BasicMatrixView<T>& out) {
  for (int64_t row = 0; row < out.rows; ++row) {
    const RowOfFloats up(tile.up, tile.up_bias, row);
    if (tile.gate.empty()) {
      ActivateRow(function, up, Ungated(), out.cols, out.Row(row));
    } else {
      ActivateRow(function, up, RowOfFloats(tile.gate, tile.gate_bias, row), out.cols, out.Row(row));
    }
  }
}

HWY_INLINE void ActivateTile(const auto& function, const HiddenSumTile& tile, const MutableMatrixView& out) {
  for (int64_t row = 0; row < out.rows; ++row) {
    const RowOfSums up(tile.up, tile.up_product, row);
    if (tile.gate == nullptr) {
      ActivateRow(function, up, Ungated(), out.cols, out.Row(row));
    } else {
      ActivateRow(function, up, RowOfSums(tile.gate, tile.gate_product, row), out.cols, out.Row(row));
    }
  }
}

template <typename Gelu>
HWY_INLINE void ActivateAs(Activation activation, const auto& tile, const auto& out) {
  switch (activation) {
    case Activation::kRelu:
      return ActivateTile(Relu(), tile, out);
    case Activation::kGeluErf:
      return ActivateTile(Gelu(), tile, out);
    case Activation::kGeluTanh:
      return ActivateTile(GeluTanh(), tile, out);
    case Activation::kSilu:
      return ActivateTile(Silu(), tile, out);
  }
}

void ActivateF32(Activation activation, const HiddenTile& tile, BasicMatrixView<float> out) {
  ActivateAs<GeluErf>(activation, tile, out);
}

void ActivateBf16(Activation activation, const HiddenTile& tile, BasicMatrixView<Bf16> out) {
  ActivateAs<GeluErfCoarse>(activation, tile, out);
}

void ActivateSums(Activation activation, const HiddenSumTile& tile, MutableMatrixView out) {
  ActivateAs<GeluErfCoarse>(activation, tile, out);
}

}  // namespace headlight::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headlight {

HWY_EXPORT(ActivateF32);
HWY_EXPORT(ActivateBf16);
HWY_EXPORT(ActivateSums);

void Activate(Activation activation, const HiddenTile& tile, BasicMatrixView<float> out) {
  HWY_DYNAMIC_DISPATCH(ActivateF32)(activation, tile, out);
}

void Activate(Activation activation, const HiddenTile& tile, BasicMatrixView<Bf16> out) {
  HWY_DYNAMIC_DISPATCH(ActivateBf16)(activation, tile, out);
}

void Activate(Activation activation, const HiddenSumTile& tile, MutableMatrixView out) {
  HWY_DYNAMIC_DISPATCH(ActivateSums)(activation, tile, out);
}

}  // namespace headlight
#endif  // HWY_ONCE
