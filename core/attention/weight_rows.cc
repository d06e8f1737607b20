// SPDX-License-Identifier: Apache-2.0
#include "core/attention/weight_rows.h"

#include <algorithm>
#include <cstdint>

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

}  // namespace headlight
#endif  // HWY_ONCE
