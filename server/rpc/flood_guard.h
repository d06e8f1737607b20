// SPDX-License-Identifier: Apache-2.0
//
// Ends connections that flood: with calls that are reset faster than anybody can see them, with headers that
// are refused, with frames that belong to no call.
#ifndef HEADLIGHT_SERVER_RPC_FLOOD_GUARD_H_
#define HEADLIGHT_SERVER_RPC_FLOOD_GUARD_H_

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "server/rpc/connection_book.h"
#include "server/rpc/traffic_judge.h"
#include "server/schedule/clock.h"

namespace headlight {

// gRPC 1.51 takes what has arrived in one piece, megabytes of it, and tells nobody of calls before the piece
// is read; what it counts of a connection meanwhile is in channelz. So connections that receive are looked at
// a hundred times a second, those that rest never, and the suspects among them in channelz.
class FloodGuard {
 public:
  // `connections` and `clock` must outlive this. `max_streams`: calls that a connection may have at a time.
  FloodGuard(ConnectionBook& connections, const Clock& clock, int64_t max_streams);
  ~FloodGuard();
  FloodGuard(const FloodGuard&) = delete;
  FloodGuard& operator=(const FloodGuard&) = delete;

 private:
  void Run();
  void Look(const ConnectionBook::Received& received);
  std::optional<StreamCounts> StreamsOf(const ConnectionBook::Received& received);

  ConnectionBook& connections_;
  const Clock& clock_;
  const int64_t max_streams_;
  std::mutex mutex_;
  std::condition_variable stop_;
  bool stopping_ = false;  // guarded by mutex_
  std::thread thread_;     // last: it uses what is above
};

// What channelz says in JSON. Public for tests.
std::vector<int64_t> ServersIn(const std::string& json);  // their numbers, of grpc_channelz_get_servers
StreamCounts StreamsIn(const std::string& json);          // of grpc_channelz_get_socket

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_FLOOD_GUARD_H_
