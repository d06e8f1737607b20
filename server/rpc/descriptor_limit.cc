// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/descriptor_limit.h"

#include <sys/resource.h>

#include <algorithm>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace headlight {
namespace {

// gRPC's and the book's.
constexpr int64_t kPerConnection = 2;

// For models' files, metrics, logs, epoll and the like; half of what there is, where that is little.
constexpr int64_t kReserve = 128;

// However many descriptors there are: an idle connection takes some 20 KiB of memory.
constexpr int64_t kMostByDefault = 10'000;

constexpr int64_t kAddressesToFillAll = 4;
constexpr int64_t kLeastPerAddress = 8;

}  // namespace

int64_t RaiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
  if (limit.rlim_cur < limit.rlim_max) {
    const rlimit raised = {limit.rlim_max, limit.rlim_max};
    if (setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
  }
  return static_cast<int64_t>(
      std::min<rlim_t>(limit.rlim_cur, static_cast<rlim_t>(std::numeric_limits<int32_t>::max())));
}

absl::StatusOr<ConnectionLimits> FitConnections(const ConnectionLimits& wanted, int64_t descriptors) {
  const int64_t fitting = (descriptors - std::min(kReserve, descriptors / 2)) / kPerConnection;
  if (wanted.in_all > fitting) {
    return absl::InvalidArgumentError(absl::StrCat("--max-connections: got ", wanted.in_all,
                                                   ", wanted at most ", fitting, ", which the limit of ",
                                                   descriptors, " descriptors has room for (ulimit -n)"));
  }
  ConnectionLimits limits = wanted;
  if (limits.in_all == 0) limits.in_all = std::min(fitting, kMostByDefault);
  if (limits.per_address == 0) {
    limits.per_address = std::max(limits.in_all / kAddressesToFillAll, kLeastPerAddress);
  }
  limits.per_address = std::min(limits.per_address, limits.in_all);
  return limits;
}

}  // namespace headlight
