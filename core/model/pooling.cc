// SPDX-License-Identifier: Apache-2.0
#include "core/model/pooling.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "absl/strings/str_cat.h"

namespace headlight {
namespace {

// Columns that are in work at once, on the stack.
constexpr int64_t kCols = 64;

// What the sum of a sequence of n tokens, weighted or not, is divided by.
double Divisor(Pooling pooling, double n) {
  switch (pooling) {
    case Pooling::kMeanSqrtLen:
      return std::sqrt(n);
    case Pooling::kWeightedMean:
      return n * (n + 1) / 2;
    default:
      return n;
  }
}

// The first out.size() columns of the sequence `rows`.
void SumRows(MatrixView rows, Pooling pooling, std::span<float> out) {
  const double divisor = Divisor(pooling, static_cast<double>(rows.rows));
  for (int64_t first_col = 0; first_col < std::ssize(out); first_col += kCols) {
    const int64_t cols = std::min(kCols, std::ssize(out) - first_col);
    double sums[kCols] = {};
    for (int64_t row = 0; row < rows.rows; ++row) {
      const float* in = rows.Row(row) + first_col;
      const double weight = pooling == Pooling::kWeightedMean ? static_cast<double>(row + 1) : 1.0;
      for (int64_t col = 0; col < cols; ++col) sums[col] += weight * static_cast<double>(in[col]);
    }
    for (int64_t col = 0; col < cols; ++col) out[first_col + col] = static_cast<float>(sums[col] / divisor);
  }
}

void PoolRows(MatrixView rows, Pooling pooling, std::span<float> out) {
  switch (pooling) {
    case Pooling::kCls:
      std::copy_n(rows.Row(0), out.size(), out.data());
      return;
    case Pooling::kLast:
      std::copy_n(rows.Row(rows.rows - 1), out.size(), out.data());
      return;
    case Pooling::kMax:
      std::copy_n(rows.Row(0), out.size(), out.data());
      for (int64_t row = 1; row < rows.rows; ++row) {
        for (size_t col = 0; col < out.size(); ++col) {
          // A NaN stays: what is not a number has no largest.
          const float value = rows.Row(row)[col];
          if (value > out[col] || std::isnan(value)) out[col] = value;
        }
      }
      return;
    case Pooling::kMean:
    case Pooling::kMeanSqrtLen:
    case Pooling::kWeightedMean:
      return SumRows(rows, pooling, out);
  }
}

void DivideByNorm(float* row, int64_t cols) {
  double squares = 0;
  for (int64_t col = 0; col < cols; ++col) squares += static_cast<double>(row[col]) * row[col];
  if (squares == 0) return;
  const double factor = 1.0 / std::sqrt(squares);
  for (int64_t col = 0; col < cols; ++col) row[col] = static_cast<float>(row[col] * factor);
}

}  // namespace

const char* Name(Pooling pooling) {
  switch (pooling) {
    case Pooling::kCls:
      return "cls";
    case Pooling::kMean:
      return "mean";
    case Pooling::kMax:
      return "max";
    case Pooling::kMeanSqrtLen:
      return "mean_sqrt_len";
    case Pooling::kWeightedMean:
      return "weighted_mean";
    case Pooling::kLast:
      return "last";
  }
  return "";
}

std::string Names(std::span<const Pooling> poolings, const char* separator) {
  if (poolings.empty()) return "none";
  std::string names;
  for (const Pooling pooling : poolings) {
    absl::StrAppend(&names, names.empty() ? "" : separator, Name(pooling));
  }
  return names;
}

std::optional<Pooling> PoolingNamed(absl::string_view name) {
  for (const Pooling pooling : kAllPoolings) {
    if (name == Name(pooling)) return pooling;
  }
  return std::nullopt;
}

std::string PoolingNames() { return Names(kAllPoolings, ", "); }

Pooling PoolingOf(ScoresOf scores_of) {
  switch (scores_of) {
    case ScoresOf::kFirstToken:
      return Pooling::kCls;
    case ScoresOf::kMean:
      return Pooling::kMean;
    case ScoresOf::kLastToken:
      return Pooling::kLast;
  }
  return Pooling::kCls;
}

void PoolSequences(MatrixView hidden, std::span<const int64_t> cu_lens, std::span<const Pooling> poolings,
                   bool normalize, MutableMatrixView out) {
  for (int64_t i = 0; i + 1 < std::ssize(cu_lens); ++i) {
    const MatrixView rows = {hidden.Row(cu_lens[i]), cu_lens[i + 1] - cu_lens[i], hidden.cols, hidden.stride};
    const std::span<float> vector(out.Row(i), out.cols);
    for (size_t part = 0; part < poolings.size(); ++part) {
      const int64_t first = static_cast<int64_t>(part) * hidden.cols;
      if (first >= out.cols) break;
      PoolRows(rows, poolings[part], vector.subspan(first, std::min(hidden.cols, out.cols - first)));
    }
    if (normalize) DivideByNorm(out.Row(i), out.cols);
  }
}

}  // namespace headlight
