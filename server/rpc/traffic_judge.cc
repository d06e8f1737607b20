// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/traffic_judge.h"

#include <algorithm>
#include <chrono>

#include "absl/strings/str_cat.h"

namespace headlight {
namespace {

// Headers of a call, and frames around its messages: what is beyond makes a connection suspect, nothing more.
constexpr int64_t kCallBytes = 512;
constexpr int64_t kMessageShare = 8;  // one byte beside so many
constexpr double kUnexplainedBurst = 32 << 10;
constexpr double kUnexplainedPerSecond = 128 << 10;

// A client that has nothing to ask sends a preface, a ping a minute, acknowledgements.
constexpr double kIdleBurst = 256 << 10;
constexpr double kIdlePerSecond = 64 << 10;

// Headers that are too large, calls that were reset before anybody heard of them. What gRPC does with headers
// of 4,000 references takes it half a millisecond.
constexpr double kFruitlessBurst = 64;
constexpr double kFruitlessPerSecond = 20;

// A call's headers may have been read and not yet parsed when it is asked: the next question tells.
constexpr int kIdleQuestions = 2;

// Calls that are not open have small messages; headers that do not end are no call at all.
constexpr int64_t kMostOfOther = 1 << 20;

constexpr std::chrono::seconds kLately{1};
constexpr int64_t kMostCredit = 5000;

// How far beyond --max-streams the calls of a connection that are in memory may be: who has more has reset
// them, and gRPC has had no moment to throw them away.
constexpr int64_t kPatience = 750;

}  // namespace

TrafficJudge::TrafficJudge(TimePoint now)
    : unexplained_bytes_(kUnexplainedBurst, kUnexplainedPerSecond, now),
      idle_bytes_(kIdleBurst, kIdlePerSecond, now),
      fruitless_calls_(kFruitlessBurst, kFruitlessPerSecond, now),
      asked_(now) {}

bool TrafficJudge::IsSuspect(const Traffic& traffic) {
  const int64_t bytes = traffic.received_bytes - last_.received_bytes;
  const int64_t in_messages = traffic.message_bytes - last_.message_bytes;
  const int64_t calls = traffic.calls_begun - last_.calls_begun;
  const bool idle = calls == 0 && traffic.calls_open == 0 && last_.calls_open == 0;
  last_ = traffic;
  idle_too_long_ = !idle_bytes_.Take(traffic.now, idle ? static_cast<double>(bytes) : 0) && idle;
  const int64_t unexplained = bytes - in_messages - in_messages / kMessageShare - calls * kCallBytes;
  const bool explained =
      unexplained_bytes_.Take(traffic.now, static_cast<double>(std::max<int64_t>(0, unexplained)));
  // The bytes of a large message that arrives say nothing of what comes after it.
  unexplained_bytes_.Forgive();
  return idle_too_long_ || !explained;
}

std::string TrafficJudge::WhyAbuse(const Traffic& traffic, const StreamCounts& streams, int64_t max_streams) {
  const bool same_streams = streams.begun == streams_.begun;  // as when it was asked last
  const bool open = streams.begun != streams.ended;
  const bool asked_lately = traffic.now - asked_ < kLately;
  if (!same_streams) stream_begin_bytes_ = traffic.received_bytes;
  streams_ = streams;
  asked_ = traffic.now;
  if (streams.begun - streams.ended > max_streams + kPatience) {
    return absl::StrCat("it has reset more than ", kPatience, " calls at once");
  }
  // Health, load reports and reflection are not told of, but they are answered with a message.
  const int64_t fruitless = streams.ended - traffic.calls_begun - streams.messages_sent;
  // What came while nobody asked has had all the time since then.
  const int64_t more = asked_lately ? std::max<int64_t>(0, fruitless - most_fruitless_) : 0;
  // Answers are no credit for ever.
  most_fruitless_ = std::clamp(most_fruitless_, fruitless, fruitless + kMostCredit);
  if (!fruitless_calls_.Take(traffic.now, static_cast<double>(more))) {
    return absl::StrCat("more than ", kFruitlessBurst, " of its calls and ", kFruitlessPerSecond,
                        " a second ended before they could be served");
  }
  if (!idle_too_long_) return "";
  idle_questions_ = same_streams && !open ? idle_questions_ + 1 : 0;
  if (idle_questions_ >= kIdleQuestions) {
    return absl::StrCat("it has sent more than ", kIdleBurst, " bytes and ", kIdlePerSecond,
                        " a second that belong to no call");
  }
  if (open && traffic.received_bytes - stream_begin_bytes_ > kMostOfOther) {
    return absl::StrCat("it has sent more than ", kMostOfOther,
                        " bytes of headers, or for a call that takes few");
  }
  if (open || !same_streams) {  // they may be those of calls that are no exchanges
    idle_bytes_.Forgive();
    idle_bytes_.Grant(kIdleBurst);
  }
  return "";
}

}  // namespace headlight
