// SPDX-License-Identifier: Apache-2.0
//
// The metrics of requests: one set of series for each model that is known, so that no lookup of labels stands
// in the way of a request.
#ifndef HEADLIGHT_SERVER_OBSERVE_REQUEST_METRICS_H_
#define HEADLIGHT_SERVER_OBSERVE_REQUEST_METRICS_H_

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/registry.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "server/observe/request_record.h"
#include "server/observe/request_series.h"

namespace headlight {

// Thread-safe.
class RequestMetrics {
 public:
  // `registry` must outlive it.
  RequestMetrics(prometheus::Registry& registry, int compute_threads);

  void RequestEnded(const RequestRecord& record);

  // Requests to `model` have series of their own from now on, until Forget. All others share those of the
  // label model="".
  void Know(const std::string& model);
  void Forget(const std::string& model);

  std::vector<ModelLatency> Latencies() const;      // of models that have answered
  std::map<std::string, int64_t> Refusals() const;  // by reason

 private:
  prometheus::Counter& RefusalsOf(const std::string& reason);  // requires mutex_

  const int compute_threads_;
  RequestFamilies families_;
  prometheus::Family<prometheus::Counter>& refusals_family_;
  mutable std::mutex mutex_;
  std::unordered_map<std::string, std::unique_ptr<RequestSeries>>
      series_;                                            // guarded by mutex_; "": the others'
  std::map<std::string, prometheus::Counter*> refusals_;  // guarded by mutex_
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OBSERVE_REQUEST_METRICS_H_
