// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/call_conduct.h"

#include <chrono>

namespace headlight {
namespace {

// Below it no caller expects an answer.
constexpr std::chrono::milliseconds kLeastDeadline{10};

// gRPC tells deadlines by the wall clock, the scheduler by a clock that nobody sets: converted once for each
// call, so that a step of the wall clock moves no deadline.
TimePoint ToTimePoint(std::chrono::system_clock::time_point deadline, TimePoint now) {
  if (deadline == std::chrono::system_clock::time_point::max()) return TimePoint::max();
  const auto left = deadline - std::chrono::system_clock::now();
  return left >= TimePoint::max() - now ? TimePoint::max() : now + left;
}

// gRPC holds headers against their limit only once the peer has acknowledged it, which who means no good
// leaves: 4,000 references to one entry of the table of headers are 4 KB on the wire and 12 MB behind it. Who
// only has not heard of the limit yet stays well below this.
bool HasHugeHeaders(const grpc::CallbackServerContext& context, int64_t limit_bytes) {
  constexpr int64_t kBytesBeside = 32;  // of each header, RFC 9113, 6.5.2
  const int64_t max_bytes = 8 * limit_bytes;
  int64_t bytes = 0;
  for (const auto& [name, value] : context.client_metadata()) {
    bytes += static_cast<int64_t>(name.size() + value.size()) + kBytesBeside;
    if (max_bytes > 0 && bytes > max_bytes) return true;
  }
  return false;
}

}  // namespace

CallConduct::CallConduct(const Pipeline& pipeline, const grpc::CallbackServerContext& context,
                         const std::string& peer, bool is_for_anybody)
    : pipeline_(pipeline),
      began_(pipeline.clock.Now()),
      deadline_(ToTimePoint(context.deadline(), began_)),
      connection_(pipeline.connections == nullptr ? nullptr : pipeline.connections->ConductOf(peer)),
      is_open_(!is_for_anybody) {
  if (connection_ == nullptr) return;
  connection_->CallBegan(is_open_);
  if (HasHugeHeaders(context, pipeline.max_header_bytes)) {
    pipeline.connections->EndForAbuse(*connection_,
                                      "it has sent headers of more than 8 times --max-header-bytes");
  }
}

void CallConduct::MessageCame(int64_t bytes) {
  if (connection_ != nullptr) connection_->MessageCame(bytes);
}

void CallConduct::Ended(bool cancelled, bool was_read) {
  if (connection_ == nullptr) return;
  CallEnding ending = CallEnding::kAnswered;
  if (cancelled) {
    // Who gives less time than that throws the call away.
    const bool in_time = pipeline_.clock.Now() < deadline_ || deadline_ - began_ < kLeastDeadline;
    ending = !was_read && in_time ? CallEnding::kCancelledUnread : CallEnding::kCancelled;
  }
  if (is_open_) connection_->CallClosed();
  pipeline_.connections->CallEnded(connection_.get(), ending);
}

}  // namespace headlight
