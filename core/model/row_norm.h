// SPDX-License-Identifier: Apache-2.0
//
// Residual and norm in one pass over the rows. Each row is worked on by itself, in a fixed order.
#ifndef HEADLIGHT_CORE_MODEL_ROW_NORM_H_
#define HEADLIGHT_CORE_MODEL_ROW_NORM_H_

#include "core/model/config.h"
#include "core/model/parameters.h"
#include "core/tensor/matrix_view.h"

namespace headlight {

// What a norm does to a row; NormKind says it in formulas.
struct RowNorm {
  RowNorm() = default;
  // `weights` must outlive it.
  RowNorm(NormKind kind, double eps, const NormParameters& weights)
      : kind(kind),
        eps(eps),
        gain(weights.gain.data()),
        bias(weights.bias.empty() ? nullptr : weights.bias.data()) {}

  NormKind kind = NormKind::kLayerNorm;
  double eps = 0.0;
  const float* gain = nullptr;  // [cols]
  const float* bias = nullptr;  // [cols], or null for none
};

// What is summed before a norm: x, plus f if there is one, plus f's bias if there is one.
struct Residual {
  MatrixView x;
  MatrixView f;                   // may be empty
  const float* f_bias = nullptr;  // [cols], or null
};

// out = norm(x + f + f_bias), row by row; the sum itself goes to `sum` unless that is empty. `out` and `sum`
// may be x or f, or each other's rows where `sum` is not wanted.
void AddAndNorm(const RowNorm& norm, const Residual& residual, MutableMatrixView sum, MutableMatrixView out);

// out = x + f + f_bias; `out` may be x or f.
void AddRows(const Residual& residual, MutableMatrixView out);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_MODEL_ROW_NORM_H_
