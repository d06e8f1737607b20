// SPDX-License-Identifier: Apache-2.0
//
// The softmax of a block of queries, tile of keys by tile of keys, in powers of two: e^s = 2^(s log2 e), the
// factor being folded into the queries.
//
// A row's exponentials are taken relative to a reference. On the fast path that is the largest score, before
// any bias by position or mask, of its first panel of keys that has an allowed one, and never changes: no
// pass for the maximum, no rescaling, and the sums tell when it was too far from the largest term
// (FinishSums). On the exact path it is the running maximum, and what was summed before is rescaled when it
// rises (online softmax: Milakov and Gimelshein 2018, arXiv:1805.02867). Each row is worked on by itself, in
// an order that depends on that row alone: panels of kReferenceKeys keys are summed apart, and the sums added
// up in the order of the keys. T is float or Bf16.
#ifndef HEADLIGHT_CORE_ATTENTION_TILED_SOFTMAX_H_
#define HEADLIGHT_CORE_ATTENTION_TILED_SOFTMAX_H_

#include <cstdint>
#include <optional>

#include "core/attention/mask.h"
#include "core/attention/visibility.h"
#include "core/simd/targets.h"
#include "core/tensor/bf16.h"
#include "core/tensor/matrix_view.h"

namespace headlight {

// Keys of a panel. Panels are counted from the first key of a sequence.
constexpr int64_t kReferenceKeys = 64;

// The softmax of a block of queries in progress, over the tiles of keys seen so far.
struct SoftmaxState {
  float* reference;  // [rows], -inf while no allowed key was seen
  float* sum;        // [rows, kLanes], partial sums of 2^(score - reference)
  // [rows, padded head_dim], one after the other (stride == cols): sum of 2^(score - reference) * value.
  MutableMatrixView acc;
  // [rows, kLanes], partial sums of 2^(score - reference) * (score - reference), for an entropy without
  // logarithms of weights; null if nobody wants it. Changes nothing else.
  float* exponent_sum = nullptr;
  bool exact = false;
};

// What disentangled attention adds to the scores of one head: numbers of queries and of keys by the distance
// between them.
struct DistanceScores {
  // `query - first_query` and the sequence's key are the rows, `stride` apart; null where nothing is added.
  const float* of_queries = nullptr;
  const float* of_keys = nullptr;
  int64_t stride = 0;
  int64_t first_query = 0;
  const int32_t* cols =
      nullptr;  // cols[d] is the column of a key that stands d behind the query; null: nothing is added
};

// What happens to a score q k^T before the exponential, and which scores count.
struct ScoreRules {
  Visibility visibility;
  MaskView mask;
  float softcap = 0.0f;      // in units of log2: score = softcap * tanh(score); 0 means none
  float alibi_slope = 0.0f;  // in units of log2 per token
  // distance_bias[d], d in [-max_distance, max_distance], is added where a key stands d behind the query, the
  // first or last beyond; in units of log2; null: none.
  const float* distance_bias = nullptr;
  int64_t max_distance = 0;
  DistanceScores distance_scores;
  std::optional<float> sink;  // in units of log2
  int64_t head = 0;
  int64_t q_len = 0;
  int64_t kv_len = 0;    // the sequence's own keys
  int64_t num_keys = 0;  // with the appended ones, which follow them and which every query sees
};

// A tile of scores: consecutive queries of a sequence against consecutive keys.
template <typename T>
struct ScoreTile {
  MutableMatrixView scores;    // [rows, keys]; room for keys rounded up to kGranule<T>
  T* probabilities = nullptr;  // [rows, keys rounded up], where the exponentials go; may be scores.data
  int64_t probability_stride = 0;
  const int64_t* query = nullptr;  // of the sequence, one for each row
  int64_t first_key = 0;           // of the sequence; a multiple of kReferenceKeys
};

// Nothing seen yet. state.reference and its sums have room for `rows`, which may be more than state.acc has.
void BeginSoftmax(const SoftmaxState& state, int64_t rows);

// Applies the rules to the tile, fixes or raises the rows' references, and turns each score into 2^(score -
// reference), zero where forbidden and in the padding up to kGranule<T>. Adds the rows' sums to the state.
void SoftmaxTile(const ScoreTile<float>& tile, const ScoreRules& rules, const SoftmaxState& state);
void SoftmaxTile(const ScoreTile<Bf16>& tile, const ScoreRules& rules, const SoftmaxState& state);

// One term more for each row that has one: that of a score `sink`, in units of log2, whose weight nobody
// gets.
void AddSink(const SoftmaxState& state, int64_t rows, float sink);

// sums[r] = the sum of row r and inverses[r] = 1 / sums[r], but 0 where the sum is 0. Returns how many rows
// of the fast path need the exact one, and lists them in `unsafe`: their sum or something in acc came so
// close to f32's end that it may have overflowed, or is NaN, or the sum is so small that terms may have been
// lost. None on the exact path.
int64_t FinishSums(const SoftmaxState& state, int64_t rows, float* sums, float* inverses, int64_t* unsafe);

// out[r] = acc[r] * inverses[r] for the first out.cols columns. Rows of `out` may be adjacent columns of
// other writers: nothing beyond out.cols is touched.
void Normalise(const SoftmaxState& state, const float* inverses, BasicMatrixView<float> out);
void Normalise(const SoftmaxState& state, const float* inverses, BasicMatrixView<Bf16> out);

// out[r] = the sum of the kLanes partial sums of row r.
void SumRows(const float* partial_sums, int64_t rows, float* out);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_TILED_SOFTMAX_H_
