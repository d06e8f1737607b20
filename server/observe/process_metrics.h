// SPDX-License-Identifier: Apache-2.0
//
// What the kernel knows of this process, under the names that Prometheus's own client libraries use.
#ifndef HEADLIGHT_SERVER_OBSERVE_PROCESS_METRICS_H_
#define HEADLIGHT_SERVER_OBSERVE_PROCESS_METRICS_H_

#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>

#include <vector>

namespace headlight {

// Thread-safe. Reads /proc when it is asked; what cannot be read is left out.
class ProcessMetrics final : public prometheus::Collectable {
 public:
  std::vector<prometheus::MetricFamily> Collect() const override;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OBSERVE_PROCESS_METRICS_H_
