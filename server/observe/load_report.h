// SPDX-License-Identifier: Apache-2.0
//
// How loaded the server is, as ORCA tells balancers: in the trailer of every reply, and to whoever asks for
// nothing else (rpc/load_service). It holds no name of a model, a tenant or a caller.
#ifndef HEADLIGHT_SERVER_OBSERVE_LOAD_REPORT_H_
#define HEADLIGHT_SERVER_OBSERVE_LOAD_REPORT_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>

#include "server/observe/request_log.h"
#include "server/schedule/clock.h"
#include "xds/data/orca/v3/orca_load_report.pb.h"

namespace headlight {

// What can be read off at any time.
struct LoadNow {
  double cpu_s = 0;                        // that the process has used since it began
  double memory_utilization = 0;           // the next ones are fractions: of all memory,
  double requests_memory_utilization = 0;  // of what requests may have of it,
  double queue_utilization = 0;            // and of the requests that may wait
  double backlog_s = 0;                    // predicted computing of what waits and runs
};

// CPU seconds that this process has used on all threads.
double ProcessCpuSeconds();

// Thread-safe. Rates are those of about the last second.
class LoadReporter final : public RequestObserver {
 public:
  // `cpus` is the CPU time in a second of all that the process may use, `compute_threads` of what it computes
  // with. `look` is called at most ten times a second, by whoever asks for a report. `clock` must outlive
  // this.
  LoadReporter(const Clock& clock, double cpus, int compute_threads, std::function<LoadNow()> look);

  void RequestEnded(const RequestRecord& record) override;

  // Not older than a tenth of a second. Serialized: below a microsecond.
  xds::data::orca::v3::OrcaLoadReport Report();
  std::string Serialized();

 private:
  void Refresh();  // requires mutex_

  const Clock& clock_;
  const double cpus_;
  const int compute_threads_;
  const std::function<LoadNow()> look_;
  std::atomic<int64_t> num_requests_ = 0;  // ever
  std::atomic<int64_t> num_errors_ = 0;

  std::mutex mutex_;
  // Guarded by mutex_:
  TimePoint looked_at_;
  double cpu_s_ = 0;  // then, as are the next two
  int64_t told_requests_ = 0;
  int64_t told_errors_ = 0;
  double cpu_per_s_ = 0;
  xds::data::orca::v3::OrcaLoadReport report_;
  std::string serialized_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OBSERVE_LOAD_REPORT_H_
