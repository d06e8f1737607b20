// SPDX-License-Identifier: Apache-2.0
#include "core/attention/weight_rows.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "core/attention/simd.h"

// Highway compiles this file once for each instruction set by including it again and again.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/attention/weight_rows.cc"
#include "hwy/foreach_target.h"
// Must come after foreach_target.h.
#include "core/attention/lanes-inl.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace headlight::HWY_NAMESPACE {

constexpr double kLn2 = 0.69314718055994531;

HWY_INLINE float AsFloat(float value) { return value; }
HWY_INLINE float AsFloat(Bf16 value) { return ToFloat(value); }

template <typename T>
HWY_INLINE void ScaleRowAs(const T* in, int64_t n, float factor, float* out) {
  const V f = hn::Set(kFloats, factor);
  int64_t i = 0;
  for (; i + kStep <= n; i += kStep) hn::StoreU(hn::Mul(LoadAs(in + i), f), kFloats, out + i);
  for (; i < n; ++i) out[i] = AsFloat(in[i]) * factor;
}

template <typename T>
HWY_INLINE void StreamRowAs(const T* in, int64_t n, float factor, float* out) {
  // Streaming stores want whole aligned registers: up to the first one, and after the last, ordinary ones.
  constexpr auto kBytes = static_cast<uintptr_t>(kStep) * sizeof(float);
  const uintptr_t past = reinterpret_cast<uintptr_t>(out) % kBytes;
  const int64_t head =
      past == 0 ? 0 : std::min<int64_t>(n, static_cast<int64_t>((kBytes - past) / sizeof(float)));
  ScaleRowAs(in, head, factor, out);
  const V f = hn::Set(kFloats, factor);
  int64_t i = head;
  for (; i + kStep <= n; i += kStep) hn::Stream(hn::Mul(LoadAs(in + i), f), kFloats, out + i);
  ScaleRowAs(in + i, n - i, factor, out + i);
}

template <typename T>
HWY_INLINE void ScaleAndAddAs(const T* in, int64_t n, float factor, float* out) {
  const V f = hn::Set(kFloats, factor);
  int64_t i = 0;
  for (; i + kStep <= n; i += kStep) {
    hn::StoreU(hn::Add(hn::LoadU(kFloats, out + i), hn::Mul(LoadAs(in + i), f)), kFloats, out + i);
  }
  for (; i < n; ++i) out[i] += AsFloat(in[i]) * factor;
}

void ScaleRowF32(const float* in, int64_t n, float factor, float* out) { ScaleRowAs(in, n, factor, out); }
void ScaleRowBf16(const Bf16* in, int64_t n, float factor, float* out) { ScaleRowAs(in, n, factor, out); }
void StreamRowF32(const float* in, int64_t n, float factor, float* out) { StreamRowAs(in, n, factor, out); }
void StreamRowBf16(const Bf16* in, int64_t n, float factor, float* out) { StreamRowAs(in, n, factor, out); }
void ScaleAndAddF32(const float* in, int64_t n, float factor, float* out) {
  ScaleAndAddAs(in, n, factor, out);
}
void ScaleAndAddBf16(const Bf16* in, int64_t n, float factor, float* out) {
  ScaleAndAddAs(in, n, factor, out);
}

// Takes `weight` into the sorted list if it is larger than the last one; equal ones stay behind.
HWY_INLINE void Insert(float weight, int32_t key, int64_t k, float* weights, int32_t* keys) {
  if (!(weight > weights[k - 1])) return;
  int64_t place = k - 1;
  for (; place > 0 && weight > weights[place - 1]; --place) {
    weights[place] = weights[place - 1];
    keys[place] = keys[place - 1];
  }
  weights[place] = weight;
  keys[place] = key;
}

// A number that at least k weights of the row reach: the k-th largest of the maxima of kMaxima disjoint parts
// of it, since each of those is a weight of its own. Requires k <= kMaxima <= n.
template <int64_t kMaxima>
HWY_INLINE float ReachedByK(const float* row, int64_t n, int64_t k) {
  constexpr int64_t kVectors = kMaxima / kStep;
  V max[kVectors];
  for (V& m : max) m = hn::Zero(kFloats);
  for (int64_t i = 0; i + kMaxima <= n; i += kMaxima) {
    for (int64_t v = 0; v < kVectors; ++v) max[v] = hn::Max(max[v], LoadAs(row + i + v * kStep));
  }
  HWY_ALIGN float maxima[kMaxima];
  for (int64_t v = 0; v < kVectors; ++v) hn::Store(max[v], kFloats, maxima + v * kStep);
  // Those with fewer than k larger ones; the smallest of them. Counting has no branches to mispredict.
  V reached = hn::Set(kFloats, std::numeric_limits<float>::infinity());
  for (int64_t v = 0; v < kVectors; ++v) {
    V larger = hn::Zero(kFloats);
    for (int64_t i = 0; i < kMaxima; ++i) {
      const auto is_larger = hn::Gt(hn::Set(kFloats, maxima[i]), max[v]);
      larger = hn::Add(larger, hn::IfThenElseZero(is_larger, hn::Set(kFloats, 1.0f)));
    }
    const auto counts = hn::Lt(larger, hn::Set(kFloats, static_cast<float>(k)));
    reached = hn::IfThenElse(counts, hn::Min(reached, max[v]), reached);
  }
  return hn::ReduceMin(kFloats, reached);
}

void SelectTopKOfRow(const float* row, int64_t n, int64_t k, float* weights, int32_t* keys) {
  std::fill_n(weights, k, 0.0f);
  std::fill_n(keys, k, -1);
  float reached = 0.0f;
  if (k <= 8 && n >= 16) {
    reached = ReachedByK<16>(row, n, k);
  } else if (k <= 32 && n >= 64) {
    reached = ReachedByK<64>(row, n, k);
  }
  // Only larger weights are of interest.
  V least = hn::Set(kFloats, std::nextafter(reached, 0.0f));
  int64_t i = 0;
  for (; i + kStep <= n; i += kStep) {
    const auto candidates = hn::Gt(LoadAs(row + i), least);
    if (hn::AllFalse(kFloats, candidates)) continue;
    uint8_t bytes[8] = {};
    hn::StoreMaskBits(kFloats, candidates, bytes);
    uint64_t bits;
    std::memcpy(&bits, bytes, sizeof(bits));
    for (; bits != 0; bits &= bits - 1) {
      const int64_t key = i + std::countr_zero(bits);
      Insert(row[key], static_cast<int32_t>(key), k, weights, keys);
    }
    least = hn::Max(least, hn::Set(kFloats, weights[k - 1]));
  }
  for (; i < n; ++i) Insert(row[i], static_cast<int32_t>(i), k, weights, keys);
}

// log2 of a normal number, something finite for 0. Absolute error 3.3e-7: a minimax polynomial of the
// mantissa between sqrt(1/2) and sqrt(2).
HWY_INLINE V Log2(V x) {
  const hn::RebindToSigned<Floats> integers;
  const auto bits = hn::BitCast(integers, x);
  const auto exponent = hn::ShiftRight<23>(hn::Sub(bits, hn::Set(integers, 0x3f3504f3)));
  const V f =
      hn::Sub(hn::BitCast(kFloats, hn::Sub(bits, hn::ShiftLeft<23>(exponent))), hn::Set(kFloats, 1.0f));
  V power = hn::Set(kFloats, 0.17063434422f);
  power = hn::MulAdd(power, f, hn::Set(kFloats, -0.27269789577f));
  power = hn::MulAdd(power, f, hn::Set(kFloats, 0.29726260900f));
  power = hn::MulAdd(power, f, hn::Set(kFloats, -0.35896185040f));
  power = hn::MulAdd(power, f, hn::Set(kFloats, 0.48046502471f));
  power = hn::MulAdd(power, f, hn::Set(kFloats, -0.72137588263f));
  power = hn::MulAdd(power, f, hn::Set(kFloats, 1.44269967079f));
  return hn::MulAdd(power, f, hn::ConvertTo(kFloats, exponent));
}

void AddRowToSummary(const float* row, int64_t num_keys, int64_t kv_len, int64_t position, SummarySums& sums,
                     float* received_mass) {
  const V zero = hn::Zero(kFloats);
  V entropy = zero, distance = zero, max = zero, squares = zero, mass = zero;
  // Distances are whole numbers; beyond 2^24 they round as any f32 does.
  V key_distance = hn::Sub(hn::Iota(kFloats, 0), hn::Set(kFloats, static_cast<float>(position)));
  const V step = hn::Set(kFloats, static_cast<float>(kStep));
  const auto add = [&](V p, V own) HWY_ATTR {
    entropy = hn::NegMulAdd(p, Log2(p), entropy);
    distance = hn::MulAdd(own, hn::Abs(key_distance), distance);
    max = hn::Max(max, p);
    squares = hn::MulAdd(p, p, squares);
    mass = hn::Add(mass, p);
    key_distance = hn::Add(key_distance, step);
  };
  int64_t i = 0;
  for (; i + kStep <= kv_len; i += kStep) {
    const V p = LoadAs(row + i);
    hn::StoreU(hn::Add(hn::LoadU(kFloats, received_mass + i), p), kFloats, received_mass + i);
    add(p, p);
  }
  // The end of the sequence's own keys and the appended ones, which stand nowhere.
  for (; i < num_keys; i += kStep) {
    const auto left = static_cast<size_t>(num_keys - i);
    const V p = hn::LoadN(kFloats, row + i, left);
    const V received = hn::Add(hn::LoadN(kFloats, received_mass + i, left), p);
    hn::StoreN(received, kFloats, received_mass + i, left);
    add(p, hn::IfThenElseZero(hn::FirstN(kFloats, static_cast<size_t>(std::max<int64_t>(0, kv_len - i))), p));
  }
  const float total = hn::ReduceSum(kFloats, mass);
  if (total == 0.0f) return;  // no allowed key
  ++sums.num_queries;
  sums.statistics[kEntropyNats] += hn::ReduceSum(kFloats, entropy) * kLn2;
  sums.statistics[kDistanceTokens] += hn::ReduceSum(kFloats, distance);
  sums.statistics[kMaxWeight] += hn::ReduceMax(kFloats, max);
  sums.statistics[kEffectiveSupport] += 1.0 / hn::ReduceSum(kFloats, squares);
  sums.statistics[kFirstTokenMass] += row[0];
  if (position >= 0 && position < kv_len) sums.statistics[kSelfMass] += row[position];
}

}  // namespace headlight::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headlight {

HWY_EXPORT(ScaleRowF32);
HWY_EXPORT(ScaleRowBf16);
HWY_EXPORT(StreamRowF32);
HWY_EXPORT(StreamRowBf16);
HWY_EXPORT(ScaleAndAddF32);
HWY_EXPORT(ScaleAndAddBf16);
HWY_EXPORT(SelectTopKOfRow);
HWY_EXPORT(AddRowToSummary);

void ScaleTo(const float* in, int64_t n, float factor, float* out) {
  HWY_DYNAMIC_DISPATCH(ScaleRowF32)(in, n, factor, out);
}

void ScaleTo(const Bf16* in, int64_t n, float factor, float* out) {
  HWY_DYNAMIC_DISPATCH(ScaleRowBf16)(in, n, factor, out);
}

void StreamTo(const float* in, int64_t n, float factor, float* out) {
  HWY_DYNAMIC_DISPATCH(StreamRowF32)(in, n, factor, out);
}

void StreamTo(const Bf16* in, int64_t n, float factor, float* out) {
  HWY_DYNAMIC_DISPATCH(StreamRowBf16)(in, n, factor, out);
}

void FinishStreams() { hwy::FlushStream(); }

void ScaleAndAdd(const float* in, int64_t n, float factor, float* out) {
  HWY_DYNAMIC_DISPATCH(ScaleAndAddF32)(in, n, factor, out);
}

void ScaleAndAdd(const Bf16* in, int64_t n, float factor, float* out) {
  HWY_DYNAMIC_DISPATCH(ScaleAndAddBf16)(in, n, factor, out);
}

void SelectTopK(const float* row, int64_t n, int64_t k, float* weights, int32_t* keys) {
  HWY_DYNAMIC_DISPATCH(SelectTopKOfRow)(row, n, k, weights, keys);
}

void AddToSummary(const float* row, int64_t num_keys, int64_t kv_len, int64_t position, SummarySums& sums,
                  float* received_mass) {
  HWY_DYNAMIC_DISPATCH(AddRowToSummary)(row, num_keys, kv_len, position, sums, received_mass);
}

}  // namespace headlight
#endif  // HWY_ONCE
