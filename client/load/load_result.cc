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
    ours.intended.Merge(theirs.intended);
    ours.actual.Merge(theirs.actual);
  }
  cancelled += other.cancelled;
  unfinished += other.unfinished;
  unsent += other.unsent;
  replies_in_window += other.replies_in_window;
  tokens_in_window += other.tokens_in_window;
  good_in_window += other.good_in_window;
  good_tokens_in_window += other.good_tokens_in_window;
  queue_us += other.queue_us;
  compute_us += other.compute_us;
  server_us += other.server_us;
  batch_requests += other.batch_requests;
  timeline.Merge(other.timeline);
}

}  // namespace headlight::client
