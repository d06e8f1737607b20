// SPDX-License-Identifier: Apache-2.0
//
// What the server counts, in Prometheus's text format over HTTP.
#ifndef HEADLIGHT_SERVER_OBSERVE_METRICS_H_
#define HEADLIGHT_SERVER_OBSERVE_METRICS_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace headlight {

// Thread-safe. Serves GET /metrics from construction to destruction.
class Metrics {
 public:
  // `listen` is HOST:PORT; port 0 picks a free one. Empty: everything is counted, nothing is served.
  // INVALID_ARGUMENT: `listen` has no such form. UNAVAILABLE: it cannot listen there.
  static absl::StatusOr<std::unique_ptr<Metrics>> Create(const std::string& listen);
  ~Metrics();

  int port() const;  // 0 if nothing is served

  // A load of `model` ended, well or not, after `seconds`.
  void ModelLoadEnded(const std::string& model, bool ok, double seconds);

  // From now on `version` answers for `model`, holding so much memory.
  void ModelServes(const std::string& model, const std::string& version, int64_t memory_bytes);

  // Nothing answers for `model` any more. Its counters of loads stay: Prometheus wants counters that never
  // fall.
  void ModelIsGone(const std::string& model);

  std::string Text() const;  // what GET /metrics answers

 private:
  class Impl;
  explicit Metrics(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OBSERVE_METRICS_H_
