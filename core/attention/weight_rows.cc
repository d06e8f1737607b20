// SPDX-License-Identifier: Apache-2.0
#include "core/attention/weight_rows.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "core/attention/simd.h"

// Highway compiles this file once for each instruction set by including it again and again.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/attention/weight_rows.cc"
#include "hwy/foreach_target.h"
// Must come after foreach_target.h.
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace headlight::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using Floats = hn::CappedTag<float, kLanes>;
using V = hn::Vec<Floats>;
constexpr Floats kFloats;
constexpr int64_t kStep = hn::MaxLanes(kFloats);

HWY_INLINE V LoadAs(const float* in) { return hn::LoadU(kFloats, in); }

HWY_INLINE V LoadAs(const Bf16* in) {
  const hn::Rebind<hwy::bfloat16_t, Floats> halves;
  return hn::PromoteTo(kFloats, hn::LoadU(halves, reinterpret_cast<const hwy::bfloat16_t*>(in)));
}

HWY_INLINE float AsFloat(float value) { return value; }
HWY_INLINE float AsFloat(Bf16 value) { return ToFloat(value); }

template <typename T>
HWY_INLINE void ScaleRowAs(const T* in, int64_t n, float factor, float* out) {
  const V f = hn::Set(kFloats, factor);
  int64_t i = 0;
  for (; i + kStep <= n; i += kStep) hn::StoreU(hn::Mul(LoadAs(in + i), f), kFloats, out + i);
  for (; i < n; ++i) out[i] = AsFloat(in[i]) * factor;
}

void ScaleRowF32(const float* in, int64_t n, float factor, float* out) { ScaleRowAs(in, n, factor, out); }
void ScaleRowBf16(const Bf16* in, int64_t n, float factor, float* out) { ScaleRowAs(in, n, factor, out); }

void ScaleAndAddRow(const float* in, int64_t n, float factor, float* out) {
  const V f = hn::Set(kFloats, factor);
  int64_t i = 0;
  for (; i + kStep <= n; i += kStep) {
    hn::StoreU(hn::Add(hn::LoadU(kFloats, out + i), hn::Mul(LoadAs(in + i), f)), kFloats, out + i);
  }
  for (; i < n; ++i) out[i] += in[i] * factor;
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

void SelectTopKOfRow(const float* row, int64_t n, int64_t k, float* weights, int32_t* keys) {
  std::fill_n(weights, k, 0.0f);
  std::fill_n(keys, k, -1);
  int64_t i = 0;
  for (; i + kStep <= n; i += kStep) {
    if (hn::AllFalse(kFloats, hn::Gt(LoadAs(row + i), hn::Set(kFloats, weights[k - 1])))) continue;
    for (int64_t j = i; j < i + kStep; ++j) Insert(row[j], static_cast<int32_t>(j), k, weights, keys);
  }
  for (; i < n; ++i) Insert(row[i], static_cast<int32_t>(i), k, weights, keys);
}

void AddRowToSummary(const float* row, int64_t num_keys, int64_t kv_len, int64_t position, SummarySums& sums,
                     float* received_mass) {
  const V zero = hn::Zero(kFloats);
  V entropy = zero, distance = zero, max = zero, squares = zero, mass = zero;
  // Distances are whole numbers; beyond 2^24 they round as any f32 does.
  V key_distance = hn::Sub(hn::Iota(kFloats, 0), hn::Set(kFloats, static_cast<float>(position)));
  const V step = hn::Set(kFloats, static_cast<float>(kStep));
  const auto add = [&](V p, V own) HWY_ATTR {
    entropy = hn::NegMulAdd(p, hn::IfThenZeroElse(hn::Eq(p, zero), hn::Log(kFloats, p)), entropy);
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
  sums.statistics[kEntropyNats] += hn::ReduceSum(kFloats, entropy);
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
HWY_EXPORT(ScaleAndAddRow);
HWY_EXPORT(SelectTopKOfRow);
HWY_EXPORT(AddRowToSummary);

void ScaleTo(const float* in, int64_t n, float factor, float* out) {
  HWY_DYNAMIC_DISPATCH(ScaleRowF32)(in, n, factor, out);
}

void ScaleTo(const Bf16* in, int64_t n, float factor, float* out) {
  HWY_DYNAMIC_DISPATCH(ScaleRowBf16)(in, n, factor, out);
}

void ScaleAndAdd(const float* in, int64_t n, float factor, float* out) {
  HWY_DYNAMIC_DISPATCH(ScaleAndAddRow)(in, n, factor, out);
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
