// SPDX-License-Identifier: Apache-2.0
#include "client/load/load_result.h"

#include <algorithm>

namespace headlight::client {

int64_t LoadResult::refused() const {
  int64_t sum = 0;
  for (const auto& [code, refusals_of_code] : refusals) sum += refusals_of_code.count;
  return sum;
}

void LoadResult::Merge(const LoadResult& other) {
  measured = std::max(measured, other.measured);
  sent += other.sent;
  sent_bytes += other.sent_bytes;
  intended.Merge(other.intended);
  actual.Merge(other.actual);
  late.Merge(other.late);
  received_bytes += other.received_bytes;
  for (const auto& [code, theirs] : other.refusals) {
    Refusals& ours = refusals[code];
    if (ours.count == 0) ours.example = theirs.example;
    ours.count += theirs.count;
  }
  cancelled += other.cancelled;
  unfinished += other.unfinished;
  unsent += other.unsent;
  replies_in_window += other.replies_in_window;
  tokens_in_window += other.tokens_in_window;
  good_in_window += other.good_in_window;
  queue_us += other.queue_us;
  compute_us += other.compute_us;
  server_us += other.server_us;
  batch_requests += other.batch_requests;
  timeline.Merge(other.timeline);
}

void LoadRecorder::Sent(const SentRequest& request) {
  if (TimelineBin* bin = result_.timeline.At(request.sent - window_.begin)) ++bin->sent;
  if (!window_.Contains(request.intended)) return;
  ++result_.sent;
  result_.sent_bytes += request.bytes;
  result_.late.Record(request.sent - request.intended);
}

void LoadRecorder::Replied(const SentRequest& request, LoadClock::time_point now, const ReplyFacts& facts) {
  const auto latency = now - request.intended;
  if (TimelineBin* bin = result_.timeline.At(now - window_.begin)) {
    ++bin->replies;
    bin->latency.Record(latency);
  }
  if (window_.Contains(now)) {
    ++result_.replies_in_window;
    result_.tokens_in_window += request.tokens;
    result_.good_in_window += latency <= request.timeout;
  }
  if (!window_.Contains(request.intended)) return;
  last_end_ = now;
  result_.intended.Record(latency);
  result_.actual.Record(now - request.sent);
  result_.received_bytes += facts.bytes;
  result_.queue_us += facts.queue_us;
  result_.compute_us += facts.compute_us;
  result_.server_us += facts.total_us;
  result_.batch_requests += facts.batch_requests;
}

void LoadRecorder::Refused(const SentRequest& request, LoadClock::time_point now, absl::StatusCode code,
                           const std::string& message) {
  if (TimelineBin* bin = result_.timeline.At(now - window_.begin)) ++bin->refused;
  if (!window_.Contains(request.intended)) return;
  last_end_ = now;
  Refusals& refusals = result_.refusals[code];
  if (refusals.count++ == 0) refusals.example = message;
}

void LoadRecorder::Cancelled(const SentRequest& request) {
  result_.cancelled += window_.Contains(request.intended);
}

void LoadRecorder::Unfinished(const SentRequest& request) {
  result_.unfinished += window_.Contains(request.intended);
}

void LoadRecorder::Unsent(LoadClock::time_point intended) { result_.unsent += window_.Contains(intended); }

}  // namespace headlight::client
