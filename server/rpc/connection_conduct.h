// SPDX-License-Identifier: Apache-2.0
//
// Whether a connection does what callers do, or opens calls only to throw them away: each costs the server
// some 20 KB and a dozen wake-ups, its sender 50 bytes (the rapid reset of CVE-2023-44487).
#ifndef HEADLIGHT_SERVER_RPC_CONNECTION_CONDUCT_H_
#define HEADLIGHT_SERVER_RPC_CONNECTION_CONDUCT_H_

#include <cstdint>
#include <mutex>

#include "server/schedule/clock.h"

namespace headlight {

enum class CallEnding : uint8_t {
  kAnswered,         // or refused: whatever the server had to say
  kCancelledUnread,  // cancelled before a message of it was read
  kCancelled,        // cancelled later: its request has been paid for by what admits requests
};

// Of one connection. Thread-safe.
class ConnectionConduct {
 public:
  // So many calls may be thrown away at once, so many more a second, and so many for each one that is
  // answered: callers that hedge, or cancel most of what they ask, stay.
  static constexpr double kBurst = 2000;
  static constexpr double kPerSecond = 500;
  static constexpr double kPerAnswer = 8;

  // `id`: the connection's in the book.
  ConnectionConduct(uint64_t id, TimePoint now) : id_(id), refilled_(now) {}

  uint64_t id() const { return id_; }

  // True if that is one too many.
  bool IsAbuse(CallEnding ending, TimePoint now);

  // What it does is abuse, as others have seen. True for the first who says so.
  bool Condemn();

 private:
  const uint64_t id_;
  std::mutex mutex_;
  double allowed_ = kBurst;  // guarded by mutex_; calls to throw away
  TimePoint refilled_;       // guarded by mutex_
  bool condemned_ = false;   // guarded by mutex_
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_CONNECTION_CONDUCT_H_
