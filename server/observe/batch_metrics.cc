// SPDX-License-Identifier: Apache-2.0
#include "server/observe/batch_metrics.h"

#include <prometheus/family.h>

namespace headlight {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::BuildHistogram;
using prometheus::Histogram;

const Histogram::BucketBoundaries kBatchRequests = {1, 2, 4, 8, 16, 32, 64, 128, 256};
const Histogram::BucketBoundaries kBatchTokens = {16,   64,   128,  256,   512,  1024,
                                                  2048, 4096, 8192, 16384, 65536};
const Histogram::BucketBoundaries kRatios = {0.25, 0.5, 0.67, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 4};

// What a batch still counts once the next one has ended, in what the gauge of the peak shows.
constexpr double kFade = 1 - 1.0 / 64;

}  // namespace

BatchMetrics::BatchMetrics(prometheus::Registry& registry)
    : requests_(BuildHistogram()
                    .Name("headlight_batch_requests")
                    .Help("Requests that were computed together")
                    .Register(registry)
                    .Add({}, kBatchRequests)),
      tokens_(BuildHistogram()
                  .Name("headlight_batch_tokens")
                  .Help("Tokens that were computed together")
                  .Register(registry)
                  .Add({}, kBatchTokens)),
      prediction_ratio_(BuildHistogram()
                            .Name("headlight_prediction_ratio")
                            .Help("Predicted over real compute time of batches; 1 is right")
                            .Register(registry)
                            .Add({}, kRatios)),
      flops_(BuildCounter()
                 .Name("headlight_computed_flops_total")
                 .Help("Floating-point operations of whole batches, as the cost model counts them")
                 .Register(registry)
                 .Add({})),
      seconds_(BuildCounter()
                   .Name("headlight_compute_seconds_total")
                   .Help("Time that whole batches took, packing and unpacking included")
                   .Register(registry)
                   .Add({})),
      gemm_peak_(BuildGauge()
                     .Name("headlight_gemm_peak_flops")
                     .Help("Operations a second that the compute threads reach in f32 products, measured "
                           "once; 0 before")
                     .Register(registry)
                     .Add({})),
      gemm_peak_ratio_(BuildGauge()
                           .Name("headlight_gemm_peak_ratio")
                           .Help("Operations a second of the last batches over headlight_gemm_peak_flops")
                           .Register(registry)
                           .Add({})) {}

void BatchMetrics::BatchEnded(const BatchFacts& batch) {
  requests_.Observe(static_cast<double>(batch.requests));
  tokens_.Observe(static_cast<double>(batch.tokens));
  if (!batch.whole || batch.real_ns <= 0) return;
  const double seconds = static_cast<double>(batch.real_ns) / 1e9;
  prediction_ratio_.Observe(static_cast<double>(batch.predicted_ns) / static_cast<double>(batch.real_ns));
  flops_.Increment(batch.flops);
  seconds_.Increment(seconds);
  const std::lock_guard lock(mutex_);
  recent_flops_ = recent_flops_ * kFade + batch.flops;
  recent_seconds_ = recent_seconds_ * kFade + seconds;
  if (peak_ > 0) gemm_peak_ratio_.Set(recent_flops_ / recent_seconds_ / peak_);
}

void BatchMetrics::SetGemmPeak(double flops_per_s) {
  gemm_peak_.Set(flops_per_s);
  const std::lock_guard lock(mutex_);
  peak_ = flops_per_s;
}

}  // namespace headlight
