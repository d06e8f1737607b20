// SPDX-License-Identifier: Apache-2.0
#include "core/product/parameter_panels.h"

#include <cmath>
#include <cstring>
#include <limits>
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

// The loops below are plain and of fixed steps, so that compilers make vectors of them.

// A row of a panel: where it lies, or with zeros added in `padded`, or zeros.
const float* PanelRow(MatrixView panel, int64_t row, int64_t width, float* padded) {
  static constexpr float kZeros[kPanelCols] = {};
  if (row >= panel.rows || panel.cols <= 0) return kZeros;
  if (panel.cols == width) return panel.Row(row);
  std::copy_n(panel.Row(row), panel.cols, padded);
  std::fill(padded + panel.cols, padded + width, 0.0f);
  return padded;
}

void PackRows(MatrixView panel, int64_t depth, int64_t width, float* out) {
  float padded[kPanelCols];
  for (int64_t row = 0; row < depth; ++row) {
    std::copy_n(PanelRow(panel, row, width, padded), width, out + row * width);
  }
}

void PackRows(MatrixView panel, int64_t depth, int64_t width, Bf16* out) {
  float padded[2][kPanelCols];
  for (int64_t row = 0; row < depth; row += 2, out += 2 * width) {
    const float* const even = PanelRow(panel, row, width, padded[0]);
    const float* const odd = PanelRow(panel, row + 1, width, padded[1]);
    for (int64_t col = 0; col < width; ++col) {
      out[2 * col] = ToBf16(even[col]);
      out[2 * col + 1] = ToBf16(odd[col]);
    }
  }
}

// The largest magnitude of each column; NaN counts for nothing.
void LargestOfColumns(MatrixView panel, float* largest) {
  for (int64_t row = 0; row < panel.rows; ++row) {
    const float* const from = panel.Row(row);
    for (int64_t col = 0; col < panel.cols; ++col) {
      const float magnitude = std::abs(from[col]);
      largest[col] = largest[col] < magnitude ? magnitude : largest[col];
    }
  }
}

// What a column is quantised with, of its largest magnitude. A denormal one would be a zero to products.
float ScaleOf(float largest) {
  const float scale = largest / kLargestOperand;
  return scale < std::numeric_limits<float>::min() ? 0.0f : scale;
}

// So that zeros become zeros.
float DivisorOf(float scale) { return scale == 0.0f ? std::numeric_limits<float>::infinity() : scale; }

// Rounded to nearest, ties to even; NaN is as the largest operand.
int32_t Quantize(float value, float scale) {
  constexpr float kRound = 0x1.8p23f;  // numbers of this size have no fraction
  float operand = value / scale;
  operand = operand < kLargestOperand ? operand : kLargestOperand;
  operand = operand > -kLargestOperand ? operand : -kLargestOperand;
  return static_cast<int32_t>((operand + kRound) - kRound);
}

// The panel quantised, four rows interleaved; adds its columns' operands to `sums`.
void PackRows(MatrixView panel, int64_t depth, int64_t width, const float* scales, int32_t* sums,
              int8_t* out) {
  float padded[kPanelCols];
  for (int64_t row = 0; row < depth; row += 4, out += 4 * width) {
    uint32_t words[kPanelCols] = {};
    for (int64_t r = 0; r < 4; ++r) {
      const float* const from = PanelRow(panel, row + r, width, padded);
      for (int64_t col = 0; col < width; ++col) {
        const int32_t operand = Quantize(from[col], scales[col]);
        sums[col] += operand;
        words[col] |= (static_cast<uint32_t>(operand) & 0xff) << (8 * r);
      }
    }
    std::memcpy(out, words, 4 * width);
  }
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

PanelMatrix::PanelMatrix(Precision precision, MatrixView matrix, int64_t cols, PanelStorage& storage,
                         float factor)
    : precision_(precision),
      depth_(OperandCols(precision, matrix.rows)),
      cols_(cols),
      factor_(factor),
      panels_(storage.Take(StorageBytes(precision, matrix.rows, cols))) {
  if (precision_ == Precision::kInt8) {
    const int64_t bytes = RoundUp(cols_, kLanes) * int64_t{sizeof(float)};
    if (!col_scale_.Reserve(bytes) || !col_sum_.Reserve(bytes)) throw std::bad_alloc();
  }
  for (int64_t panel = 0; panel < num_panels(); ++panel) PackPanel(matrix, panel);
}

void PanelMatrix::PackPanel(MatrixView matrix, int64_t panel) {
  const int64_t first_col = panel * kPanelCols;
  const int64_t width = PanelWidth(panel);
  const MatrixView from = {matrix.data + first_col, matrix.rows, std::min(width, matrix.cols - first_col),
                           matrix.stride};
  std::byte* const out = panels_ + first_col * depth_ * OperandBytes(precision_);
  switch (precision_) {
    case Precision::kF32:
      return PackRows(from, depth_, width, reinterpret_cast<float*>(out));
    case Precision::kBf16:
      return PackRows(from, depth_, width, reinterpret_cast<Bf16*>(out));
    case Precision::kInt8:
      return PackQuantised(from, first_col, width, reinterpret_cast<int8_t*>(out));
  }
}

void PanelMatrix::PackQuantised(MatrixView panel, int64_t first_col, int64_t width, int8_t* out) {
  float largest[kPanelCols] = {};
  LargestOfColumns(panel, largest);
  float divisors[kPanelCols];
  for (int64_t col = 0; col < width; ++col) {
    const float scale = ScaleOf(largest[col]);
    col_scale_.floats()[first_col + col] = scale;
    divisors[col] = DivisorOf(scale);
  }
  int32_t sums[kPanelCols] = {};
  PackRows(panel, depth_, width, divisors, sums, out);
  // Exact: at most kMaxInt8Depth * 127, which is below 2^24.
  for (int64_t col = 0; col < width; ++col) {
    col_sum_.floats()[first_col + col] = static_cast<float>(sums[col]);
  }
}

void RoundAsHeld(Precision held, MutableMatrixView matrix) {
  std::vector<float> largest(matrix.cols, 0.0f);
  if (held == Precision::kInt8) LargestOfColumns(Const(matrix), largest.data());
  for (int64_t row = 0; row < matrix.rows; ++row) {
    float* const numbers = matrix.Row(row);
    for (int64_t col = 0; col < matrix.cols; ++col) {
      float& number = numbers[col];
      if (held == Precision::kInt8) {
        const float scale = ScaleOf(largest[col]);
        number = scale * static_cast<float>(Quantize(number, DivisorOf(scale)));
      } else if (held == Precision::kBf16) {
        number = ToFloat(ToBf16(number));
        if (std::abs(number) < std::numeric_limits<float>::min()) number = 0.0f;
      }
    }
  }
}

PanelGemm::PanelGemm(const GemmProvider& provider, Precision precision, Precision parameters, int64_t k,
                     int64_t cols, int64_t ldc, bool bias)
    : precision_(precision), tile_rows_(TileRows(OperandCols(precision, k))), ldc_(ldc) {
  const int64_t depth = OperandCols(precision, k);
  const bool is_int8 = precision == Precision::kInt8;  // whose bias is added with the scales
  const auto make = [&](int64_t width) -> OfWidth {
    const GemmShape shape = {.operands = precision,
                             .n = width,
                             .k = depth,
                             .lda = depth,
                             .ldb = width,
                             .ldc = is_int8 ? kPanelCols : ldc,
                             .bias = bias && !is_int8};
    if (parameters == precision) return {.gemm = SharedGemm(provider, shape), .narrow = {}};
    return {.gemm = {}, .narrow = std::make_shared<NarrowGemm>(provider, parameters, shape)};
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
  return ForEachTile(rows, interruption, ahead, [&](int64_t row, int64_t tile_rows, Ahead next) {
    RunTile(tile_rows, a.From(row), b, panel, c + row * ldc_, scratch, bias, next);
  });
}

bool PanelGemm::SumPanel(int64_t rows, const Operands& a, const PanelMatrix& b, int64_t panel, int32_t* sums,
                         std::byte* scratch, const Interruption& interruption, Ahead ahead) const {
  const Gemm& gemm = *(b.PanelWidth(panel) == kPanelCols ? full_ : last_).gemm;
  return ForEachTile(rows, interruption, ahead, [&](int64_t row, int64_t tile_rows, Ahead next) {
    gemm.Run(tile_rows, a.From(row).rows, b.Panel(panel), sums + row * kPanelCols, scratch + SumBytes(),
             nullptr, next);
  });
}

template <typename Body>
bool PanelGemm::ForEachTile(int64_t rows, const Interruption& interruption, Ahead ahead,
                            const Body& body) const {
  for (int64_t row = 0; row < rows; row += tile_rows_) {
    if (!interruption.MayGoOn()) return false;
    const int64_t tile_rows = std::min(tile_rows_, rows - row);
    body(row, tile_rows, row + tile_rows < rows ? Ahead{} : ahead);
  }
  return true;
}

void PanelGemm::RunTile(int64_t rows, const Operands& a, const PanelMatrix& b, int64_t panel, float* c,
                        std::byte* scratch, const float* bias, Ahead ahead) const {
  const int64_t width = b.PanelWidth(panel);
  const auto& [gemm, narrow] = width == kPanelCols ? full_ : last_;
  if (narrow) return narrow->Run(rows, a.rows, b.NarrowPanelAt(panel), c, scratch, bias, ahead);
  if (precision_ != Precision::kInt8) {
    return gemm->Run(rows, a.rows, b.Panel(panel), c, scratch, bias, ahead);
  }
  auto* sums = reinterpret_cast<int32_t*>(scratch);
  gemm->Run(rows, a.rows, b.Panel(panel), sums, scratch + SumBytes(), nullptr, ahead);
  Dequantize(sums, kPanelCols, b.ProductOf(a, panel, bias), {c, rows, width, ldc_});
}

int64_t PanelGemm::SumBytes() const {
  return precision_ == Precision::kInt8 ? kMaxRows * kPanelCols * int64_t{sizeof(int32_t)} : 0;
}

int64_t PanelGemm::scratch_bytes() const {
  return SumBytes() + std::max(full_.scratch_bytes(), last_.scratch_bytes());
}

}  // namespace headlight
