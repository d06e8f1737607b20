// SPDX-License-Identifier: Apache-2.0
//
// What attention means here, in plain loops and double precision. Every kernel is tested against this file;
// nothing is fast in it and nothing is shared with the kernels but the description of the batch.
//
// For each sequence, head h, query i and key j, with g = h / (num_heads / num_kv_heads), a head's columns by
// their head's index:
//
//   q[i] = Xq[i] Wq + bq,  k[j] = Xk[j] Wk + bk,  v[j] = Xv[j] Wv + bv
//   q, k  through their RMS norms, of each head or of all together, where the config has them
//   q[i][h], k[j][g]  turned by RoPE to position(i) and j, where the config says so
//   s[h][i][j] = softcap(scale * (q[i][h] . k[j][g] + d[h][i][j]))
//                - slope[h] |position(i) - j| + bias[bucket(j - position(i))][h] + mask[h][i][j]
//   d[h][i][j] = q[i][h] . K[r][h] + k[j][h] . Q[r][h],  r the row of position(i) - j,  K = D Wk + bk,
//                Q = D Wq + bq,  D the (normed) table of distances: disentangled attention, else 0
//   p[h][i][j] = exp(s[h][i][j] - max_j s) / sum_j exp(...)  over the allowed keys; 0 for the others
//                (with sinks: / (exp(sink[h] - max_j s) + sum_j exp(...)))
//   y[i] = concat over h (sum_j p[h][i][j] v[j][g]) Wo + bo
//
// position(i) = i + kv_len - q_len, below 0 where there are more queries than keys. slope is 0 without ALiBi
// and bias 0 without relative_bias; RelativeBucket and DisentangledRow (position.h) say which bucket and row.
// RoPE turns the pair (a, b) at the angle t = position * RopeFrequency into
// (a cos t - b sin t, a sin t + b cos t). softcap(x) = c tanh(x / c).
//
// A key is allowed when it is visible (batch.h: VisibleKeys of the config's window and the request's
// visibility, narrowed), its boolean mask is true and its additive mask is not -inf. A query with no allowed
// key has p = 0 and attends to nothing: y = bo. A key that is not allowed changes nothing, whatever its key
// and value are: they may be infinite or NaN. A query with a score that is NaN or +inf, or with an allowed
// key whose value is not finite, has outputs that are not finite, which ones is left open; so is whether it
// has where the weight of that key is too small for f32. bias_k/bias_v and add_zero_attn append keys, in this
// order, after the sequence's own, as torch.nn.MultiheadAttention does. They stand at no position: every
// query sees them, and neither RoPE nor ALiBi nor a mask changes them; softcap does.
#ifndef HEADLIGHT_CORE_ATTENTION_REFERENCE_H_
#define HEADLIGHT_CORE_ATTENTION_REFERENCE_H_

#include <cstdint>
#include <vector>

#include "core/attention/batch.h"
#include "core/attention/config.h"
#include "core/attention/parameters.h"

namespace headlight {

// The results of one sequence, all row-major.
struct ReferenceResult {
  int64_t q_len = 0;
  int64_t kv_len = 0;           // appended keys included
  int64_t own_kv_len = 0;       // the sequence's own keys; the appended ones come after them
  std::vector<double> output;   // [q_len, embed_dim]
  std::vector<double> weights;  // [num_heads, q_len, kv_len]
};

// One entry per sequence of the batch; `config` resolved, batch.output and the sequences' sinks are not used.
std::vector<ReferenceResult> ReferenceAttention(const AttentionConfig& config,
                                                const AttentionParameters& weights,
                                                const AttentionBatch& batch);

// Mean over the heads, [q_len, kv_len].
std::vector<double> MeanWeights(const ReferenceResult& result, int64_t num_heads);

// The k largest weights of one row (head, query), best first; equal weights in the order of their keys. Only
// weights above 0 count; entries without one are key -1, weight 0.
struct TopKeys {
  std::vector<int64_t> keys;
  std::vector<double> weights;
};
TopKeys TopK(const ReferenceResult& result, int64_t head, int64_t query, int64_t k);

// How one head attends, averaged over the queries [query_begin, query_end) that have an allowed key
// (received_mass is a sum over them); all zero if none has. Appended keys stand at no position: they count in
// everything but distance_tokens, self_mass and first_token_mass.
struct HeadSummary {
  double entropy_nats = 0;            // -sum p ln p
  double distance_tokens = 0;         // sum p |position(i) - j|, position as in batch.h
  double max_weight = 0;              // max p
  double self_mass = 0;               // p at the query's own position; 0 where there is no such key
  double first_token_mass = 0;        // p at key 0
  double effective_support = 0;       // 1 / sum p^2
  std::vector<double> received_mass;  // [kv_len], sum over the queries of p
};
HeadSummary Summarize(const ReferenceResult& result, int64_t head, int64_t query_begin, int64_t query_end);

// Means of a head's weights over cells of the queries [query_begin, query_end) and of all keys, [rows, cols],
// neither more than there are: cell (r, c) of Q queries and n keys is that of
//   w[query_begin + i][j], floor(r Q / rows) <= i < floor((r + 1) Q / rows),
//                          floor(c n / cols) <= j < floor((c + 1) n / cols)
std::vector<double> GridOf(const ReferenceResult& result, int64_t head, int64_t query_begin,
                           int64_t query_end, int64_t rows, int64_t cols);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_REFERENCE_H_
