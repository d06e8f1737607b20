// SPDX-License-Identifier: Apache-2.0
#include "core/attention/tiled/fused_scores.h"

#include <cstring>
#include <limits>

#include "core/simd/targets.h"

// Highway compiles this file once for each instruction set by including it again and again.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/attention/tiled/fused_scores.cc"
#include "hwy/foreach_target.h"
// Must come after foreach_target.h.
#include "core/simd/exp2-inl.h"
#include "hwy/highway.h"

// These take minutes to compile, and newer instruction sets have nothing to add to them: compiled for the oldest
// one that has what they use, and called by the others.
namespace headlight::N_AVX3 {
void ScoreAndExpF32(const FusedScores<float>& block);
}
namespace headlight::N_AVX3_ZEN4 {
void ScoreAndExpBf16(const FusedScores<Bf16>& block);
}

HWY_BEFORE_NAMESPACE();
namespace headlight::HWY_NAMESPACE {

#if HWY_TARGET <= HWY_AVX3

constexpr int64_t kTileKeys = 64;
constexpr int64_t kVectors = kTileKeys / kLanes;  // of a tile's row

// acc += a * b: sixteen products, or sixteen sums of two products.
template <typename T>
HWY_INLINE __m512 MultiplyAdd(__m512 acc, __m512 a, __m512 b) {
#if HWY_TARGET <= HWY_AVX3_ZEN4
  if constexpr (sizeof(T) == 2) {
    return _mm512_dpbf16_ps(acc, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }
#endif
  return _mm512_fmadd_ps(a, b, acc);
}

HWY_INLINE void StoreRow(const V* e, float* out) {
  for (int64_t v = 0; v < kVectors; ++v) hn::StoreU(e[v], kFloats, out + v * kLanes);
}

#if HWY_TARGET <= HWY_AVX3_ZEN4
HWY_INLINE void StoreRow(const V* e, Bf16* out) {
  for (int64_t v = 0; v < kVectors; v += 2) {
    const __m512bh pair = _mm512_cvtne2ps_pbh(e[v + 1].raw, e[v].raw);
    _mm512_storeu_si512(out + v * kLanes, reinterpret_cast<__m512i>(pair));
  }
}
#endif

HWY_INLINE float MaxOfRow(const float* scores) {
  V max = hn::Load(kFloats, scores);
  for (int64_t v = 1; v < kVectors; ++v) max = hn::Max(max, hn::Load(kFloats, scores + v * kLanes));
  return hn::ReduceMax(kFloats, max);
}

// A tile whose scores are known and whose exponentials are due.
template <typename T>
struct Pending {
  const float* scores = nullptr;  // [kFusedRows, kTileKeys]
  T* out = nullptr;               // rows out_stride apart
  int64_t out_stride = 0;
  float* reference = nullptr;
  float* sum = nullptr;
  float* exponent_sum = nullptr;  // where they are wanted
};

// The rows whose first visible panel this is take their reference from it.
template <typename T>
HWY_INLINE void SettleReferences(const Pending<T>& tile) {
  for (int64_t r = 0; r < kFusedRows; ++r) {
    if (tile.reference[r] != -std::numeric_limits<float>::infinity()) continue;
    tile.reference[r] = MaxOfRow(tile.scores + r * kTileKeys);
  }
}

// One vector of exponentials; with kWithExponents, their weighted exponents are added to `exponents`.
template <bool kWithExponents, typename T>
HWY_INLINE V ExpAt(const Pending<T>& tile, int64_t row, int64_t v, V reference, V& exponents) {
  const V x = hn::Sub(hn::Load(kFloats, tile.scores + row * kTileKeys + v * kLanes), reference);
  const V e = Exp2<T>(x);
  if constexpr (kWithExponents) exponents = AddExponent(e, x, exponents);
  return e;
}

template <bool kWithExponents, typename T>
HWY_INLINE void FinishRow(const Pending<T>& tile, int64_t row, const V* e, V exponents) {
  if constexpr (kWithExponents) {
    float* const exponent_sum = tile.exponent_sum + row * kLanes;
    hn::StoreU(hn::Add(hn::LoadU(kFloats, exponent_sum), exponents), kFloats, exponent_sum);
  }
  float* const sum = tile.sum + row * kLanes;
  const V added = hn::Add(hn::Add(e[0], e[1]), hn::Add(e[2], e[3]));
  hn::StoreU(hn::Add(hn::LoadU(kFloats, sum), added), kFloats, sum);
  StoreRow(e, tile.out + row * tile.out_stride);
}

// A word of operands, which need not be a float.
HWY_INLINE float WordAt(const float* address) {
  float word;
  std::memcpy(&word, address, sizeof(word));
  return word;
}

// One word of the heads into the products of all rows and keys of a tile.
template <typename T>
HWY_INLINE void Multiply(const float* queries, int64_t words, const float* keys, int64_t word,
                         __m512 (&acc)[kFusedRows][kVectors]) {
  __m512 b[kVectors];
#pragma GCC unroll 4
  for (int64_t v = 0; v < kVectors; ++v) {
    b[v] = _mm512_loadu_ps(keys + word * kTileKeys + v * kLanes);
    asm("" : "+v"(b[v]));  // loaded once: folded into each product it would be loaded four times
  }
#pragma GCC unroll 4
  for (int64_t r = 0; r < kFusedRows; ++r) {
    const __m512 a = _mm512_set1_ps(WordAt(queries + r * words + word));
#pragma GCC unroll 4
    for (int64_t v = 0; v < kVectors; ++v) acc[r][v] = MultiplyAdd<T>(acc[r][v], a, b[v]);
  }
}

// The scores of one tile; in between, with kFinish, the exponentials of the tile before. No branch depends on
// anything but the number of steps. kSteps: products per vector of exponentials, head_dim in 4-byte words /
// 16; 0 takes it from the argument.
template <typename T, int kSteps, bool kFinish, bool kWithExponents>
HWY_INLINE void ScoreTile(const float* queries, const float* keys, int64_t any_steps, float* scores,
                          const Pending<T>& before) {
  const int64_t steps = kSteps == 0 ? any_steps : kSteps;
  const int64_t words = steps * kFusedRows * kVectors;  // of a row of queries
  __m512 acc[kFusedRows][kVectors];
#pragma GCC unroll 4
  for (auto& acc_row : acc) {
#pragma GCC unroll 4
    for (__m512& a : acc_row) a = _mm512_setzero_ps();
  }
  const auto row_of_before = [&](int64_t r) HWY_ATTR __attribute__((always_inline)) {
    V e[kVectors];
    V reference = hn::Zero(kFloats), exponents = hn::Zero(kFloats);
    if constexpr (kFinish) reference = hn::Set(kFloats, before.reference[r]);
#pragma GCC unroll 4
    for (int64_t v = 0; v < kVectors; ++v) {
      const int64_t first = (r * kVectors + v) * steps;
#pragma GCC unroll 8
      for (int64_t step = 0; step < steps; ++step) Multiply<T>(queries, words, keys, first + step, acc);
      if constexpr (kFinish) e[v] = ExpAt<kWithExponents>(before, r, v, reference, exponents);
    }
    if constexpr (kFinish) FinishRow<kWithExponents>(before, r, e, exponents);
  };
  if constexpr (kSteps == 0) {  // too long to be written out: it would not fit the CPU's cache of operations
    for (int64_t r = 0; r < kFusedRows; ++r) row_of_before(r);
  } else {
#pragma GCC unroll 4
    for (int64_t r = 0; r < kFusedRows; ++r) row_of_before(r);
  }
#pragma GCC unroll 4
  for (int64_t r = 0; r < kFusedRows; ++r) {
#pragma GCC unroll 4
    for (int64_t v = 0; v < kVectors; ++v) _mm512_store_ps(scores + r * kTileKeys + v * kLanes, acc[r][v]);
  }
}

template <typename T, int kSteps, bool kWithExponents>
HWY_INLINE void ScoreAndExpTiles(const FusedScores<T>& block, int64_t steps) {
  HWY_ALIGN float ring[2][kFusedRows * kTileKeys];
  Pending<T> before;
  int turn = 0;
  for (int64_t panel = 0; panel < block.num_panels; ++panel) {
    const auto* keys = reinterpret_cast<const float*>(block.keys[panel]);
    for (int64_t row = 0; row < block.rows; row += kFusedRows, turn ^= 1) {
      const auto* queries = reinterpret_cast<const float*>(block.queries + row * block.head_dim);
      if (before.scores == nullptr) {
        ScoreTile<T, kSteps, false, kWithExponents>(queries, keys, steps, ring[turn], before);
      } else {
        SettleReferences(before);
        ScoreTile<T, kSteps, true, kWithExponents>(queries, keys, steps, ring[turn], before);
      }
      before = {ring[turn],
                block.probabilities + row * block.probability_stride + panel * kTileKeys,
                block.probability_stride,
                block.reference + row,
                block.sum + row * kLanes,
                kWithExponents ? block.exponent_sum + row * kLanes : nullptr};
    }
  }
  SettleReferences(before);
  for (int64_t r = 0; r < kFusedRows; ++r) {
    const V reference = hn::Set(kFloats, before.reference[r]);
    V exponents = hn::Zero(kFloats);
    V e[kVectors];
    for (int64_t v = 0; v < kVectors; ++v) e[v] = ExpAt<kWithExponents>(before, r, v, reference, exponents);
    FinishRow<kWithExponents>(before, r, e, exponents);
  }
}

template <bool kWithExponents, typename T>
HWY_INLINE void ScoreAndExpAs(const FusedScores<T>& block) {
  const int64_t steps = block.head_dim / kGranule<T>;
  switch (steps) {
    case 1:
      return ScoreAndExpTiles<T, 1, kWithExponents>(block, steps);
    case 2:
      return ScoreAndExpTiles<T, 2, kWithExponents>(block, steps);
    case 3:
      return ScoreAndExpTiles<T, 3, kWithExponents>(block, steps);
    case 4:
      return ScoreAndExpTiles<T, 4, kWithExponents>(block, steps);
    case 5:
      return ScoreAndExpTiles<T, 5, kWithExponents>(block, steps);
    case 6:
      return ScoreAndExpTiles<T, 6, kWithExponents>(block, steps);
    case 8:
      return ScoreAndExpTiles<T, 8, kWithExponents>(block, steps);
    default:
      return ScoreAndExpTiles<T, 0, kWithExponents>(block, steps);
  }
}

// Apart from each other, so that the loop pays for exponents only where they are wanted.
template <typename T>
HWY_INLINE void ScoreAndExpEither(const FusedScores<T>& block) {
  if (block.exponent_sum == nullptr) {
    ScoreAndExpAs<false>(block);
  } else {
    ScoreAndExpAs<true>(block);
  }
}

#if HWY_TARGET == HWY_AVX3 || (HWY_TARGETS & HWY_AVX3) == 0
void ScoreAndExpF32(const FusedScores<float>& block) { ScoreAndExpEither(block); }
#else
void ScoreAndExpF32(const FusedScores<float>& block) { N_AVX3::ScoreAndExpF32(block); }
#endif

#if HWY_TARGET <= HWY_AVX3_ZEN4
#if HWY_TARGET == HWY_AVX3_ZEN4 || (HWY_TARGETS & HWY_AVX3_ZEN4) == 0
void ScoreAndExpBf16(const FusedScores<Bf16>& block) { ScoreAndExpEither(block); }
#else
void ScoreAndExpBf16(const FusedScores<Bf16>& block) { N_AVX3_ZEN4::ScoreAndExpBf16(block); }
#endif
#else
void ScoreAndExpBf16(const FusedScores<Bf16>&) {}
#endif

#else  // no AVX-512: never called, since there are no such products either

void ScoreAndExpF32(const FusedScores<float>&) {}
void ScoreAndExpBf16(const FusedScores<Bf16>&) {}

#endif

}  // namespace headlight::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headlight {

HWY_EXPORT(ScoreAndExpF32);
HWY_EXPORT(ScoreAndExpBf16);

void ScoreAndExp(const FusedScores<float>& block) { HWY_DYNAMIC_DISPATCH(ScoreAndExpF32)(block); }
void ScoreAndExp(const FusedScores<Bf16>& block) { HWY_DYNAMIC_DISPATCH(ScoreAndExpBf16)(block); }

}  // namespace headlight
#endif  // HWY_ONCE
