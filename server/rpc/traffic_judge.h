// SPDX-License-Identifier: Apache-2.0
//
// What a connection sends, held against what callers send: messages, and of headers, pings and settings a
// little.
#ifndef HEADLIGHT_SERVER_RPC_TRAFFIC_JUDGE_H_
#define HEADLIGHT_SERVER_RPC_TRAFFIC_JUDGE_H_

#include <cstdint>
#include <string>

#include "server/rpc/allowance.h"
#include "server/schedule/clock.h"

namespace headlight {

// Of one connection since it was made, cheap to know.
struct Traffic {
  TimePoint now;
  int64_t received_bytes = 0;  // and read by gRPC
  int64_t message_bytes = 0;   // of those, in messages that were handed over
  int64_t calls_begun = 0;     // that were told of: all but those of health, load reports and reflection
  int64_t calls_open = 0;      // of these, that may bring messages of any size
};

// What gRPC counts for the same connection; asking costs some 20 us.
struct StreamCounts {
  int64_t begun = 0;
  int64_t ended = 0;
  int64_t messages_sent = 0;
};

// Not thread-safe.
class TrafficJudge {
 public:
  // `now`: when the connection was made.
  explicit TrafficJudge(TimePoint now);

  // Whether the next question is worth its price.
  bool IsSuspect(const Traffic& traffic);

  // Why the connection must be ended; empty: it goes on. `max_streams`: calls that it may have at a time.
  std::string WhyAbuse(const Traffic& traffic, const StreamCounts& streams, int64_t max_streams);

 private:
  Traffic last_;
  Allowance unexplained_bytes_;  // that are in no message: or in one that is on its way
  Allowance idle_bytes_;         // while there is no call
  Allowance fruitless_calls_;    // that ended before anybody heard of them, without an answer
  bool idle_too_long_ = false;
  // Of WhyAbuse:
  TimePoint asked_;
  StreamCounts streams_;            // when it was asked last
  int64_t most_fruitless_ = 0;      // until then
  int64_t stream_begin_bytes_ = 0;  // received when the last stream began
  int idle_questions_ = 0;          // in a row, without a stream
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_TRAFFIC_JUDGE_H_
