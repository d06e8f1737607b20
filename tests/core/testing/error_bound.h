// SPDX-License-Identifier: Apache-2.0
//
// How far a layer computed in f32 may be from the double-precision reference. Derived from lengths and
// magnitudes, nothing in it is fitted.
#ifndef HEADLIGHT_TESTS_CORE_TESTING_ERROR_BOUND_H_
#define HEADLIGHT_TESTS_CORE_TESTING_ERROR_BOUND_H_

#include <cstdint>
#include <vector>

#include "core/attention/reference.h"
#include "tests/core/testing/test_problem.h"

namespace headlight::testing {

// For one sequence, element by element: |f32 result - reference| <= bound.
struct ErrorBound {
  std::vector<double> output;   // [q_len, embed_dim]
  std::vector<double> weights;  // [num_heads, q_len, kv_len]
  std::vector<double> mean;     // [q_len, kv_len], of the weights' mean over the heads
  double row_sum = 0;           // |sum of a row of weights - 1|
};

// Bounds the error of any f32 computation of the layer: any order of summation, fused multiply-adds or not,
// scale folded into whatever factor, one-pass or two-pass softmax.
//
// Model: rounding errors are independent, of mean zero, and at most u = 2^-24 of the rounded number each
// (Higham and Mary 2019, "A New Approach to Probabilistic Rounding Error Analysis"). Then an error sum_i c_i
// r_i, |r_i| <= u, exceeds L [e], [e] = u sqrt(sum c_i^2), with a probability of at most 2 exp(-L^2 / 2)
// (Hoeffding 1963). L = 8 makes that 3e-14 an element. The strict bounds with gamma(n) = n u / (1 - n u) hold
// always, but four products in a row make them a thousand times wider, too wide to notice a wrong result.
// Independent errors add as squares; where errors have a common source they are added in full.
//
// 0. A sum of n terms in any order: n - 1 sums and n products, none larger than T = sum |terms|:  [e] <= u
// sqrt(n) T.
// 1. Projections: embed_dim + 1 terms, and two roundings more if the scale is folded into the weights:
//      [dq] = u sqrt(embed_dim + 3) (sum |x w| + |b|);   dk, dv likewise with kdim, vdim.
// 2. Scores, with c = |scale|, S_j = c sum_d |q_d k_jd| + |mask_j|. Errors common to the keys of a row come
// from q and
//    from the constant scale * log2(e) (two roundings) and log2(e) on the mask (two); the others from k, and
//    from adding up head_dim products, mask and -m with up to six roundings of conversions between them:
//      common_j = L c sqrt(sum_d [dq_d]^2 k_jd^2) + 4 u S_j
//      own_j    = L sqrt(c^2 sum_d q_d^2 [dk_jd]^2 + u^2 (head_dim + 8) (S_j + M)^2)
//    m is the row reference that the softmax subtracts: a score of the row at most 2^64 below its maximum
//    (else the exponentials would leave f32), so M = the largest S_j among the keys with s_j >= max s - 64
//    ln 2.
// 3. Weights, n = kv_len. exp2 has a relative error of 2^-22, and so has each step of a running maximum, at
// most one in
//    64 keys:   R = 2 + n / 64,   ds_j = common_j + own_j + R 2^-22
//    The sum has n terms and R rescalings, the quotient up to four roundings:   g = L u sqrt(n + R + 4)
//      e^-ds_j / (sum_i p_i e^ds_i) (1 - g)  <=  computed p_j / p_j  <=  e^ds_j / (sum_i p_i e^-ds_i) (1 + g)
//    and no p exceeds 1 + g. Weights below 2^-120 may be flushed to zero. Whatever the scores, |sum_j p_j -
//    1| <= 2 g. The mean of H heads adds L u sqrt(H + 1) of itself.
// 4. Output. Let z_hj = v_j Wo (head h's rows), z_h = sum_j p_hj z_hj, so that y = sum_h z_h + bo. Moving the
// scores moves
//    z_h by their covariance with z_hj; meanwhile no p moves by more than the factor G = exp(2 max ds). For
//    each column:
//      from the scores   sum_h G (sum_j p_j |z_hj - z_h| (common_j + R 2^-22) + sqrt(sum_j p_j^2 (z_hj -
//      z_h)^2 own_j^2)) from the values   sum_h G L sqrt(sum_j p_j^2 sum_d [dv_jd]^2 w_hd^2) from p v sum_h G
//      (L u sqrt(n + R + 4) |z_h| + L u sqrt(n) sqrt(sum_d (sum_j p_j |v_jd|)^2 w_hd^2)) from Wo           L
//      u sqrt(num_heads head_dim + 1) (sum_hd |o_hd w_hd| + |bo|)
// All bounds get 1 % for the products of two errors, and 1e-30 for products below f32's normal range (the
// tests' inputs are of ordinary magnitude). The reference's own error is 2^-29 of all this.
ErrorBound F32ErrorBound(const TestLayer& layer, const AttentionBatch& batch, int64_t sequence,
                         const ReferenceResult& reference);

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_CORE_TESTING_ERROR_BOUND_H_
