// SPDX-License-Identifier: Apache-2.0
#include "server/observe/gemm_peak.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <exception>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/product/gemm.h"
#include "core/product/precision.h"
#include "core/tensor/buffer.h"

namespace headlight {
namespace {

// A and B of some hundred KiB: they stay in a core's second cache, and B's panels are long enough.
constexpr int64_t kRows = 128;
constexpr int64_t kColumns = 256;
constexpr int64_t kDepth = 256;
constexpr double kFlops = 2.0 * kRows * kColumns * kDepth;

constexpr int64_t kProductsPerThread = 8;  // in a round, on average
constexpr int kRounds = 4;                 // the first warms up; the best of the others is the peak

// What the calling thread has computed, without the time when it stood aside for others: a machine that does
// something else as well is not slower for it.
int64_t ThreadCpuNs() {
  timespec time = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

class PeakOperands {
 public:
  explicit PeakOperands(const Gemm& gemm)
      : a_(Buffer::Allocate(kRows * kDepth * int64_t{sizeof(float)})),
        b_(Buffer::Allocate(kDepth * kColumns * int64_t{sizeof(float)})),
        c_(Buffer::Allocate(kRows * kColumns * int64_t{sizeof(float)})),
        scratch_(Buffer::Allocate(std::max<int64_t>(64, gemm.scratch_bytes()))) {
    if (!ok()) return;
    std::fill_n(a_.floats(), kRows * kDepth, 0.5f);  // ordinary numbers: denormals and infinities are slow
    std::fill_n(b_.floats(), kDepth * kColumns, 0.25f);
  }

  bool ok() const { return a_.ok() && b_.ok() && c_.ok() && scratch_.ok(); }
  void Multiply(const Gemm& gemm) const {
    gemm.Run(kRows, a_.floats(), b_.floats(), c_.floats(), scratch_.bytes(), /*bias=*/nullptr, {});
  }

 private:
  Buffer a_, b_, c_, scratch_;
};

absl::StatusOr<double> PeakOf(const GemmProvider& provider, ComputeArena& arena) {
  const std::unique_ptr<const Gemm> gemm = provider.Make({.operands = Precision::kF32,
                                                          .n = kColumns,
                                                          .k = kDepth,
                                                          .lda = kDepth,
                                                          .ldb = kColumns,
                                                          .ldc = kColumns});
  std::vector<PeakOperands> operands;
  for (int i = 0; i < arena.num_threads(); ++i) operands.emplace_back(*gemm);
  if (!std::all_of(operands.begin(), operands.end(),
                   [](const PeakOperands& of_thread) { return of_thread.ok(); })) {
    return absl::ResourceExhaustedError("memory is short");
  }
  double best = 0;
  for (int round = 0; round < kRounds; ++round) {
    std::vector<int64_t> cpu_ns(operands.size());
    const int64_t products = arena.num_threads() * kProductsPerThread;
    arena.ForEach(products, [&](int64_t, int worker) {
      const int64_t begin_ns = ThreadCpuNs();
      provider.BeginWork();
      operands[worker].Multiply(*gemm);
      cpu_ns[worker] += ThreadCpuNs() - begin_ns;
    });
    const auto total_ns = static_cast<double>(std::accumulate(cpu_ns.begin(), cpu_ns.end(), int64_t{1}));
    const double of_thread = static_cast<double>(products) * kFlops / (total_ns / 1e9);
    if (round > 0) best = std::max(best, of_thread * arena.num_threads());
  }
  return best;
}

}  // namespace

absl::StatusOr<double> MeasureGemmPeak(ComputeArena& arena) {
  absl::StatusOr<double> best = absl::UnimplementedError("this CPU has no f32 products");
  for (const GemmProvider* provider : {&kVectorProvider, &kBrgemmProvider, &kMatmulProvider}) {
    if (!provider->Available(Precision::kF32).ok()) continue;
    try {
      const absl::StatusOr<double> peak = PeakOf(*provider, arena);
      if (!best.ok() || (peak.ok() && *peak > *best)) best = peak;
    } catch (const std::exception& error) {  // of oneDNN, or of lists that find no memory
      if (!best.ok()) best = absl::InternalError(absl::StrCat(provider->name, ": ", error.what()));
    }
    if (best.ok() && provider != &kVectorProvider)
      break;  // the plain one is there for CPUs without the others
  }
  return best;
}

}  // namespace headlight
