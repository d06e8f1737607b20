// SPDX-License-Identifier: Apache-2.0
//
// What the server counts, in Prometheus's text format over HTTP.
#ifndef HEADLIGHT_SERVER_OBSERVE_METRICS_H_
#define HEADLIGHT_SERVER_OBSERVE_METRICS_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/models/load_observer.h"

namespace headlight {

// Thread-safe. Serves GET /metrics from construction to destruction.
class Metrics final : public LoadObserver {
 public:
  // `listen` is HOST:PORT; port 0 picks a free one. Empty: everything is counted, nothing is served.
  // INVALID_ARGUMENT: `listen` has no such form. UNAVAILABLE: it cannot listen there.
  static absl::StatusOr<std::unique_ptr<Metrics>> Create(const std::string& listen);
  ~Metrics() override;

  int port() const;  // 0 if nothing is served

  void ModelLoadEnded(const std::string& model, bool ok, double seconds) override;
  void ModelServes(const std::string& model, const std::string& version, int64_t memory_bytes) override;
  // Counters of the model's loads stay: Prometheus wants counters that never fall.
  void ModelIsGone(const std::string& model) override;

  std::string Text() const;  // what GET /metrics answers

 private:
  class Impl;
  explicit Metrics(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OBSERVE_METRICS_H_
