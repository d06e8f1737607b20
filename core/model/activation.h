// SPDX-License-Identifier: Apache-2.0
//
// Bias and activation of a tile of a feed-forward network's hidden units, while it is in cache.
#ifndef HEADLIGHT_CORE_MODEL_ACTIVATION_H_
#define HEADLIGHT_CORE_MODEL_ACTIVATION_H_

#include "core/model/config.h"
#include "core/product/quantize.h"
#include "core/tensor/bf16.h"
#include "core/tensor/matrix_view.h"

namespace headlight {

// A tile of products before their biases. Rows have room for, and biases are as long as, cols rounded up to
// kLanes.
struct HiddenTile {
  MatrixView up;
  const float* up_bias = nullptr;
  MatrixView gate;  // empty unless the network is gated
  const float* gate_bias = nullptr;
};

// The same of quantised operands: sums whose rows are kPanelCols apart, and what turns them into numbers, the
// biases too. `gate` is null unless the network is gated.
struct HiddenSumTile {
  const int32_t* up = nullptr;
  QuantizedProduct up_product;
  const int32_t* gate = nullptr;
  QuantizedProduct gate_product;
};

// out = activation(up + up_bias), gated: activation(gate + gate_bias) * (up + up_bias). `out` aliases neither
// and is not touched beyond its columns. Absolute errors of the activations are below 3e-7 for |x| <= 4,
// relative ones beyond are a few units in the last place. Where bf16 is wanted or int8 was given, those of the
// GELU (erf) are below 2e-4, an eighth of what rounding to bf16 makes of 1.
void Activate(Activation activation, const HiddenTile& tile, BasicMatrixView<float> out);
void Activate(Activation activation, const HiddenTile& tile, BasicMatrixView<Bf16> out);
void Activate(Activation activation, const HiddenSumTile& tile, MutableMatrixView out);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_MODEL_ACTIVATION_H_
