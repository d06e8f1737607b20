// SPDX-License-Identifier: Apache-2.0
//
// Weight matrices packed once into panels of columns, so that a product reads each panel from end to end.
#ifndef HEADLIGHT_CORE_PRODUCT_PARAMETER_PANELS_H_
#define HEADLIGHT_CORE_PRODUCT_PARAMETER_PANELS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/product/gemm.h"
#include "core/product/narrow_gemm.h"
#include "core/product/operands.h"
#include "core/product/quantize.h"
#include "core/runtime/interruption.h"
#include "core/runtime/numa.h"
#include "core/tensor/buffer.h"
#include "core/tensor/matrix_view.h"

namespace headlight {

// Columns of a panel: four AVX-512 registers of f32, the widest tile whose products stay in registers.
constexpr int64_t kPanelCols = 64;

// One block of memory for all panels of a layer: large blocks get huge pages. Threads on every node read it, so
// its pages lie on all of them in turn.
class PanelStorage {
 public:
  // `nodes` of the machine that are to share it. Throws std::bad_alloc.
  explicit PanelStorage(int64_t size_bytes, const std::vector<int>& nodes = NumaNodes());

  // The next `size_bytes` of the block, rounded up to cache lines.
  std::byte* Take(int64_t size_bytes);

  int64_t size_bytes() const { return block_.size_bytes(); }

 private:
  Buffer block_;
  int64_t taken_bytes_ = 0;
};

// A matrix [rows, cols] as panels of kPanelCols columns, the last one narrower. Panel p is [depth,
// PanelWidth(p)] in the layout that Gemm wants of B, contiguous; depth is `rows` with zeros added as
// OperandCols says. For kInt8 each column is quantised with a scale of its own: weight = col_scale * operand,
// |operand| <= 127. Immutable after construction.
class PanelMatrix {
 public:
  // Converts `matrix` and adds zero columns up to `cols`. `factor`, only for products in a wider precision, is
  // what numbers are multiplied by when they are widened. Throws std::bad_alloc.
  PanelMatrix(Precision precision, MatrixView matrix, int64_t cols, PanelStorage& storage,
              float factor = 1.0f);

  // What the panels of a matrix take of a PanelStorage.
  static int64_t StorageBytes(Precision precision, int64_t rows, int64_t cols);

  Precision precision() const { return precision_; }
  int64_t num_panels() const { return (cols_ + kPanelCols - 1) / kPanelCols; }
  int64_t PanelWidth(int64_t panel) const { return std::min(kPanelCols, cols_ - panel * kPanelCols); }
  // A whole panel, to be asked for ahead of its product.
  Ahead PanelAhead(int64_t panel) const {
    return {Panel(panel), depth_ * PanelWidth(panel) * OperandBytes(precision_)};
  }
  const std::byte* Panel(int64_t panel) const {
    return panels_ + panel * kPanelCols * depth_ * OperandBytes(precision_);
  }
  // kInt8 only, one for each column: the scale, and the sum of the column's operands. Room for whole registers.
  const float* col_scale() const { return col_scale_.floats(); }
  const float* col_sum() const { return col_sum_.floats(); }
  // For products in a wider precision.
  NarrowPanel NarrowPanelAt(int64_t panel) const {
    return {Panel(panel), precision_ == Precision::kInt8 ? col_scale() + panel * kPanelCols : nullptr,
            factor_};
  }
  // kInt8 only: what turns sums of the panel's products with `a` into numbers. `bias` of the panel, or null.
  QuantizedProduct ProductOf(const Operands& a, int64_t panel, const float* bias) const {
    return {a.scale, a.zero, col_scale() + panel * kPanelCols, col_sum() + panel * kPanelCols, bias};
  }

 private:
  void PackPanel(MatrixView matrix, int64_t panel);
  void PackQuantised(MatrixView panel, int64_t first_col, int64_t width, int8_t* out);

  Precision precision_;
  int64_t depth_;
  int64_t cols_;
  float factor_;
  std::byte* panels_;  // in the storage
  Buffer col_scale_;
  Buffer col_sum_;
};

// Rounds the numbers of a matrix to those that a PanelMatrix held in `held` stands for. Denormal numbers become
// zeros, as products take them.
void RoundAsHeld(Precision held, MutableMatrixView matrix);

// Products of activations with panels: C[rows, cols] = A[rows, k] B in f32, B a PanelMatrix of k rows and
// `cols` columns. Thread-safe; throws as Gemm does. Computed tile by tile, each of well below a millisecond;
// between them the interruption is asked, and where it says no, false is returned and C is unfinished.
class PanelGemm {
 public:
  // Rows of A are OperandCols(precision, k) operands apart, rows of C ldc elements. B is held in `parameters`,
  // which is the precision or, unless that is kInt8, a narrower one. With `bias`, calls bring the bias of the
  // columns.
  PanelGemm(const GemmProvider& provider, Precision precision, Precision parameters, int64_t k, int64_t cols,
            int64_t ldc, bool bias = false);

  // The columns of panels [first_panel, end_panel) of C, which points at its column 0. rows is at most
  // kMaxRows for kInt8. `bias` [cols]; `ahead` is what the caller multiplies with next.
  bool Run(int64_t rows, const Operands& a, const PanelMatrix& b, int64_t first_panel, int64_t end_panel,
           float* c, std::byte* scratch, const Interruption& interruption, const float* bias = nullptr,
           Ahead ahead = {}) const;

  // All columns.
  bool Run(int64_t rows, const Operands& a, const PanelMatrix& b, float* c, std::byte* scratch,
           const Interruption& interruption, const float* bias = nullptr, Ahead ahead = {}) const {
    return Run(rows, a, b, 0, b.num_panels(), c, scratch, interruption, bias, ahead);
  }

  // The columns of one panel, to `c` [rows, panel width], its rows ldc elements apart. `bias` as in Run.
  bool RunPanel(int64_t rows, const Operands& a, const PanelMatrix& b, int64_t panel, float* c,
                std::byte* scratch, const Interruption& interruption, const float* bias = nullptr,
                Ahead ahead = {}) const;

  // kInt8 only: the sums of one panel as they are, to `sums` [rows, kPanelCols].
  bool SumPanel(int64_t rows, const Operands& a, const PanelMatrix& b, int64_t panel, int32_t* sums,
                std::byte* scratch, const Interruption& interruption, Ahead ahead) const;

  int64_t scratch_bytes() const;

  static constexpr int64_t kMaxRows = 256;

 private:
  // Calls body(row, rows, ahead) for tiles of the rows. False where the interruption said no.
  template <typename Body>
  bool ForEachTile(int64_t rows, const Interruption& interruption, Ahead ahead, const Body& body) const;
  void RunTile(int64_t rows, const Operands& a, const PanelMatrix& b, int64_t panel, float* c,
               std::byte* scratch, const float* bias, Ahead ahead) const;
  int64_t SumBytes() const;  // of the integer sums of a call

  Precision precision_;
  int64_t tile_rows_;
  int64_t ldc_;
  // For panels of kPanelCols columns, and for the last one if it has fewer.
  struct OfWidth {
    std::shared_ptr<const Gemm> gemm;          // null where no panel has this width, or
    std::shared_ptr<const NarrowGemm> narrow;  // where parameters are narrower than the products
    int64_t scratch_bytes() const {
      return gemm ? gemm->scratch_bytes() : narrow ? narrow->scratch_bytes() : 0;
    }
  };
  OfWidth full_;
  OfWidth last_;
};

}  // namespace headlight

#endif  // HEADLIGHT_CORE_PRODUCT_PARAMETER_PANELS_H_
