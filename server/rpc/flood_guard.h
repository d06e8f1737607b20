// SPDX-License-Identifier: Apache-2.0
//
// Ends connections that open calls faster than anybody can see them.
#ifndef HEADLIGHT_SERVER_RPC_FLOOD_GUARD_H_
#define HEADLIGHT_SERVER_RPC_FLOOD_GUARD_H_

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "core/runtime/periodic.h"
#include "server/rpc/connection_book.h"

namespace headlight {

// gRPC 1.51 keeps what belongs to a call, some 18 KB, until the thread that reads its connection has a
// moment; while calls are opened and reset it has none. The one count of these is channelz's. It is looked
// at a hundred times a second, and when many calls fail each connection's is: HTTP/2 lets one have
// --max-streams calls, and who has far more in memory has reset them.
class FloodGuard {
 public:
  // `connections` must outlive this. `max_streams`: calls that a connection may have at a time.
  FloodGuard(ConnectionBook& connections, int64_t max_streams);

 private:
  void Look();
  void LookAtConnections(const std::vector<int64_t>& servers);
  void LookAt(int64_t socket, const std::string& name);

  ConnectionBook& connections_;
  const int64_t max_streams_;
  int64_t failed_calls_ = 0;                      // at the last look
  std::chrono::steady_clock::time_point rested_;  // no look at connections before: they cost some 20 us each
  Periodic looking_;                              // last: it uses what is above
};

// The calls of all servers of the process, out of grpc_channelz_get_servers. Public for tests.
struct CallCounts {
  int64_t unfinished = 0;
  int64_t failed = 0;            // cancelled, that is
  std::vector<int64_t> servers;  // their ids
};
CallCounts CountCalls(const std::string& json);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_FLOOD_GUARD_H_
