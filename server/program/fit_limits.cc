// SPDX-License-Identifier: Apache-2.0
#include "server/program/fit_limits.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/runtime/cpu_topology.h"
#include "core/runtime/memory_limit.h"
#include "server/memory/memory_plan.h"

namespace headlight {
namespace {

constexpr int64_t kMebibyte = int64_t{1} << 20;

// Defaults where there is memory enough.
constexpr int64_t kUsualMessageBytes = 256 * kMebibyte;
constexpr int64_t kUsualWindowBytes = kMebibyte;
constexpr int64_t kUsualQueueRequests = 1024;

// The least that options may say.
constexpr int64_t kLeastMessageBytes = int64_t{64} << 10;
constexpr int64_t kLeastWindowBytes = int64_t{64} << 10;

// Of what requests have, one of the largest takes at most a quarter: it is there as a message, as the kernels
// read it and as a reply, and others go on beside it.
constexpr int64_t kMessagesInMemory = 4;
// Bytes of messages may be under way on so many streams at once before they make themselves felt.
constexpr int64_t kWindowsInMemory = 256;
// Of a request that waits, beside its message and its buffers, which take leases: gRPC's call, the exchange,
// the ticket. Measured with 10,240 of one token on 40 connections, their messages of 3 KB included.
constexpr int64_t kWaitingRequestBytes = int64_t{24} << 10;

absl::Status Contradiction(const std::string& option, int64_t got, const std::string& wanted) {
  return absl::InvalidArgumentError(absl::StrCat("--", option, ": got ", got, ", wanted ", wanted));
}

class Fitting {
 public:
  Fitting(const ServerOptions& options, const MachineLimits& machine) : given_(options), machine_(machine) {
    fitted_.options = options;
  }

  absl::StatusOr<FittedLimits> Fit() && {
    HEADLIGHT_RETURN_IF_ERROR(FitMemory());
    HEADLIGHT_RETURN_IF_ERROR(FitMessages());
    HEADLIGHT_RETURN_IF_ERROR(FitQueue());
    FitThreads();
    CheckTimes();
    return std::move(fitted_);
  }

 private:
  void Warn(const std::string& sentence) { fitted_.warnings.push_back(sentence); }

  // "--memory-limit 1073741824", wherever the number is from.
  std::string MemoryLimit() const {
    return absl::StrCat("--memory-limit ", fitted_.options.memory_limit,
                        given_.memory_limit > 0 ? "" : " (the cgroup's or the machine's)");
  }

  absl::Status FitMemory() {
    int64_t& limit = fitted_.options.memory_limit;
    if (limit == 0) limit = machine_.memory_bytes;
    if (limit > machine_.memory_bytes) {
      Warn(absl::StrCat(
          "--memory-limit ", limit, " is more than the ", machine_.memory_bytes,
          " bytes of the cgroup or the machine: the kernel may end the process before requests are "
          "refused"));
    }
    const MemoryShares shares = PlanMemory(limit, given_.memory_for_models);
    request_bytes_ = shares.limit - shares.models_reserved;
    if (given_.memory_for_models == 0 || 2 * kLeastMessageBytes <= request_bytes_) return absl::OkStatus();
    return Contradiction("memory-for-models", given_.memory_for_models,
                         absl::StrCat("at most ", std::max<int64_t>(shares.limit - 2 * kLeastMessageBytes, 0),
                                      ": beside what the process itself takes, ", MemoryLimit(),
                                      " must leave room for requests"));
  }

  // A largest request and a largest reply are there at the same time, at least.
  absl::Status FitMessages() {
    int64_t& message_bytes = fitted_.options.max_message_bytes;
    int64_t& window_bytes = fitted_.options.receive_window_bytes;
    if (message_bytes == 0) {
      const int64_t share = request_bytes_ / kMessagesInMemory;
      message_bytes = std::clamp(share - share % kLeastMessageBytes, kLeastMessageBytes, kUsualMessageBytes);
    }
    if (window_bytes == 0) {
      window_bytes = std::clamp(request_bytes_ / kWindowsInMemory, kLeastWindowBytes, kUsualWindowBytes);
    }
    const std::string room =
        absl::StrCat("in the ", request_bytes_, " bytes that ", MemoryLimit(),
                     " leaves to requests (--memory-for-models ", given_.memory_for_models, ")");
    if (given_.max_message_bytes > request_bytes_ / 2) {
      return Contradiction(
          "max-message-bytes", message_bytes,
          absl::StrCat("at most ", request_bytes_ / 2, ": a largest request and its reply must fit ", room));
    }
    if (given_.receive_window_bytes > request_bytes_) {
      return Contradiction("receive-window-bytes", window_bytes, absl::StrCat("what fits ", room));
    }
    if (message_bytes > request_bytes_ / kMessagesInMemory) {
      Warn(absl::StrCat("--max-message-bytes ", message_bytes, ": fewer than ", kMessagesInMemory,
                        " of the largest messages fit ", room));
    }
    return absl::OkStatus();
  }

  absl::Status FitQueue() {
    int64_t& requests = fitted_.options.queue_max_requests;
    const int64_t limit = fitted_.options.memory_limit;
    const int64_t reserve = ProcessReserveBytes(limit);
    if (requests == 0) {
      requests = std::clamp<int64_t>(reserve / 2 / kWaitingRequestBytes, 1, kUsualQueueRequests);
      return absl::OkStatus();
    }
    if (requests > limit / kWaitingRequestBytes) {
      return Contradiction(
          "queue-max-requests", requests,
          absl::StrCat("at most ", limit / kWaitingRequestBytes, ": a request that waits takes about ",
                       kWaitingRequestBytes, " bytes beside its message, and all of them must fit in ",
                       MemoryLimit()));
    }
    if (requests > reserve / kWaitingRequestBytes) {
      Warn(absl::StrCat("--queue-max-requests ", requests, ": a full queue takes about ",
                        requests * kWaitingRequestBytes, " bytes beside messages, and only ", reserve, " of ",
                        MemoryLimit(), " are kept for what is not counted"));
    }
    return absl::OkStatus();
  }

  void FitThreads() {
    int64_t& threads = fitted_.options.threads;
    if (threads == 0) threads = machine_.compute_threads;
    if (given_.threads > machine_.cpus) {
      Warn(absl::StrCat("--threads ", threads, ": only ", machine_.cpus, " CPUs are allowed"));
    } else if (machine_.quota_cpus && static_cast<double>(given_.threads) > *machine_.quota_cpus) {
      Warn(absl::StrCat("--threads ", threads, ": the cgroup grants ", *machine_.quota_cpus,
                        " CPUs, so all of them will stand still for part of each period"));
    }
  }

  void CheckTimes() {
    const int64_t grace_ms = given_.shutdown_grace_s * 1000;
    for (const auto& [name, deadline_ms] : {std::pair("default-deadline-ms", given_.default_deadline_ms),
                                            std::pair("max-deadline-ms", given_.max_deadline_ms)}) {
      if (deadline_ms <= grace_ms) continue;
      Warn(absl::StrCat("--", name, " ", deadline_ms, " is more than --shutdown-grace-s ",
                        given_.shutdown_grace_s, ": a shutdown may cut such requests off"));
      break;
    }
  }

  const ServerOptions& given_;
  const MachineLimits& machine_;
  FittedLimits fitted_;
  int64_t request_bytes_ = 0;  // that models always leave to requests, while they keep to their share
};

}  // namespace

MachineLimits DetectMachineLimits() {
  const CpuTopology topology = DetectCpuTopology();
  return {.memory_bytes = DetectMemoryLimitBytes(),
          .cpus = topology.affinity_cpus,
          .compute_threads = topology.ComputeThreads(),
          .quota_cpus = topology.quota_cpus};
}

absl::StatusOr<FittedLimits> FitLimits(const ServerOptions& options, const MachineLimits& machine) {
  return Fitting(options, machine).Fit();
}

}  // namespace headlight
