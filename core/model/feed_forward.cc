// SPDX-License-Identifier: Apache-2.0
#include "core/model/feed_forward.h"

#include <algorithm>

#include "core/model/activation.h"
#include "core/simd/targets.h"
#include "core/tensor/bf16.h"

namespace headlight {
namespace {

// What a chunk's hidden units may take of a core's L2 cache (1 to 2 MiB on today's servers), its other half
// being for the panels that pass through.
constexpr int64_t kHiddenBytes = int64_t{1} << 20;
constexpr int64_t kMinRows = 32;
static_assert(kMinRows <= PanelGemm::kMaxRows);

std::vector<float> Padded(const std::vector<float>& bias, int64_t size, int64_t padded_size) {
  std::vector<float> padded(padded_size, 0.0f);
  if (!bias.empty()) std::copy_n(bias.data(), size, padded.data());
  return padded;
}

}  // namespace

int64_t FeedForward::RowsAtOnce(int64_t hidden_dim) {
  int64_t rows = PanelGemm::kMaxRows;
  while (rows > kMinRows && rows * hidden_dim * int64_t{sizeof(float)} > kHiddenBytes) rows /= 2;
  return rows;
}

FeedForward::FeedForward(const Arithmetic& arithmetic, const FeedForwardConfig& config, int64_t embed_dim)
    : provider_(arithmetic.provider()),
      precision_(arithmetic.precision),
      parameters_(arithmetic.parameters),
      config_(config),
      embed_dim_(embed_dim),
      rows_at_once_(RowsAtOnce(config.hidden_dim)),
      up_gemm_(provider_, precision_, parameters_, embed_dim, config.hidden_dim, /*ldc=*/kPanelCols),
      down_gemm_(provider_, precision_, parameters_, config.hidden_dim, embed_dim, /*ldc=*/embed_dim) {}

int64_t FeedForward::StorageBytes() const {
  return (config_.gated ? 2 : 1) * PanelMatrix::StorageBytes(parameters_, embed_dim_, config_.hidden_dim) +
         PanelMatrix::StorageBytes(parameters_, config_.hidden_dim, embed_dim_);
}

PackedFeedForward FeedForward::Pack(const FeedForwardParameters& weights, PanelStorage& storage) const {
  const int64_t hidden_dim = config_.hidden_dim;
  const int64_t padded_dim = RoundUp(hidden_dim, kLanes);
  const auto pack = [&](const std::vector<float>& matrix, int64_t rows, int64_t cols) {
    return PanelMatrix(parameters_, {matrix.data(), rows, cols, cols}, cols, storage);
  };
  PackedFeedForward packed{.up = pack(weights.up, embed_dim_, hidden_dim),
                           .gate = {},
                           .down = pack(weights.down, hidden_dim, embed_dim_),
                           .up_bias = Padded(weights.up_bias, hidden_dim, padded_dim),
                           .gate_bias = {},
                           .down_bias = Padded(weights.down_bias, embed_dim_, embed_dim_)};
  if (config_.gated) {
    packed.gate.emplace(pack(weights.gate, embed_dim_, hidden_dim));
    packed.gate_bias = Padded(weights.gate_bias, hidden_dim, padded_dim);
  }
  return packed;
}

MutableMatrixView FeedForward::HiddenFloats(const FeedForwardRows& memory, int64_t rows) const {
  return {memory.hidden.floats(), rows, config_.hidden_dim, config_.hidden_dim};
}

int64_t FeedForward::HiddenRowBytes() const {
  return precision_ == Precision::kBf16 ? OperandCols(precision_, config_.hidden_dim) * int64_t{sizeof(Bf16)}
                                        : config_.hidden_dim * int64_t{sizeof(float)};
}

bool FeedForward::Reserve(int64_t rows, FeedForwardRows& memory) const {
  const int64_t embed_bytes = rows * embed_dim_ * int64_t{sizeof(float)};
  if (!memory.input.Reserve(embed_bytes) || !memory.output.Reserve(embed_bytes) ||
      !memory.hidden.Reserve(rows * HiddenRowBytes()) ||
      !memory.input_operands.Reserve(precision_, {memory.input.floats(), rows, embed_dim_, embed_dim_})) {
    return false;
  }
  if (precision_ != Precision::kInt8) return true;
  const MutableMatrixView hidden = HiddenFloats(memory, rows);
  return memory.hidden_operands.Reserve(precision_, {hidden.data, rows, hidden.cols, hidden.stride});
}

bool FeedForward::Reserve(int64_t rows, FeedForwardScratch& scratch) const {
  const int64_t tile_bytes = rows * kPanelCols * int64_t{sizeof(float)};
  return scratch.up_tile.Reserve(tile_bytes) && (!config_.gated || scratch.gate_tile.Reserve(tile_bytes)) &&
         scratch.gemm.Reserve(GemmScratchBytes());
}

int64_t FeedForward::GrowthFor(int64_t rows, const FeedForwardRows& memory,
                               const FeedForwardScratch& scratch) const {
  return GrowthFor({this, 1}, rows, memory, scratch);
}

int64_t FeedForward::GrowthFor(std::span<const FeedForward> networks, int64_t rows,
                               const FeedForwardRows& memory, const FeedForwardScratch& scratch) {
  int64_t hidden = 0, hidden_operands = 0, gemm = 0;
  bool any_gated = false;
  for (const FeedForward& network : networks) {
    hidden = std::max(hidden, memory.hidden.GrowthFor(rows * network.HiddenRowBytes()));
    if (network.precision_ == Precision::kInt8) {
      hidden_operands = std::max(hidden_operands, memory.hidden_operands.GrowthFor(
                                                      network.precision_, rows, network.config_.hidden_dim));
    }
    gemm = std::max(gemm, scratch.gemm.GrowthFor(network.GemmScratchBytes()));
    any_gated |= network.config_.gated;
  }
  const int64_t embed_dim = networks.front().embed_dim_;
  const int64_t embed_bytes = rows * embed_dim * int64_t{sizeof(float)};
  const int64_t tile_bytes = rows * kPanelCols * int64_t{sizeof(float)};
  int64_t bytes = memory.input.GrowthFor(embed_bytes) + memory.output.GrowthFor(embed_bytes) + hidden +
                  memory.input_operands.GrowthFor(networks.front().precision_, rows, embed_dim) +
                  hidden_operands + scratch.up_tile.GrowthFor(tile_bytes) + gemm;
  if (any_gated) bytes += scratch.gate_tile.GrowthFor(tile_bytes);
  return bytes;
}

void FeedForwardRows::ForEachBuffer(absl::FunctionRef<void(Buffer&)> visit) {
  for (Buffer* buffer : {&input, &hidden, &output}) visit(*buffer);
  input_operands.ForEachBuffer(visit);
  hidden_operands.ForEachBuffer(visit);
}

void FeedForwardScratch::ForEachBuffer(absl::FunctionRef<void(Buffer&)> visit) {
  for (Buffer* buffer : {&up_tile, &gate_tile, &gemm}) visit(*buffer);
}

void FeedForward::Prepare(FeedForwardRows& memory, int64_t rows) const {
  memory.input_operands.Convert(0, rows);
}

bool FeedForward::Up(const PackedFeedForward& layer, const FeedForwardRows& memory, int64_t rows,
                     int64_t first_panel, int64_t end_panel, FeedForwardScratch& scratch,
                     const Interruption& interruption) const {
  const Operands input = memory.input_operands.view();
  for (int64_t panel = first_panel; panel < end_panel; ++panel) {
    const Ahead next = panel + 1 < end_panel ? layer.up.PanelAhead(panel + 1) : layer.down.PanelAhead(0);
    const Ahead after_up = layer.gate ? layer.gate->PanelAhead(panel) : next;
    const auto multiply = [&](const PanelMatrix& matrix, Buffer& tile, Ahead ahead) {
      if (precision_ == Precision::kInt8) {
        return up_gemm_.SumPanel(rows, input, matrix, panel, tile.As<int32_t>(), scratch.gemm.bytes(),
                                 interruption, ahead);
      }
      return up_gemm_.RunPanel(rows, input, matrix, panel, tile.floats(), scratch.gemm.bytes(), interruption,
                               nullptr, ahead);
    };
    if (!multiply(layer.up, scratch.up_tile, after_up)) return false;
    if (layer.gate && !multiply(*layer.gate, scratch.gate_tile, next)) return false;
    ActivatePanel(layer, memory, rows, panel, scratch);
  }
  return true;
}

// The hidden units of a panel, of the products that are in the scratch.
void FeedForward::ActivatePanel(const PackedFeedForward& layer, const FeedForwardRows& memory, int64_t rows,
                                int64_t panel, const FeedForwardScratch& scratch) const {
  const int64_t first_col = panel * kPanelCols;
  const int64_t cols = layer.up.PanelWidth(panel);
  const float* const up_bias = layer.up_bias.data() + first_col;
  const float* const gate_bias = layer.gate ? layer.gate_bias.data() + first_col : nullptr;
  const MutableMatrixView floats = HiddenFloats(memory, rows);
  const MutableMatrixView hidden = {floats.data + first_col, rows, cols, floats.stride};
  if (precision_ == Precision::kInt8) {
    const Operands input = memory.input_operands.view();
    HiddenSumTile tile{.up = scratch.up_tile.As<int32_t>(),
                       .up_product = layer.up.ProductOf(input, panel, up_bias)};
    if (layer.gate) {
      tile.gate = scratch.gate_tile.As<int32_t>();
      tile.gate_product = layer.gate->ProductOf(input, panel, gate_bias);
    }
    return Activate(config_.activation, tile, hidden);
  }
  HiddenTile tile{.up = {scratch.up_tile.floats(), rows, cols, kPanelCols}, .up_bias = up_bias};
  if (layer.gate) {
    tile.gate = {scratch.gate_tile.floats(), rows, cols, kPanelCols};
    tile.gate_bias = gate_bias;
  }
  if (precision_ == Precision::kF32) return Activate(config_.activation, tile, hidden);
  auto* const rounded = reinterpret_cast<Bf16*>(memory.hidden.bytes()) + first_col;
  Activate(config_.activation, tile,
           BasicMatrixView<Bf16>{rounded, rows, cols, OperandCols(precision_, config_.hidden_dim)});
}

void FeedForward::PrepareHidden(FeedForwardRows& memory, int64_t rows) const {
  if (precision_ == Precision::kInt8) return memory.hidden_operands.Convert(0, rows);
  const int64_t stride = OperandCols(precision_, config_.hidden_dim);
  if (stride == config_.hidden_dim) return;
  // Padding meets weights of zero, and 0 * garbage could be NaN.
  auto* const hidden = reinterpret_cast<Bf16*>(memory.hidden.bytes());
  for (int64_t row = 0; row < rows; ++row) {
    std::fill(hidden + row * stride + config_.hidden_dim, hidden + (row + 1) * stride, Bf16{});
  }
}

bool FeedForward::Down(const PackedFeedForward& layer, const FeedForwardRows& memory, int64_t rows,
                       int64_t first_panel, int64_t end_panel, FeedForwardScratch& scratch,
                       const Interruption& interruption) const {
  Operands hidden;
  if (precision_ == Precision::kInt8) {
    hidden = memory.hidden_operands.view();
  } else {
    hidden = {memory.hidden.bytes(), OperandCols(precision_, config_.hidden_dim) * OperandBytes(precision_)};
  }
  return down_gemm_.Run(rows, hidden, layer.down, first_panel, end_panel, memory.output.floats(),
                        scratch.gemm.bytes(), interruption, nullptr, layer.up.PanelAhead(0));
}

}  // namespace headlight
