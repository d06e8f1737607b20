// SPDX-License-Identifier: Apache-2.0
#include "server/observe/request_metrics.h"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace headlight {
namespace {

constexpr size_t kMostReasons = 32;  // words of this server; a bound all the same

}  // namespace

RequestMetrics::RequestMetrics(prometheus::Registry& registry, int compute_threads)
    : compute_threads_(compute_threads),
      families_(registry),
      refusals_family_(prometheus::BuildCounter()
                           .Name("headlight_refusals_total")
                           .Help("Requests that were not computed or not to their end, by reason")
                           .Register(registry)) {
  Know("");
}

void RequestMetrics::RequestEnded(const RequestRecord& record) {
  const std::lock_guard lock(mutex_);
  auto series = series_.find(record.model);
  if (series == series_.end()) series = series_.find("");
  series->second->RequestEnded(record);
  if (!record.reason.empty()) RefusalsOf(record.reason).Increment();
}

prometheus::Counter& RequestMetrics::RefusalsOf(const std::string& reason) {
  const auto known = refusals_.find(reason);
  if (known != refusals_.end()) return *known->second;
  const std::string label = refusals_.size() < kMostReasons ? reason : "other";
  prometheus::Counter& counter = refusals_family_.Add({{"reason", label}});
  refusals_.emplace(label, &counter);
  return counter;
}

void RequestMetrics::Know(const std::string& model) {
  const std::lock_guard lock(mutex_);
  std::unique_ptr<RequestSeries>& series = series_[model];
  if (series == nullptr) series = std::make_unique<RequestSeries>(families_, model, compute_threads_);
}

void RequestMetrics::Forget(const std::string& model) {
  if (model.empty()) return;
  const std::lock_guard lock(mutex_);
  series_.erase(model);
}

std::vector<ModelLatency> RequestMetrics::Latencies() const {
  std::vector<ModelLatency> latencies;
  const std::lock_guard lock(mutex_);
  for (const auto& [model, series] : series_) {
    ModelLatency latency;
    if (series->Latency(latency)) latencies.push_back(std::move(latency));
  }
  std::sort(latencies.begin(), latencies.end(),
            [](const ModelLatency& a, const ModelLatency& b) { return a.model < b.model; });
  return latencies;
}

std::map<std::string, int64_t> RequestMetrics::Refusals() const {
  std::map<std::string, int64_t> refusals;
  const std::lock_guard lock(mutex_);
  for (const auto& [reason, counter] : refusals_) refusals[reason] = static_cast<int64_t>(counter->Value());
  return refusals;
}

}  // namespace headlight
