// SPDX-License-Identifier: Apache-2.0
#include "core/model/heads/vocab_products.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <utility>

#include "core/attention/tiled/transpose.h"
#include "core/product/gemm_cache.h"
#include "core/tensor/buffer.h"

namespace headlight {
namespace {

constexpr int64_t kTileRows = 128;  // of a product: its tile stays in a core's cache beside the panel
constexpr int64_t kWordGranule = 16;

}  // namespace

VocabProducts::VocabProducts(const EmbeddingTable& table, int64_t vocab_size, int64_t width,
                             std::vector<float> bias, double cap, const GemmProvider& provider)
    : table_(table),
      vocab_size_(vocab_size),
      width_(width),
      bias_(std::move(bias)),
      cap_(cap),
      provider_(provider),
      gemm_(SharedGemm(provider, {.operands = Precision::kF32,
                                  .n = kPanelCols,
                                  .k = width,
                                  .lda = width,
                                  .ldb = kPanelCols,
                                  .ldc = kPanelCols})) {}

int64_t VocabProducts::ScratchBytes() const {
  return (2 * width_ * kPanelCols + kTileRows * kPanelCols) * int64_t{sizeof(float)} +
         Buffer::RoundedBytes(std::max<int64_t>(gemm_->scratch_bytes(), 1));
}

// The ids of a panel as columns, from their rows; columns beyond the last id become zero.
void VocabProducts::PackPanel(int64_t panel, float* rows, float* packed) const {
  const int64_t first_id = panel * kPanelCols;
  const int64_t ids = std::min(kPanelCols, vocab_size_ - first_id);
  for (int64_t id = 0; id < ids; ++id) table_.ReadRow(first_id + id, width_, rows + id * width_);
  if (width_ % kWordGranule == 0) return TransposeWords(rows, ids, width_, width_, packed, kPanelCols);
  std::fill_n(packed, width_ * kPanelCols, 0.0f);
  for (int64_t id = 0; id < ids; ++id) {
    for (int64_t i = 0; i < width_; ++i) packed[i * kPanelCols + id] = rows[id * width_ + i];
  }
}

template <typename Take>
bool VocabProducts::ForEachTile(MatrixView rows, int64_t first_panel, int64_t end_panel,
                                const Interruption& interruption, const Take& take) const {
  const Buffer memory = Buffer::Allocate(ScratchBytes());
  if (!memory.ok()) throw std::bad_alloc();
  float* const packed = memory.floats();
  float* const table_rows = packed + width_ * kPanelCols;
  float* const tile = table_rows + width_ * kPanelCols;
  auto* const scratch = static_cast<std::byte*>(static_cast<void*>(tile + kTileRows * kPanelCols));
  provider_.BeginWork();
  for (int64_t panel = first_panel; panel < end_panel; ++panel) {
    if (!interruption.MayGoOn()) return false;
    PackPanel(panel, table_rows, packed);
    const int64_t first_id = panel * kPanelCols;
    const int64_t ids = std::min(kPanelCols, vocab_size_ - first_id);
    for (int64_t row = 0; row < rows.rows; row += kTileRows) {
      if (!interruption.MayGoOn()) return false;
      const int64_t tile_rows = std::min(kTileRows, rows.rows - row);
      gemm_->Run(tile_rows, rows.Row(row), packed, tile, scratch, nullptr, {});
      take(first_id, ids, row, MatrixView{tile, tile_rows, kPanelCols, kPanelCols});
    }
  }
  return true;
}

float VocabProducts::LogitOf(float product, int64_t id) const {
  const float logit = bias_.empty() ? product : product + bias_[id];
  if (cap_ <= 0) return logit;
  return static_cast<float>(cap_ * std::tanh(static_cast<double>(logit) / cap_));
}

bool VocabProducts::Logits(MatrixView rows, int64_t first_panel, int64_t end_panel, MutableMatrixView out,
                           const Interruption& interruption) const {
  return ForEachTile(rows, first_panel, end_panel, interruption,
                     [&](int64_t first_id, int64_t ids, int64_t first_row, MatrixView tile) {
                       for (int64_t row = 0; row < tile.rows; ++row) {
                         float* const to = out.Row(first_row + row) + first_id;
                         for (int64_t id = 0; id < ids; ++id) {
                           to[id] = LogitOf(tile.Row(row)[id], first_id + id);
                         }
                       }
                     });
}

bool VocabProducts::SparseWeights(MatrixView rows, std::span<const int64_t> cu_lens, int64_t first_panel,
                                  int64_t end_panel, MutableMatrixView weights,
                                  const Interruption& interruption) const {
  const bool done = ForEachTile(
      rows, first_panel, end_panel, interruption,
      [&](int64_t first_id, int64_t ids, int64_t first_row, MatrixView tile) {
        int64_t sequence = std::upper_bound(cu_lens.begin(), cu_lens.end(), first_row) - cu_lens.begin() - 1;
        for (int64_t row = 0; row < tile.rows; ++row) {
          if (first_row + row == cu_lens[sequence + 1]) ++sequence;
          float* const to = weights.Row(sequence) + first_id;
          const float* const from = tile.Row(row);
          if (first_row + row == cu_lens[sequence]) {
            std::copy_n(from, ids, to);
          } else {
            for (int64_t id = 0; id < ids; ++id) to[id] = std::max(to[id], from[id]);
          }
        }
      });
  if (!done) return false;
  // The bias is the same for all rows and rounding keeps the order: it is added to the largest alone.
  const int64_t end = std::min(end_panel * kPanelCols, vocab_size_);
  for (int64_t sequence = 0; sequence < weights.rows; ++sequence) {
    float* const to = weights.Row(sequence);
    for (int64_t id = first_panel * kPanelCols; id < end; ++id) {
      const float logit = bias_.empty() ? to[id] : to[id] + bias_[id];
      to[id] = logit > 0 ? static_cast<float>(std::log1p(static_cast<double>(logit))) : 0.0f;
    }
  }
  return true;
}

}  // namespace headlight
