// SPDX-License-Identifier: Apache-2.0
//
// How far a computed layer may be from the double-precision reference. Derived from lengths, magnitudes and
// the roundings of each precision; nothing in it is fitted.
#ifndef HEADLIGHT_TESTS_CORE_TESTING_ERROR_BOUND_H_
#define HEADLIGHT_TESTS_CORE_TESTING_ERROR_BOUND_H_

#include <cstdint>
#include <vector>

#include "core/attention/config.h"
#include "core/attention/reference.h"
#include "tests/core/testing/test_problem.h"

namespace headlight::testing {

// For one sequence, element by element: |computed result - reference| <= bound.
struct ErrorBound {
  std::vector<double> output;         // [q_len, embed_dim]
  std::vector<double> weights;        // [num_heads, q_len, kv_len]
  std::vector<double> least_weights;  // no computed weight is below this; same shape
  double row_sum = 0;                 // |sum of a row of weights - 1|
};

// Relative error of an f32 sum of n terms in any order, with as many products: step 0 below, L [e] for T = 1.
double SumErrorBound(int64_t n);

// Bounds the error of any computation of the layer in `precision`: any order of summation, fused
// multiply-adds or not, scale folded into whatever factor, one-pass or two-pass softmax.
//
// Model: rounding errors are independent, of mean zero, and at most u = 2^-24 of the rounded number each
// (Higham and Mary 2019, "A New Approach to Probabilistic Rounding Error Analysis"). Then an error sum_i c_i
// r_i, |r_i| <= u, exceeds L [e], [e] = u sqrt(sum c_i^2), with a probability of at most 2 exp(-L^2 / 2)
// (Hoeffding 1963). L = 8 makes that 3e-14 an element. The strict bounds with gamma(n) = n u / (1 - n u) hold
// always, but four products in a row make them a thousand times wider, too wide to notice a wrong result.
// Independent errors add as squares; where errors have a common source they are added in full.
//
// Beside f32's own roundings, operands of products are rounded to fewer bits, by at most
//   bf16  U = 2^-8 of each number: x and W of the projections, q, k, p, v, and the heads' outputs o before Wo
//   int8  in the projections: half a step of the token, a = (max x - min x) / 510, for each element of x (for
//   Wo:
//         of o, after bf16's rounding), half a step of the column, b_o = max_i |w_io| / 254, for each element
//         of W; the rest as bf16
// For bf16 a = U max |x| of the token and b_io = U |w_io|.
//
// 0. A sum of n terms in any order: n - 1 sums and n products, none larger than T = sum |terms|:
//      [e] <= u sqrt(n) T
// 1. Projections y = x W + b: embed_dim + 1 terms, and two roundings more if the scale is folded into the
// weights.
//    From each output's own roundings, from W's roundings (common to all tokens), from those of x (common to
//    all outputs of a token; ||.|| is the spectral norm, no rotation changes it):
//      [dy] = u sqrt(embed_dim + 3) (sum |x w| + |b|),   [dy_W] = sqrt(sum_i b_io^2 (|x_i| + a)^2),
//      [dy_x . z] = a ||W|| |z| for a vector z over the outputs of one head
//    RoPE turns pairs with sines and cosines rounded to f32, four roundings more. As both of a pair then have
//    the same sources, [dy], [dy_W] of either are sqrt(2) times the root of what is turned in. Last, q, k, v
//    round by U.
// 2. Scores, with c = |scale|, S_j = c sum_d |q_d k_jd| + |ALiBi| + |mask_j|. Errors common to the keys of a
// row come
//    from q and from the constants scale * log2(e) (two roundings), log2(e) on mask and slope (two), softcap
//    (two); those of Wk's roundings are in all keys, too. Own to a key are the others from k, and from adding
//    up head_dim products, ALiBi, mask and -m with up to six roundings of conversions between them:
//      common_j = L c sqrt(sum_d ([dq_d]^2 + [dq_W,d]^2) k_jd^2 + [dq_x . k_j]^2)
//                 + L c sqrt(sum_d q_d^2 [dk_W,jd]^2) + 4 u S_j (6 with a softcap)
//      own_j    = L sqrt(c^2 sum_d q_d^2 [dk_jd]^2 + c^2 [dk_x,j . q]^2 + u^2 (head_dim + 8) (S_j + M)^2)
//    m is the row reference that the softmax subtracts: a score of the row at most 2^64 below its maximum
//    (else the exponentials would leave f32), so M = the largest S_j among the keys with s_j >= max s - 64
//    ln 2. A softcap c makes no error larger; its tanh is off by at most 2^-21.
// 3. Weights, n = kv_len. exp2 has a relative error of E = 2^-22 (2^-13 for bf16), and so has each step of a
// running
//    maximum, at most one in 64 keys:   fixed = (2 + n / 64) E + softcap 2^-21,   ds_j = common_j + own_j +
//    fixed The sum has n terms and R = 2 + n / 64 rescalings, the quotient up to four roundings; a weight may
//    be the rounded one that the product p v takes:   g = L u sqrt(n + R + 4) + U
//      e^-ds_j / (sum_i p_i e^ds_i) (1 - g)  <=  computed p_j / p_j  <=  e^ds_j / (sum_i p_i e^-ds_i) (1 + g)
//    and no p exceeds 1 + g. Weights below 2^-120 may be flushed to zero. Whatever the scores, |sum_j p_j -
//    1| <= 2 g.
// 4. Output. Let z_hj = v_j Wo (head h's rows), z_h = sum_j p_hj z_hj, so that y = sum_h z_h + bo. Moving the
// scores
//    moves z_h by their covariance with z_hj; meanwhile no p moves by more than the factor G = exp(2 max ds),
//    and z_h stays among the z_hj. For each column, and each head:
//      from the scores  min(G (sum_j p_j |z_hj - z_h| (common_j + fixed)
//                              + sqrt(sum_j p_j^2 (z_hj - z_h)^2 own_j^2)), max_j |z_hj - z_h|)
//      from the values  L min(G sqrt(sum_j p_j^2 e_j^2), max_j e_j) + L min(G sum_j p_j f_j, max_j f_j) with
//                       e_j^2 = sum_d [dv_jd]^2 w_hd^2 + [dv_x,j . w_h]^2,  f_j^2 = sum_d [dv_W,jd]^2 w_hd^2
//      from p v         G L u (sqrt(n + R + 4) |z_h| + sqrt(n) sqrt(sum_d (sum_j p_j |v_jd|)^2 w_hd^2))
//      from p           G U (|z_h| + L sqrt(sum_j p_j^2 max(|z_hj|, |z_hj - z_h|)^2)): equal weights round
//      alike,
//                       others do not
//    and the product with Wo as in step 1, with o in the place of x: L times the root of its three squares.
// All bounds get 1 % for the products of two errors, and 1e-30 for products below f32's normal range (the
// tests' inputs are of ordinary magnitude). The reference's own error is 2^-29 of all this.
ErrorBound BoundErrors(const TestLayer& layer, const AttentionBatch& batch, int64_t sequence,
                       const ReferenceResult& reference, Precision precision);

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_CORE_TESTING_ERROR_BOUND_H_
