// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/gemm_peak.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <new>
#include <unordered_map>

#include "core/tensor/buffer.h"
#include "oneapi/dnnl/dnnl.hpp"

namespace headlight::bench {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

struct GemmPeak::Impl {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  dnnl::matmul matmul;
  std::unordered_map<int, dnnl::memory> arguments;
};

GemmPeak::GemmPeak(Precision precision, int num_threads) : impl_(std::make_unique<Impl>()) {
  using dnnl::memory;
  using Type = memory::data_type;
  constexpr memory::dim kSize = 1024;
  Type a = Type::f32, b = Type::f32, c = Type::f32;
  if (precision == Precision::kBf16) a = b = Type::bf16;
  if (precision == Precision::kInt8) a = Type::u8, b = Type::s8, c = Type::s32;
  omp_set_num_threads(num_threads);
  const auto plain = [&](Type type) { return memory::desc({kSize, kSize}, type, memory::format_tag::ab); };
  const memory::desc packed({kSize, kSize}, b, memory::format_tag::any);
  const dnnl::matmul::primitive_desc description(impl_->engine, plain(a), packed, plain(c));
  impl_->matmul = dnnl::matmul(description);
  const auto make = [&](const memory::desc& desc) {
    memory data(desc, impl_->engine);
    // 0x3c3c...: an ordinary number in each of the types.
    std::memset(data.get_data_handle(), 0x3c, desc.get_size());
    return data;
  };
  impl_->arguments = {{DNNL_ARG_SRC, make(description.src_desc())},
                      {DNNL_ARG_WEIGHTS, make(description.weights_desc())},
                      {DNNL_ARG_DST, make(description.dst_desc())}};
}

GemmPeak::~GemmPeak() = default;

double GemmPeak::MeasureSeconds() {
  Clock::time_point start;
  for (int i = 0; i < 3; ++i) {
    start = Clock::now();
    impl_->matmul.execute(impl_->stream, impl_->arguments);
    impl_->stream.wait();
  }
  return SecondsSince(start);
}

double MeasureStreamBandwidth(ComputeArena& arena) {
  constexpr int64_t kBytes = int64_t{256} << 20;
  constexpr int64_t kPieceBytes = int64_t{1} << 20;
  const Buffer block = Buffer::Allocate(kBytes);
  if (!block.ok()) return 0.0;
  double best_s = std::numeric_limits<double>::infinity();
  for (int repetition = 0; repetition < 5; ++repetition) {
    const Clock::time_point start = Clock::now();
    arena.ForEach(kBytes / kPieceBytes, [&](int64_t piece, int) {
      float* out = block.floats() + piece * kPieceBytes / int64_t{sizeof(float)};
#if defined(__x86_64__)
      for (int64_t i = 0; i < kPieceBytes / int64_t{sizeof(float)}; i += 4) {
        _mm_stream_ps(out + i, _mm_set1_ps(1.0f));
      }
      _mm_sfence();
#else  // other CPUs see by themselves that whole lines are written
      std::fill_n(out, kPieceBytes / int64_t{sizeof(float)}, 1.0f);
#endif
    });
    best_s = std::min(best_s, SecondsSince(start));
  }
  return kBytes / best_s;
}

MemoryReader::MemoryReader() : block_(Buffer::Allocate(kBytes)) {
  if (!block_.ok()) throw std::bad_alloc();
  std::memset(block_.bytes(), 1, kBytes);
}

void MemoryReader::Read(ComputeArena& arena) {
  constexpr int64_t kPieceBytes = int64_t{1} << 20;
  constexpr int64_t kAtOnce = 8;
  arena.ForEach(kBytes / kPieceBytes, [&](int64_t piece, int) {
    const auto* in = reinterpret_cast<const __m128i*>(block_.bytes() + piece * kPieceBytes);
    __m128i sums[kAtOnce] = {};
    for (int64_t i = 0; i < kPieceBytes / int64_t{sizeof(__m128i)}; i += kAtOnce) {
      for (int64_t j = 0; j < kAtOnce; ++j) sums[j] = _mm_add_epi64(sums[j], _mm_load_si128(in + i + j));
    }
    for (const __m128i& sum : sums) asm volatile("" : : "x"(sum));  // or nothing would be read
  });
}

}  // namespace headlight::bench
