// SPDX-License-Identifier: Apache-2.0
//
// What the server counts, in Prometheus's text format. Labels are bounded: models that serve and a few that
// did lately, codes, methods and reasons; never what callers choose.
#ifndef HEADLIGHT_SERVER_OBSERVE_METRICS_H_
#define HEADLIGHT_SERVER_OBSERVE_METRICS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/models/load_observer.h"
#include "server/observe/request_log.h"
#include "server/observe/request_metrics.h"
#include "server/schedule/batch_observer.h"

namespace headlight {

// Thread-safe.
class Metrics final : public LoadObserver, public RequestObserver, public BatchObserver {
 public:
  explicit Metrics(int compute_threads);
  ~Metrics() override;

  void RequestEnded(const RequestRecord& record) override;
  void BatchEnded(const BatchFacts& batch) override;

  void ModelLoadBegan(const std::string& model, const std::string& version) override;
  void ModelLoadEnded(const std::string& model, const std::string& version, const absl::Status& status,
                      double seconds) override;
  void ModelServes(const std::string& model, const std::string& version, int64_t memory_bytes) override;
  // What was counted of it stays for a while, because Prometheus wants counters that do not come and go:
  // until so many other models have left after it.
  static constexpr size_t kModelsKept = 32;
  void ModelIsGone(const std::string& model) override;

  // Floating-point operations a second that the compute threads reach together in f32 products.
  void SetGemmPeak(double flops_per_s);

  // What somebody else counts, read whenever metrics are: values by label. All must outlive every Text().
  enum class Kind { kGauge, kCounter };  // counters' names end in _total
  using Labels = std::map<std::string, std::string>;
  using Values = std::vector<std::pair<Labels, double>>;
  void Watch(const std::string& name, const std::string& help, Kind kind, std::function<Values()> read);
  void WatchOne(const std::string& name, const std::string& help, Kind kind, std::function<double()> read);

  std::string Text() const;  // what GET /metrics answers

  // For pages that people read.
  std::vector<ModelLatency> Latencies() const;
  std::map<std::string, int64_t> Refusals() const;

 private:
  class Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OBSERVE_METRICS_H_
