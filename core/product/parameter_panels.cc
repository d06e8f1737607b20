// SPDX-License-Identifier: Apache-2.0
#include "core/product/parameter_panels.h"

#include <cmath>
#include <new>

#include "core/product/gemm_cache.h"
#include "core/product/quantize.h"
#include "core/tensor/bf16.h"

namespace headlight {
namespace {

constexpr float kLargestOperand = 127.0f;
// Multiplications of a tile: a third of a millisecond at 50 of them a nanosecond.
constexpr int64_t kTileProducts = int64_t{1} << 24;
// Tiles are multiples of what every product takes as one block of rows.
constexpr int64_t kRowBlock = 48;

// Rows of a tile of kPanelCols columns.
int64_t TileRows(int64_t depth) {
  const int64_t rows = kTileProducts / (depth * kPanelCols);
  return rows >= PanelGemm::kMaxRows ? PanelGemm::kMaxRows
                                     : std::max(rows / kRowBlock, int64_t{1}) * kRowBlock;
}

int8_t Quantize(float value, float scale) {
  if (scale == 0.0f) return 0;
  return static_cast<int8_t>(std::clamp(std::nearbyint(value / scale), -kLargestOperand, kLargestOperand));
}

}  // namespace

PanelStorage::PanelStorage(int64_t size_bytes, const std::vector<int>& nodes)
    : block_(Buffer::Allocate(size_bytes)) {
  if (!block_.ok()) throw std::bad_alloc();
  InterleaveMemory(block_.bytes(), block_.size_bytes(), nodes);
}

std::byte* PanelStorage::Take(int64_t size_bytes) {
  std::byte* const taken = block_.bytes() + taken_bytes_;
  taken_bytes_ += RoundUp(size_bytes, kCacheLineBytes);
  return taken;
}

int64_t PanelMatrix::StorageBytes(Precision precision, int64_t rows, int64_t cols) {
  return RoundUp(OperandCols(precision, rows) * cols * OperandBytes(precision), kCacheLineBytes);
}

PanelMatrix::PanelMatrix(Precision precision, MatrixView matrix, int64_t cols, PanelStorage& storage)
    : precision_(precision),
      depth_(OperandCols(precision, matrix.rows)),
      cols_(cols),
      panels_(storage.Take(StorageBytes(precision, matrix.rows, cols))) {
  if (precision_ == Precision::kInt8) ChooseScales(matrix);
  for (int64_t panel = 0; panel < num_panels(); ++panel) PackPanel(matrix, panel);
}

void PanelMatrix::ChooseScales(MatrixView matrix) {
  const int64_t bytes = cols_ * int64_t{sizeof(float)};
  if (!col_scale_.Reserve(bytes) || !col_sum_.Reserve(bytes)) throw std::bad_alloc();
  for (int64_t col = 0; col < cols_; ++col) {
    float largest = 0.0f, sum = 0.0f;
    for (int64_t row = 0; row < matrix.rows && col < matrix.cols; ++row) {
      largest = std::max(largest, std::abs(matrix.Row(row)[col]));
    }
    const float scale = largest / kLargestOperand;
    for (int64_t row = 0; row < matrix.rows && col < matrix.cols; ++row) {
      sum += static_cast<float>(Quantize(matrix.Row(row)[col], scale));  // exact: at most 2^16 * 127
    }
    col_scale_.floats()[col] = scale;
    col_sum_.floats()[col] = sum;
  }
}

void PanelMatrix::PackPanel(MatrixView matrix, int64_t panel) {
  const int64_t first_col = panel * kPanelCols;
  const int64_t width = PanelWidth(panel);
  const int64_t interleaved = InterleavedRows(precision_);
  std::byte* out = panels_ + first_col * depth_ * OperandBytes(precision_);
  for (int64_t row = 0; row < depth_; ++row) {
    for (int64_t col = 0; col < width; ++col) {
      const bool inside = row < matrix.rows && first_col + col < matrix.cols;
      const float value = inside ? matrix.Row(row)[first_col + col] : 0.0f;
      const int64_t place = (row / interleaved * width + col) * interleaved + row % interleaved;
      switch (precision_) {
        case Precision::kF32:
          reinterpret_cast<float*>(out)[place] = value;
          break;
        case Precision::kBf16:
          reinterpret_cast<Bf16*>(out)[place] = ToBf16(value);
          break;
        case Precision::kInt8:
          reinterpret_cast<int8_t*>(out)[place] =
              inside ? Quantize(value, col_scale_.floats()[first_col + col]) : int8_t{0};
          break;
      }
    }
  }
}

PanelGemm::PanelGemm(const GemmProvider& provider, Precision precision, int64_t k, int64_t cols, int64_t ldc,
                     bool bias)
    : precision_(precision), tile_rows_(TileRows(OperandCols(precision, k))), ldc_(ldc) {
  const int64_t depth = OperandCols(precision, k);
  const bool is_int8 = precision == Precision::kInt8;  // whose bias is added with the scales
  const auto make = [&](int64_t width) {
    return SharedGemm(provider,
                      {.operands = precision,
                          .n = width,
                          .k = depth,
                          .lda = depth,
                          .ldb = width,
                          .ldc = is_int8 ? kPanelCols : ldc,
                          .bias = bias && !is_int8});
  };
  if (cols >= kPanelCols) full_ = make(kPanelCols);
  if (cols % kPanelCols != 0) last_ = make(cols % kPanelCols);
}

bool PanelGemm::Run(int64_t rows, const Operands& a, const PanelMatrix& b, int64_t first_panel,
                    int64_t end_panel, float* c, std::byte* scratch, const Interruption& interruption,
                    const float* bias, Ahead ahead) const {
  for (int64_t panel = first_panel; panel < end_panel; ++panel) {
    const Ahead next = panel + 1 < end_panel ? b.PanelAhead(panel + 1) : ahead;
    if (!RunPanel(rows, a, b, panel, c + panel * kPanelCols, scratch, interruption, bias, next)) return false;
  }
  return true;
}

bool PanelGemm::RunPanel(int64_t rows, const Operands& a, const PanelMatrix& b, int64_t panel, float* c,
                         std::byte* scratch, const Interruption& interruption, const float* bias,
                         Ahead ahead) const {
  if (bias != nullptr) bias += panel * kPanelCols;
  for (int64_t row = 0; row < rows; row += tile_rows_) {
    if (!interruption.MayGoOn()) return false;
    const int64_t tile_rows = std::min(tile_rows_, rows - row);
    RunTile(tile_rows, a.From(row), b, panel, c + row * ldc_, scratch, bias,
            row + tile_rows < rows ? Ahead{} : ahead);
  }
  return true;
}

void PanelGemm::RunTile(int64_t rows, const Operands& a, const PanelMatrix& b, int64_t panel, float* c,
                        std::byte* scratch, const float* bias, Ahead ahead) const {
  const int64_t width = b.PanelWidth(panel);
  const int64_t first_col = panel * kPanelCols;
  const Gemm& gemm = width == kPanelCols ? *full_ : *last_;
  if (precision_ != Precision::kInt8) {
    return gemm.Run(rows, a.rows, b.Panel(panel), c, scratch, bias, ahead);
  }
  auto* sums = reinterpret_cast<int32_t*>(scratch);
  gemm.Run(rows, a.rows, b.Panel(panel), sums, scratch + SumBytes(), nullptr, ahead);
  Dequantize(sums, kPanelCols,
             {.row_scale = a.scale,
              .row_zero = a.zero,
              .col_scale = b.col_scale() + first_col,
              .col_sum = b.col_sum() + first_col,
              .bias = bias},
             {c, rows, width, ldc_});
}

int64_t PanelGemm::SumBytes() const {
  return precision_ == Precision::kInt8 ? kMaxRows * kPanelCols * int64_t{sizeof(int32_t)} : 0;
}

int64_t PanelGemm::scratch_bytes() const {
  return SumBytes() + std::max(full_ ? full_->scratch_bytes() : 0, last_ ? last_->scratch_bytes() : 0);
}

}  // namespace headlight
