// SPDX-License-Identifier: Apache-2.0
//
// The yardstick of every "fraction of peak": oneDNN's own matmul of two 1024 x 1024 matrices, warm, on as
// many threads as what it is compared with, measured in the same run.
#ifndef HEADLIGHT_TESTS_BENCH_GEMM_PEAK_H_
#define HEADLIGHT_TESTS_BENCH_GEMM_PEAK_H_

#include <memory>

namespace headlight::bench {

class GemmPeak {
 public:
  explicit GemmPeak(int num_threads);
  ~GemmPeak();

  // Seconds of one product, the second of two in a row so that the matrices are in cache.
  double MeasureSeconds();

  static constexpr double kFlops = 2.0 * 1024 * 1024 * 1024;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace headlight::bench

#endif  // HEADLIGHT_TESTS_BENCH_GEMM_PEAK_H_
