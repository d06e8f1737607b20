// SPDX-License-Identifier: Apache-2.0
//
// The yardsticks: oneDNN's own matmul of two 1024 x 1024 matrices, warm, streaming stores and reads, on as
// many threads as what they are compared with, measured in the same run.
#ifndef HEADLIGHT_TESTS_BENCH_GEMM_PEAK_H_
#define HEADLIGHT_TESTS_BENCH_GEMM_PEAK_H_

#include <cstdint>
#include <memory>

#include "core/attention/config.h"
#include "core/runtime/compute_arena.h"
#include "core/tensor/buffer.h"

namespace headlight::bench {

// f32 x f32, bf16 x bf16 to f32, u8 x s8 to s32.
class GemmPeak {
 public:
  GemmPeak(Precision precision, int num_threads);
  ~GemmPeak();

  // Seconds of one product, the last of three in a row so that matrices and threads are warm.
  double MeasureSeconds();

  static constexpr double kFlops = 2.0 * 1024 * 1024 * 1024;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Bytes per second that streaming stores reach into a block far larger than the caches.
double MeasureStreamBandwidth(ComputeArena& arena);

// Reads a block far larger than the caches from end to end.
class MemoryReader {
 public:
  MemoryReader();

  // Once, on the arena's threads.
  void Read(ComputeArena& arena);

  static constexpr int64_t kBytes = int64_t{256} << 20;

 private:
  Buffer block_;
};

}  // namespace headlight::bench

#endif  // HEADLIGHT_TESTS_BENCH_GEMM_PEAK_H_
