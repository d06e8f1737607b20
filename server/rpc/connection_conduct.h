// SPDX-License-Identifier: Apache-2.0
//
// Whether a connection does what callers do, or opens calls only to throw them away: each costs the server
// some 20 KB and a dozen wake-ups, its sender 50 bytes (the rapid reset of CVE-2023-44487).
#ifndef HEADLIGHT_SERVER_RPC_CONNECTION_CONDUCT_H_
#define HEADLIGHT_SERVER_RPC_CONNECTION_CONDUCT_H_

#include <cstdint>
#include <mutex>
#include <optional>

#include "server/rpc/allowance.h"
#include "server/rpc/traffic_judge.h"
#include "server/schedule/clock.h"

namespace headlight {

enum class CallEnding : uint8_t {
  kAnswered,         // or refused: whatever the server had to say
  kCancelledUnread,  // cancelled before a message of it was read, and before its deadline
  kCancelled,        // cancelled otherwise: what admits requests has judged it, or the server was too slow
};

// Of one connection. Thread-safe, but for what is FloodGuard's.
class ConnectionConduct {
 public:
  // So many calls may be thrown away at once, so many more a second, and so many for each one that is
  // answered: callers that hedge, or cancel most of what they ask, stay.
  static constexpr double kBurst = 2000;
  static constexpr double kPerSecond = 500;
  static constexpr double kPerAnswer = 8;

  // `id`: the connection's in the book.
  ConnectionConduct(uint64_t id, TimePoint now) : judge(now), id_(id), allowed_(kBurst, kPerSecond, now) {}

  uint64_t id() const { return id_; }

  // A call has begun that is told of here; it ends with IsAbuse. One that is open may bring messages of any
  // size until it is closed.
  void CallBegan(bool is_open);
  void CallClosed();
  void MessageCame(int64_t bytes);

  // A call has ended like this. True if that is one too many of its kind.
  bool IsAbuse(CallEnding ending, TimePoint now);

  // What it does is abuse, as others have seen. True for the first who says so.
  bool Condemn();

  // `received_bytes`: the socket's count, which the book has.
  Traffic GetTraffic(TimePoint now, int64_t received_bytes) const;

  // For FloodGuard, on its thread:
  TrafficJudge judge;
  std::optional<int64_t> channelz_socket;  // its number there, once it was needed

 private:
  const uint64_t id_;
  mutable std::mutex mutex_;
  // All guarded by mutex_:
  Allowance allowed_;  // calls to throw away
  int64_t calls_begun_ = 0;
  int64_t calls_open_ = 0;
  int64_t message_bytes_ = 0;
  bool condemned_ = false;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_CONNECTION_CONDUCT_H_
