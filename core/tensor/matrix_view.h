// SPDX-License-Identifier: Apache-2.0
//
// Non-owning views of row-major f32 matrices. Views never own, owners (Buffer) never view.
#ifndef HEADLIGHT_CORE_TENSOR_MATRIX_VIEW_H_
#define HEADLIGHT_CORE_TENSOR_MATRIX_VIEW_H_

#include <cstdint>

namespace headlight {

// [rows, cols], row r at data + r * stride. Whoever makes the view keeps the memory alive.
template <typename T>
struct BasicMatrixView {
  T* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;  // elements between the starts of two rows, at least cols

  T* Row(int64_t r) const { return data + r * stride; }
  bool empty() const { return data == nullptr; }
  // Whether both are the same rows of the same memory.
  bool operator==(const BasicMatrixView&) const = default;
};

using MatrixView = BasicMatrixView<const float>;
using MutableMatrixView = BasicMatrixView<float>;

// The same rows, to be read alone.
inline MatrixView Const(const MutableMatrixView& rows) {
  return {rows.data, rows.rows, rows.cols, rows.stride};
}

}  // namespace headlight

#endif  // HEADLIGHT_CORE_TENSOR_MATRIX_VIEW_H_
