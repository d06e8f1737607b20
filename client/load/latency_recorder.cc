// SPDX-License-Identifier: Apache-2.0
#include "client/load/latency_recorder.h"

namespace headlight::client {

void LatencyRecorder::Sent(const SentRequest& request) {
  if (TimelineBin* bin = result_.timeline.At(request.sent - window_.begin)) ++bin->sent;
  if (!window_.Contains(request.intended)) return;
  ++result_.sent;
  result_.sent_bytes += request.bytes;
  result_.late.Record(request.sent - request.intended);
}

void LatencyRecorder::Replied(const SentRequest& request, LoadClock::time_point now,
                              const ReplyFacts& facts) {
  const auto latency = now - request.intended;
  const bool is_good = latency <= request.timeout;
  if (TimelineBin* bin = result_.timeline.At(now - window_.begin)) {
    ++bin->replies;
    bin->good += is_good;
    bin->good_tokens += is_good ? request.tokens : 0;
    bin->latency.Record(latency);
  }
  if (window_.Contains(now)) {
    ++result_.replies_in_window;
    result_.tokens_in_window += request.tokens;
    result_.good_in_window += is_good;
    result_.good_tokens_in_window += is_good ? request.tokens : 0;
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

void LatencyRecorder::Refused(const SentRequest& request, LoadClock::time_point now, absl::StatusCode code,
                              const std::string& message) {
  if (TimelineBin* bin = result_.timeline.At(now - window_.begin)) ++bin->refused;
  if (!window_.Contains(request.intended)) return;
  last_end_ = now;
  Refusals& refusals = result_.refusals[code];
  if (refusals.count++ == 0) refusals.example = message;
  refusals.intended.Record(now - request.intended);
  refusals.actual.Record(now - request.sent);
}

void LatencyRecorder::Cancelled(const SentRequest& request) {
  result_.cancelled += window_.Contains(request.intended);
}

void LatencyRecorder::Unfinished(const SentRequest& request) {
  result_.unfinished += window_.Contains(request.intended);
}

void LatencyRecorder::Unsent(LoadClock::time_point intended) { result_.unsent += window_.Contains(intended); }

}  // namespace headlight::client
