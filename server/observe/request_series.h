// SPDX-License-Identifier: Apache-2.0
//
// The series of the requests to one model: which metrics a request moves, and how.
#ifndef HEADLIGHT_SERVER_OBSERVE_REQUEST_SERIES_H_
#define HEADLIGHT_SERVER_OBSERVE_REQUEST_SERIES_H_

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "server/observe/request_record.h"

namespace headlight {

// Of the requests to one model that were answered, since the start. Seconds, as the buckets tell them.
struct ModelLatency {
  std::string model;
  int64_t requests = 0;
  double p50_s = 0;
  double p99_s = 0;
};

// The metrics that have a series for each model.
struct RequestFamilies {
  explicit RequestFamilies(prometheus::Registry& registry);  // which must outlive it

  prometheus::Family<prometheus::Histogram>& duration;
  prometheus::Family<prometheus::Histogram>& queue;
  prometheus::Family<prometheus::Histogram>& compute;
  prometheus::Family<prometheus::Histogram>& encode;
  prometheus::Family<prometheus::Counter>& requests;
  prometheus::Family<prometheus::Counter>& tokens;
  prometheus::Family<prometheus::Counter>& sequences;
  prometheus::Family<prometheus::Counter>& request_bytes;
  prometheus::Family<prometheus::Counter>& reply_bytes;
  prometheus::Family<prometheus::Counter>& copied_bytes;
  prometheus::Family<prometheus::Counter>& saved;
};

// Not thread-safe. They leave their families with it.
class RequestSeries {
 public:
  RequestSeries(RequestFamilies& families, std::string model, int compute_threads);
  ~RequestSeries();
  RequestSeries(const RequestSeries&) = delete;
  RequestSeries& operator=(const RequestSeries&) = delete;

  void RequestEnded(const RequestRecord& record);

  // False: nothing was answered yet.
  bool Latency(ModelLatency& latency) const;

 private:
  static constexpr size_t kNumCodes = 17;  // of gRPC

  // Made when they are first needed: most codes are never seen.
  struct OfCode {
    prometheus::Histogram* duration = nullptr;
    prometheus::Histogram* queue = nullptr;
    prometheus::Histogram* compute = nullptr;
    prometheus::Histogram* encode = nullptr;
    std::vector<std::pair<std::string, prometheus::Counter*>>
        requests;  // by method, of which there are a few
  };

  static size_t IndexOf(absl::StatusCode code);
  void Observe(prometheus::Family<prometheus::Histogram>& family, prometheus::Histogram*& histogram,
               const RequestRecord& record, int64_t us);
  prometheus::Counter& RequestsOf(OfCode& of_code, const RequestRecord& record);

  RequestFamilies& families_;
  const std::string model_;
  const int compute_threads_;
  std::array<OfCode, kNumCodes> codes_;
  prometheus::Counter& tokens_;
  prometheus::Counter& sequences_;
  prometheus::Counter& request_bytes_;
  prometheus::Counter& reply_bytes_;
  prometheus::Counter& copied_bytes_;
  prometheus::Counter& saved_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OBSERVE_REQUEST_SERIES_H_
