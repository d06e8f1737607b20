// SPDX-License-Identifier: Apache-2.0
#include "server/observe/process_metrics.h"

#include <prometheus/metric_type.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <system_error>
#include <utility>

#include "server/observe/load_report.h"

namespace headlight {
namespace {

using prometheus::MetricFamily;
using prometheus::MetricType;

MetricFamily One(const char* name, const char* help, MetricType type, double value) {
  MetricFamily family = {name, help, type, {}};
  prometheus::ClientMetric& metric = family.metric.emplace_back();
  (type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
  return family;
}

// The fields of /proc/self/stat from the third on: the second is the program's name, which may hold anything.
std::vector<double> StatFields() {
  std::ifstream file("/proc/self/stat");
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  const size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return {};
  std::istringstream rest(text.substr(name_end + 1));
  std::string state;
  rest >> state;
  std::vector<double> fields = {0};
  for (double field; rest >> field;) fields.push_back(field);
  return fields;
}

// When the machine started, in seconds since 1970; 0: unknown.
double BootTime() {
  std::ifstream file("/proc/stat");
  std::string word;
  while (file >> word) {
    double seconds = 0;
    if (word == "btime" && file >> seconds) return seconds;
  }
  return 0;
}

}  // namespace

std::vector<MetricFamily> ProcessMetrics::Collect() const {
  // Places in StatFields of what proc(5) numbers from 1.
  constexpr size_t kThreads = 20 - 3, kStartTicks = 22 - 3, kVirtualBytes = 23 - 3, kResidentPages = 24 - 3;
  std::vector<MetricFamily> families;
  const std::vector<double> fields = StatFields();
  const auto ticks_per_s = static_cast<double>(sysconf(_SC_CLK_TCK));
  if (fields.size() > kResidentPages) {
    families.push_back(One("process_cpu_seconds_total",
                           "CPU time of the process, in user mode and in the kernel", MetricType::Counter,
                           ProcessCpuSeconds()));
    families.push_back(One("process_threads", "Threads of the process", MetricType::Gauge, fields[kThreads]));
    families.push_back(One("process_virtual_memory_bytes", "Address space of the process", MetricType::Gauge,
                           fields[kVirtualBytes]));
    families.push_back(One("process_resident_memory_bytes", "Memory of the process that is in RAM",
                           MetricType::Gauge,
                           fields[kResidentPages] * static_cast<double>(sysconf(_SC_PAGESIZE))));
    if (const double boot_time = BootTime(); boot_time > 0) {
      families.push_back(One("process_start_time_seconds", "When the process started, since 1970",
                             MetricType::Gauge, boot_time + fields[kStartTicks] / ticks_per_s));
    }
  }
  std::error_code error;
  int64_t num_open = -1;  // the folder itself is open while it is read
  for (std::filesystem::directory_iterator entry("/proc/self/fd", error), end; !error && entry != end;
       entry.increment(error)) {
    ++num_open;
  }
  if (!error) {
    families.push_back(One("process_open_fds", "File descriptors that are open", MetricType::Gauge,
                           static_cast<double>(num_open)));
  }
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    families.push_back(One("process_max_fds", "File descriptors that may be open", MetricType::Gauge,
                           static_cast<double>(limit.rlim_cur)));
  }
  return families;
}

}  // namespace headlight
