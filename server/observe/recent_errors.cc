// SPDX-License-Identifier: Apache-2.0
#include "server/observe/recent_errors.h"

#include <utility>

namespace headlight {
namespace {

constexpr size_t kLongestKept = 300;

}  // namespace

void RecentErrors::RequestEnded(const RequestRecord& record) {
  if (record.code == absl::StatusCode::kOk) return;
  RecentError error = {std::chrono::system_clock::now(),
                       record.code,
                       record.reason,
                       record.method,
                       record.model.substr(0, kLongestKept),
                       record.message.substr(0, kLongestKept)};
  const std::lock_guard lock(mutex_);
  std::deque<RecentError>& kept = IsOurFault(record.code) ? our_faults_ : refusals_;
  kept.push_front(std::move(error));
  if (kept.size() > kKept) kept.pop_back();
}

std::vector<RecentError> RecentErrors::OurFaults() const {
  const std::lock_guard lock(mutex_);
  return {our_faults_.begin(), our_faults_.end()};
}

std::vector<RecentError> RecentErrors::Refusals() const {
  const std::lock_guard lock(mutex_);
  return {refusals_.begin(), refusals_.end()};
}

}  // namespace headlight
