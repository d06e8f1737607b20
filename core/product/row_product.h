// SPDX-License-Identifier: Apache-2.0
//
// The product of one row with a matrix, for matrices that are small beside a layer's.
#ifndef HEADLIGHT_CORE_PRODUCT_ROW_PRODUCT_H_
#define HEADLIGHT_CORE_PRODUCT_ROW_PRODUCT_H_

#include "core/tensor/matrix_view.h"

namespace headlight {

// out = x w + bias: x [w.rows], bias and out [w.cols]. Each sum is taken in the order of x. `out` aliases
// nothing.
void ProjectRow(const float* x, MatrixView w, const float* bias, float* out);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_PRODUCT_ROW_PRODUCT_H_
