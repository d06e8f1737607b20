// SPDX-License-Identifier: Apache-2.0
//
// The metrics of batches: their sizes, what was predicted of them, and how near they come to the machine's
// peak.
#ifndef HEADLIGHT_SERVER_OBSERVE_BATCH_METRICS_H_
#define HEADLIGHT_SERVER_OBSERVE_BATCH_METRICS_H_

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <mutex>

#include "server/schedule/batch_observer.h"

namespace headlight {

// Thread-safe.
class BatchMetrics final : public BatchObserver {
 public:
  explicit BatchMetrics(prometheus::Registry& registry);  // which must outlive it

  void BatchEnded(const BatchFacts& batch) override;

  // Floating-point operations a second that the compute threads reach together in f32 products. 0: unknown.
  void SetGemmPeak(double flops_per_s);

 private:
  prometheus::Histogram& requests_;
  prometheus::Histogram& tokens_;
  prometheus::Histogram& prediction_ratio_;
  prometheus::Counter& flops_;
  prometheus::Counter& seconds_;
  prometheus::Gauge& gemm_peak_;
  prometheus::Gauge& gemm_peak_ratio_;
  std::mutex mutex_;
  double recent_flops_ = 0;    // guarded by mutex_; of the last batches, fading
  double recent_seconds_ = 0;  // guarded by mutex_
  double peak_ = 0;            // guarded by mutex_; operations a second
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OBSERVE_BATCH_METRICS_H_
