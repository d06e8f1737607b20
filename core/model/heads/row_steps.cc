// SPDX-License-Identifier: Apache-2.0
#include "core/model/heads/row_steps.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <numbers>
#include <utility>

#include "core/model/row_norm.h"
#include "core/tensor/buffer.h"

namespace headlight {

float Activated(RowActivation activation, float x) {
  const double value = x;
  switch (activation) {
    case RowActivation::kIdentity:
      return x;
    case RowActivation::kRelu:
      return x < 0 ? 0.0f : x;
    case RowActivation::kGeluErf:
      return static_cast<float>(0.5 * value * std::erfc(-value / std::numbers::sqrt2));
    case RowActivation::kGeluTanh:
      return static_cast<float>(value / (1 + std::exp(-2 * std::sqrt(2 / std::numbers::pi) *
                                                      (value + 0.044715 * value * value * value))));
    case RowActivation::kSilu:
      return static_cast<float>(value / (1 + std::exp(-value)));
    case RowActivation::kTanh:
      return static_cast<float>(std::tanh(value));
    case RowActivation::kSigmoid:
      return static_cast<float>(1 / (1 + std::exp(-value)));
  }
  return x;
}

void NormalizeRows(MutableMatrixView rows) {
  for (int64_t i = 0; i < rows.rows; ++i) {
    float* const row = rows.Row(i);
    double squares = 0;
    for (int64_t col = 0; col < rows.cols; ++col) squares += static_cast<double>(row[col]) * row[col];
    if (squares == 0) continue;
    const double factor = 1.0 / std::sqrt(squares);
    for (int64_t col = 0; col < rows.cols; ++col) row[col] = static_cast<float>(row[col] * factor);
  }
}

PackedRowSteps::PackedRowSteps(std::span<const RowStep> steps, int64_t in_dim,
                               std::vector<RowStepParameters> parameters, const GemmProvider& provider)
    : provider_(provider),
      in_dim_(in_dim),
      out_dim_(OutDim(steps, in_dim)),
      largest_dim_(LargestDim(steps, in_dim)) {
  int64_t panel_bytes = 0;
  for (const RowStep& step : steps) {
    if (step.kind != RowStep::Kind::kDense) continue;
    panel_bytes += PanelMatrix::StorageBytes(Precision::kF32, step.in_dim, step.out_dim);
  }
  if (panel_bytes > 0) storage_.emplace(panel_bytes);
  steps_.reserve(steps.size());
  for (size_t i = 0; i < steps.size(); ++i) {
    const RowStep& config = steps[i];
    Step step{.config = config, .parameters = std::move(parameters[i]), .weight = {}, .gemm = {}};
    if (config.kind == RowStep::Kind::kDense) {
      const MatrixView weight = {step.parameters.weight.data(), config.in_dim, config.out_dim,
                                 config.out_dim};
      step.weight.emplace(Precision::kF32, weight, config.out_dim, *storage_);
      step.gemm.emplace(provider_, Precision::kF32, Precision::kF32, config.in_dim, config.out_dim,
                        /*ldc=*/config.out_dim);
      gemm_scratch_bytes_ = std::max(gemm_scratch_bytes_, step.gemm->scratch_bytes());
      step.parameters.weight = {};
    }
    steps_.push_back(std::move(step));
  }
}

int64_t PackedRowSteps::packed_bytes() const {
  int64_t bytes = storage_ ? storage_->size_bytes() : 0;
  for (const Step& step : steps_) {
    bytes +=
        static_cast<int64_t>((step.parameters.weight.size() + step.parameters.bias.size()) * sizeof(float));
  }
  return bytes;
}

int64_t PackedRowSteps::ScratchBytes() const {
  return 2 * kStepRows * largest_dim_ * int64_t{sizeof(float)} +
         Buffer::RoundedBytes(std::max<int64_t>(gemm_scratch_bytes_, 1));
}

bool PackedRowSteps::Run(MatrixView in, MutableMatrixView out, const Interruption& interruption) const {
  const Buffer memory = Buffer::Allocate(ScratchBytes());
  if (!memory.ok()) throw std::bad_alloc();
  provider_.BeginWork();
  for (int64_t row = 0; row < in.rows; row += kStepRows) {
    const int64_t rows = std::min(kStepRows, in.rows - row);
    if (!interruption.MayGoOn() ||
        !RunRows({in.Row(row), rows, in.cols, in.stride}, {out.Row(row), rows, out.cols, out.stride},
                 memory.floats(), interruption)) {
      return false;
    }
  }
  return true;
}

// From one half of `memory` to the other and back; the last step writes where the result belongs.
bool PackedRowSteps::RunRows(MatrixView in, MutableMatrixView out, float* memory,
                             const Interruption& interruption) const {
  if (steps_.empty()) {
    for (int64_t row = 0; row < in.rows; ++row) std::copy_n(in.Row(row), in.cols, out.Row(row));
    return true;
  }
  float* const halves[] = {memory, memory + kStepRows * largest_dim_};
  auto* const scratch = static_cast<std::byte*>(static_cast<void*>(memory + 2 * kStepRows * largest_dim_));
  for (size_t i = 0; i < steps_.size(); ++i) {
    const RowStep& config = steps_[i].config;
    const int64_t width = config.kind == RowStep::Kind::kDense ? config.out_dim : in.cols;
    const MutableMatrixView to =
        i + 1 == steps_.size() ? out : MutableMatrixView{halves[i % 2], in.rows, width, width};
    if (!RunStep(steps_[i], in, to, scratch, interruption)) return false;
    in = Const(to);
  }
  return true;
}

bool PackedRowSteps::RunStep(const Step& step, MatrixView in, MutableMatrixView out, std::byte* scratch,
                             const Interruption& interruption) const {
  if (step.config.kind == RowStep::Kind::kLayerNorm) {
    RowNorm norm;
    norm.eps = step.config.eps;
    norm.gain = step.parameters.weight.data();
    norm.bias = step.parameters.bias.empty() ? nullptr : step.parameters.bias.data();
    AddAndNorm(norm, {.x = in, .f = {}}, {}, out);
    return true;
  }
  if (step.config.kind == RowStep::Kind::kNormalize) {
    for (int64_t row = 0; row < in.rows; ++row) std::copy_n(in.Row(row), in.cols, out.Row(row));
    NormalizeRows(out);
    return true;
  }
  const Operands rows = {static_cast<const std::byte*>(static_cast<const void*>(in.data)),
                         in.stride * int64_t{sizeof(float)}};
  if (!step.gemm->Run(in.rows, rows, *step.weight, out.data, scratch, interruption)) return false;
  const float* const bias = step.parameters.bias.empty() ? nullptr : step.parameters.bias.data();
  for (int64_t row = 0; row < out.rows; ++row) {
    float* const to = out.Row(row);
    for (int64_t col = 0; col < out.cols; ++col) {
      to[col] = Activated(step.config.activation, bias == nullptr ? to[col] : to[col] + bias[col]);
    }
  }
  return true;
}

}  // namespace headlight
