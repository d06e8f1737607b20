// SPDX-License-Identifier: Apache-2.0
#include "core/attention/panels.h"

#include <new>

namespace headlight {

PanelMatrix::PanelMatrix(MatrixView matrix, int64_t cols) : rows_(matrix.rows), cols_(cols) {
  if (!data_.Reserve(rows_ * cols_ * sizeof(float))) throw std::bad_alloc();
  for (int64_t panel = 0; panel < num_panels(); ++panel) {
    const int64_t first_col = panel * kPanelCols;
    const int64_t width = PanelWidth(panel);
    const int64_t copied = std::clamp<int64_t>(matrix.cols - first_col, 0, width);
    float* out = data_.floats() + first_col * rows_;
    for (int64_t row = 0; row < rows_; ++row, out += width) {
      std::copy_n(matrix.Row(row) + first_col, copied, out);
      std::fill(out + copied, out + width, 0.0f);
    }
  }
}

PanelGemm::PanelGemm(const GemmProvider& provider, int64_t k, int64_t cols, int64_t lda, int64_t ldc) {
  const auto make = [&](int64_t width) {
    return provider.Make({.n = width, .k = k, .lda = lda, .ldb = width, .ldc = ldc});
  };
  if (cols >= kPanelCols) full_ = make(kPanelCols);
  if (cols % kPanelCols != 0) last_ = make(cols % kPanelCols);
}

void PanelGemm::Run(int64_t rows, const float* a, const PanelMatrix& b, int64_t first_panel,
                    int64_t end_panel, float* c, std::byte* scratch) const {
  for (int64_t panel = first_panel; panel < end_panel; ++panel) {
    const Gemm& gemm = b.PanelWidth(panel) == kPanelCols ? *full_ : *last_;
    gemm.Run(rows, a, b.Panel(panel), c + panel * kPanelCols, scratch);
  }
}

int64_t PanelGemm::scratch_bytes() const {
  return std::max(full_ ? full_->scratch_bytes() : 0, last_ ? last_->scratch_bytes() : 0);
}

}  // namespace headlight
