// SPDX-License-Identifier: Apache-2.0
//
// Everything in attention that is not a matrix product: biases, packing of keys, the softmax. Written once
// with Highway, compiled for each instruction set, chosen at run time. Each row is worked on by itself, in an
// order that depends on that row alone, so results do not depend on what else is in a batch.
#ifndef HEADLIGHT_CORE_ATTENTION_ROW_OPS_H_
#define HEADLIGHT_CORE_ATTENTION_ROW_OPS_H_

#include <cstdint>
#include <string>

#include "core/attention/batch.h"
#include "core/tensor/matrix_view.h"

namespace headlight {

// Key counts and head widths inside the kernel are rounded up to this: one AVX-512 register of f32, and so a
// whole number of registers of every narrower instruction set.
constexpr int64_t kLaneGranule = 16;

constexpr int64_t RoundUpToLanes(int64_t n) { return (n + kLaneGranule - 1) / kLaneGranule * kLaneGranule; }

// Restricts Highway to the instruction sets that oneDNN uses, so that ONEDNN_MAX_CPU_ISA limits both. Takes
// effect once per process; thread-safe.
void MatchSimdToOneDnn();

// Name of the instruction set that these functions run on, such as "AVX3_SPR" or "AVX2".
std::string SimdTargetName();

// out = (in + bias) * scale, row by row. `bias` has in.cols elements. in.cols is a multiple of kLaneGranule.
void AddBiasAndScale(MatrixView in, const float* bias, float scale, MutableMatrixView out);

// Rows of keys into columns: panel[d * panel_stride + r] = in[r][d] + bias[d], and zero for the rows from
// in.rows up to the next multiple of kLaneGranule. in.cols is a multiple of kLaneGranule.
void TransposeKeys(MatrixView in, const float* bias, float* panel, int64_t panel_stride);

// The softmax of a block of queries in progress, over the tiles of keys seen so far. All in units of log2.
struct SoftmaxState {
  float* row_max;         // [rows], -inf while no allowed key was seen
  float* row_sum;         // [rows], sum of 2^(score - row_max)
  MutableMatrixView acc;  // [rows, padded head_dim], sum of 2^(score - row_max) * value
};

// A tile of scores q k^T * scale * log2(e): a block of queries against some consecutive keys.
struct ScoreTile {
  MutableMatrixView scores;  // [rows, keys]; the stride has room for keys rounded up to kLaneGranule
  int64_t first_query = 0;   // of the sequence
  int64_t first_key = 0;     // of the sequence
  int64_t q_len = 0;
  int64_t kv_len = 0;
  int64_t head = 0;
};

// Applies the masks to the tile, raises the running maxima (rescaling sums and accumulators), and turns each
// score into 2^(score - row_max), zero where masked and in the padding up to kLaneGranule. Adds the rows'
// sums to the state. Online softmax: Milakov and Gimelshein 2018, arXiv:1805.02867.
void SoftmaxTile(const ScoreTile& tile, const Visibility& visibility, const MaskView& mask,
                 const SoftmaxState& state);

// out[r] = acc[r] / row_sum[r] for the first out.cols columns; zeros where row_sum is 0. Rows of `out` may be
// adjacent columns of other writers: nothing beyond out.cols is touched.
void Normalise(const SoftmaxState& state, MutableMatrixView out);

// out = in * factor, over n elements; in may be out. No alignment needed.
void ScaleTo(const float* in, int64_t n, float factor, float* out);

// out += in * factor, over n elements.
void ScaleAndAdd(const float* in, int64_t n, float factor, float* out);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_ROW_OPS_H_
