// SPDX-License-Identifier: Apache-2.0
//
// Weight matrices packed once into panels of columns, so that a product reads each panel from end to end.
#ifndef HEADLIGHT_CORE_ATTENTION_PANELS_H_
#define HEADLIGHT_CORE_ATTENTION_PANELS_H_

#include <algorithm>
#include <cstdint>
#include <memory>

#include "core/attention/gemm.h"
#include "core/tensor/buffer.h"
#include "core/tensor/matrix_view.h"

namespace headlight {

// Columns of a panel: four AVX-512 registers of f32, the widest tile whose products stay in registers.
constexpr int64_t kPanelCols = 64;

// A matrix [rows, cols] as panels of kPanelCols columns, the last one narrower. Panel p is [rows,
// PanelWidth(p)], row-major and contiguous. Immutable after construction.
class PanelMatrix {
 public:
  // Copies `matrix` and adds zero columns up to `cols`. Throws std::bad_alloc.
  PanelMatrix(MatrixView matrix, int64_t cols);

  int64_t rows() const { return rows_; }
  int64_t num_panels() const { return (cols_ + kPanelCols - 1) / kPanelCols; }
  int64_t PanelWidth(int64_t panel) const { return std::min(kPanelCols, cols_ - panel * kPanelCols); }
  const float* Panel(int64_t panel) const { return data_.floats() + panel * kPanelCols * rows_; }

 private:
  int64_t rows_;
  int64_t cols_;
  Buffer data_;
};

// Products of a plain matrix with panels: C[rows, cols] = A[rows, k] B, B a PanelMatrix of k rows and `cols`
// columns. Thread-safe; throws as Gemm does.
class PanelGemm {
 public:
  // `lda` and `ldc` are the elements between rows of A and C.
  PanelGemm(const GemmProvider& provider, int64_t k, int64_t cols, int64_t lda, int64_t ldc);

  // The columns of panels [first_panel, end_panel) of C, which points at its column 0.
  void Run(int64_t rows, const float* a, const PanelMatrix& b, int64_t first_panel, int64_t end_panel,
           float* c, std::byte* scratch) const;

  // All columns.
  void Run(int64_t rows, const float* a, const PanelMatrix& b, float* c, std::byte* scratch) const {
    Run(rows, a, b, 0, b.num_panels(), c, scratch);
  }

  int64_t scratch_bytes() const;

 private:
  std::unique_ptr<const Gemm> full_;  // panels of kPanelCols columns; null if there are none
  std::unique_ptr<const Gemm> last_;  // a narrower last one; null if there is none
};

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_PANELS_H_
