// SPDX-License-Identifier: Apache-2.0
#include "core/tensor/convert.h"

#include <cassert>
#include <cstddef>
#include <cstring>

// Highway compiles this file once for each instruction set by including it again and again.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/tensor/convert.cc"
#include "hwy/foreach_target.h"
// Must come after foreach_target.h.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace headlight::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
// The bits of a vector of f32, of as many 16-bit elements, and both as the bytes that they are in memory.
using Words = hn::CappedTag<uint32_t, 16>;
using Halves = hn::Rebind<uint16_t, Words>;
using WordBytes = hn::Repartition<uint8_t, Words>;
using HalfBytes = hn::Repartition<uint8_t, Halves>;
using W = hn::Vec<Words>;

HWY_INLINE W Set(uint32_t bits) { return hn::Set(Words(), bits); }
HWY_INLINE auto Floats(W bits) { return hn::BitCast(hn::RebindToFloat<Words>(), bits); }
HWY_INLINE W Bits(hn::Vec<hn::RebindToFloat<Words>> floats) { return hn::BitCast(Words(), floats); }

constexpr uint32_t kInfinity = 0x7f800000;      // f32; above it are the NaNs
constexpr uint32_t kTwoTo16 = 143u << 23;       // no f16 is as large
constexpr uint32_t kTwoToMinus14 = 113u << 23;  // the smallest normal f16
constexpr uint32_t kRebias = 112u << 23;        // difference of the exponents' biases, 127 - 15

struct Bf16 {
  static HWY_INLINE W Widen(W half) { return hn::ShiftLeft<16>(half); }

  static HWY_INLINE W Narrow(W bits) {
    const W kept = hn::ShiftRight<16>(bits);
    const W odd = hn::And(kept, Set(1));
    const W rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, Set(0x7fff))));
    const auto is_nan = hn::Gt(hn::And(bits, Set(0x7fffffff)), Set(kInfinity));
    return hn::IfThenElse(is_nan, hn::Or(kept, Set(0x0040)), rounded);
  }
};

struct F16 {
  static HWY_INLINE W Widen(W half) {
    const W magnitude = hn::And(half, Set(0x7fff));
    const W shifted = hn::ShiftLeft<13>(magnitude);
    // Infinity and NaN have the largest exponent of both types.
    const W special = hn::Add(shifted, Set(2 * kRebias));
    const W normal = hn::Add(shifted, Set(kRebias));
    // Denormals are magnitude * 2^-24: 2^-14 with those bits in the mantissa, less 2^-14.
    const W denormal =
        Bits(hn::Sub(Floats(hn::Add(shifted, Set(kTwoToMinus14))), Floats(Set(kTwoToMinus14))));
    const W finite = hn::IfThenElse(hn::Lt(magnitude, Set(0x0400)), denormal, normal);
    const W widened = hn::IfThenElse(hn::Lt(magnitude, Set(0x7c00)), finite, special);
    return hn::Or(widened, hn::ShiftLeft<16>(hn::And(half, Set(0x8000))));
  }

  static HWY_INLINE W Narrow(W bits) {
    const W magnitude = hn::And(bits, Set(0x7fffffff));
    // A carry out of the mantissa raises the exponent, at the end to infinity: that is the rounding's intent.
    const W odd = hn::And(hn::ShiftRight<13>(magnitude), Set(1));
    const W normal = hn::ShiftRight<13>(hn::Add(hn::Sub(magnitude, Set(kRebias)), hn::Add(odd, Set(0xfff))));
    // The unit in the last place of 1/2 is 2^-24, that of the denormals: the sum with 1/2 is rounded to it.
    const W half = Set(126u << 23);
    const W denormal = hn::Sub(Bits(hn::Add(Floats(magnitude), Floats(half))), half);
    const W finite = hn::IfThenElse(hn::Lt(magnitude, Set(kTwoToMinus14)), denormal, normal);
    const W payload = hn::And(hn::ShiftRight<13>(magnitude), Set(0x3ff));
    const W nan = hn::Or(payload, Set(0x7e00));
    const W special = hn::IfThenElse(hn::Gt(magnitude, Set(kInfinity)), nan, Set(0x7c00));
    const W narrowed = hn::IfThenElse(hn::Lt(magnitude, Set(kTwoTo16)), finite, special);
    return hn::Or(narrowed, hn::And(hn::ShiftRight<16>(bits), Set(0x8000)));
  }
};

template <typename Half>
HWY_INLINE void WidenVector(const uint8_t* in, uint8_t* out) {
  const auto halves = hn::BitCast(Halves(), hn::LoadU(HalfBytes(), in));
  hn::StoreU(hn::BitCast(WordBytes(), Half::Widen(hn::PromoteTo(Words(), halves))), WordBytes(), out);
}

template <typename Half>
HWY_INLINE void NarrowVector(const uint8_t* in, uint8_t* out) {
  const W bits = hn::BitCast(Words(), hn::LoadU(WordBytes(), in));
  hn::StoreU(hn::BitCast(HalfBytes(), hn::TruncateTo(Halves(), Half::Narrow(bits))), HalfBytes(), out);
}

// Calls convert(in, out) for each vector of elements of in_size and out_size bytes; the last ones, fewer than
// a vector, go through memory that is as long as one.
template <typename Convert>
HWY_INLINE void ForEachVector(const void* in, int64_t in_size, int64_t n, int64_t out_size, void* out,
                              Convert convert) {
  const int64_t lanes = hn::Lanes(Words());
  const uint8_t* from = static_cast<const uint8_t*>(in);
  uint8_t* to = static_cast<uint8_t*>(out);
  for (; n >= lanes; n -= lanes, from += lanes * in_size, to += lanes * out_size) convert(from, to);
  if (n == 0) return;
  HWY_ALIGN uint8_t last_in[64] = {};
  HWY_ALIGN uint8_t last_out[64];
  std::memcpy(last_in, from, n * in_size);
  convert(last_in, last_out);
  std::memcpy(to, last_out, n * out_size);
}

}  // namespace

void WidenBf16(const void* in, int64_t n, void* out) { ForEachVector(in, 2, n, 4, out, WidenVector<Bf16>); }
void WidenF16(const void* in, int64_t n, void* out) { ForEachVector(in, 2, n, 4, out, WidenVector<F16>); }
void NarrowBf16(const void* in, int64_t n, void* out) { ForEachVector(in, 4, n, 2, out, NarrowVector<Bf16>); }
void NarrowF16(const void* in, int64_t n, void* out) { ForEachVector(in, 4, n, 2, out, NarrowVector<F16>); }

}  // namespace headlight::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headlight {

HWY_EXPORT(WidenBf16);
HWY_EXPORT(WidenF16);
HWY_EXPORT(NarrowBf16);
HWY_EXPORT(NarrowF16);

void ConvertToF32(DType dtype, const void* in, int64_t n, float* out) {
  assert(dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBf16);
  if (n == 0) return;
  if (dtype == DType::kF16) {
    HWY_DYNAMIC_DISPATCH(WidenF16)(in, n, out);
  } else if (dtype == DType::kBf16) {
    HWY_DYNAMIC_DISPATCH(WidenBf16)(in, n, out);
  } else {
    std::memcpy(out, in, n * sizeof(float));
  }
}

void ConvertFromF32(const float* in, int64_t n, DType dtype, void* out) {
  assert(dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBf16);
  if (n == 0) return;
  if (dtype == DType::kF16) {
    HWY_DYNAMIC_DISPATCH(NarrowF16)(in, n, out);
  } else if (dtype == DType::kBf16) {
    HWY_DYNAMIC_DISPATCH(NarrowBf16)(in, n, out);
  } else {
    std::memcpy(out, in, n * sizeof(float));
  }
}

}  // namespace headlight
#endif  // HWY_ONCE
