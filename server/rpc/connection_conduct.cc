// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/connection_conduct.h"

#include <utility>

namespace headlight {

void ConnectionConduct::CallBegan(bool is_open) {
  const std::lock_guard lock(mutex_);
  ++calls_begun_;
  if (is_open) ++calls_open_;
}

void ConnectionConduct::CallClosed() {
  const std::lock_guard lock(mutex_);
  --calls_open_;
}

void ConnectionConduct::MessageCame(int64_t bytes) {
  const std::lock_guard lock(mutex_);
  message_bytes_ += bytes;
}

bool ConnectionConduct::IsAbuse(CallEnding ending, TimePoint now) {
  const std::lock_guard lock(mutex_);
  switch (ending) {
    case CallEnding::kAnswered:
      allowed_.Grant(kPerAnswer);
      return false;
    case CallEnding::kCancelled:
      return false;
    case CallEnding::kCancelledUnread:
      return !allowed_.Take(now, 1);
  }
  return false;
}

bool ConnectionConduct::Condemn() {
  const std::lock_guard lock(mutex_);
  return !std::exchange(condemned_, true);
}

Traffic ConnectionConduct::GetTraffic(TimePoint now, int64_t received_bytes) const {
  const std::lock_guard lock(mutex_);
  return {now, received_bytes, message_bytes_, calls_begun_, calls_open_};
}

}  // namespace headlight
