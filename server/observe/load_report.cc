// SPDX-License-Identifier: Apache-2.0
#include "server/observe/load_report.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

namespace headlight {
namespace {

constexpr std::chrono::milliseconds kReportAge{100};
constexpr double kMemoryS = 1.0;  // what was so long ago counts a third

double Seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
}

double Fraction(double value) { return std::clamp(value, 0.0, 1.0); }

}  // namespace

double ProcessCpuSeconds() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return Seconds(usage.ru_utime) + Seconds(usage.ru_stime);
}

LoadReporter::LoadReporter(const Clock& clock, double cpus, int compute_threads,
                           std::function<LoadNow()> look)
    : clock_(clock),
      cpus_(cpus),
      compute_threads_(compute_threads),
      look_(std::move(look)),
      looked_at_(clock.Now() - kReportAge),  // the first to ask has a report, if not yet rates
      cpu_s_(ProcessCpuSeconds()) {}

void LoadReporter::RequestEnded(const RequestRecord& record) {
  num_requests_.fetch_add(1, std::memory_order_relaxed);
  if (record.code != absl::StatusCode::kOk) num_errors_.fetch_add(1, std::memory_order_relaxed);
}

xds::data::orca::v3::OrcaLoadReport LoadReporter::Report() {
  const std::lock_guard lock(mutex_);
  Refresh();
  return report_;
}

std::string LoadReporter::Serialized() {
  const std::lock_guard lock(mutex_);
  Refresh();
  return serialized_;
}

void LoadReporter::Refresh() {
  const TimePoint now = clock_.Now();
  const double passed_s = std::chrono::duration<double>(now - looked_at_).count();
  if (now - looked_at_ < kReportAge) return;
  const LoadNow load = look_();
  const int64_t requests = num_requests_.load(std::memory_order_relaxed);
  const int64_t errors = num_errors_.load(std::memory_order_relaxed);
  const double weight = 1 - std::exp(-passed_s / kMemoryS);
  const auto follow = [&](double old, double counted) { return old + weight * (counted / passed_s - old); };
  cpu_per_s_ = follow(cpu_per_s_, load.cpu_s - cpu_s_);
  report_.set_rps_fractional(
      follow(report_.rps_fractional(), static_cast<double>(requests - told_requests_)));
  report_.set_eps(follow(report_.eps(), static_cast<double>(errors - told_errors_)));
  report_.set_cpu_utilization(cpu_per_s_ / cpus_);
  report_.set_mem_utilization(Fraction(load.memory_utilization));
  const double queue = Fraction(load.queue_utilization), memory = Fraction(load.requests_memory_utilization);
  // Compute threads may be fewer than CPUs: busy ones are all that there is, whatever the CPUs have left.
  report_.set_application_utilization(std::max({cpu_per_s_ / compute_threads_, queue, memory}));
  (*report_.mutable_utilization())["queue"] = queue;
  (*report_.mutable_utilization())["requests_memory"] = memory;
  (*report_.mutable_named_metrics())["backlog_seconds"] = load.backlog_s;
  serialized_ = report_.SerializeAsString();
  looked_at_ = now;
  cpu_s_ = load.cpu_s;
  told_requests_ = requests;
  told_errors_ = errors;
}

}  // namespace headlight
