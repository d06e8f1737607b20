// SPDX-License-Identifier: Apache-2.0
//
// Bias and activation of a tile of a feed-forward network's hidden units, while it is in cache.
#ifndef HEADLIGHT_CORE_MODEL_ACTIVATION_H_
#define HEADLIGHT_CORE_MODEL_ACTIVATION_H_

#include "core/model/config.h"
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

// out = activation(up + up_bias), gated: activation(gate + gate_bias) * (up + up_bias). `out` aliases neither
// and is not touched beyond its columns. Absolute errors of the activations are below 3e-7 for |x| <= 4,
// relative ones beyond are a few units in the last place.
void Activate(Activation activation, const HiddenTile& tile, BasicMatrixView<float> out);
void Activate(Activation activation, const HiddenTile& tile, BasicMatrixView<Bf16> out);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_MODEL_ACTIVATION_H_
