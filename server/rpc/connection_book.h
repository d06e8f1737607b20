// SPDX-License-Identifier: Apache-2.0
//
// The connections of this server, exactly: who they are, what they have received, and how they are ended.
#ifndef HEADLIGHT_SERVER_RPC_CONNECTION_BOOK_H_
#define HEADLIGHT_SERVER_RPC_CONNECTION_BOOK_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "server/rpc/connection_conduct.h"
#include "server/rpc/descriptor.h"
#include "server/rpc/socket_address.h"
#include "server/schedule/clock.h"

namespace headlight {

struct ConnectionLimits {
  int64_t in_all = 0;
  int64_t per_address = 0;    // an IPv6 network of 64 bits counts as one; unix sockets have no address
  int64_t abuse_pause_s = 0;  // without connections from the address of one that was ended for abuse
};

struct ConnectionCounts {
  int64_t open = 0;
  // Since the start:
  int64_t accepted = 0;  // without those refused
  int64_t refused_in_all = 0;
  int64_t refused_per_address = 0;
  int64_t refused_no_descriptor = 0;
  int64_t refused_in_pause = 0;
  int64_t ended_for_abuse = 0;
};

// A second descriptor of each connection stays here until the connection has ended. gRPC shuts a socket
// down before it closes its own, so the book hears of every end, whoever began it. Thread-safe; its lock is
// a leaf.
class ConnectionBook {
 public:
  // `clock` must outlive this.
  ConnectionBook(const ConnectionLimits& limits, const Clock& clock);

  struct Entered {
    uint64_t id = 0;
    int fd = -1;  // the book's descriptor, to be watched for the end
  };

  // Takes the connection `fd` into the book; the caller keeps `fd`. Nothing: it must be closed, since a
  // limit is reached or there is no descriptor left; counted.
  std::optional<Entered> Enter(int fd);
  void NoteNoDescriptor();  // a connection that could not be accepted, or only to be closed

  // The connection has ended.
  void Leave(uint64_t id);

  // What the TCP connection from `peer`, as gRPC names it, has received since it was made. Nothing: no such
  // connection, or over a unix socket.
  std::optional<int64_t> ReceivedFrom(const std::string& peer) const;

  // Of the connection from `peer`; null as above.
  std::shared_ptr<ConnectionConduct> ConductOf(const std::string& peer) const;

  // A call of a connection has ended like this: EndForAbuse if it was one too many of its kind. `conduct`
  // may be null.
  void CallEnded(ConnectionConduct* conduct, CallEnding ending);

  // Ends a connection at once that does what no caller does, and lets nobody connect from its address for a
  // while. Counted, and logged with `why`, the first time.
  void EndForAbuse(ConnectionConduct& conduct, const std::string& why);

  // Who has received something, and how much of it was read since the connection was made.
  struct Received {
    std::shared_ptr<ConnectionConduct> conduct;
    std::string peer;
    int64_t bytes = 0;
  };

  // Waits until connections with a name have received something that this has not told of: some of them.
  // Nothing: StopAwaiting was called, or the system has no descriptors for it. For one thread.
  std::vector<Received> AwaitReceived();
  void StopAwaiting();

  // Ends all: what has been written to them is still delivered.
  void ShutDownAll();

  ConnectionCounts counts() const;

 private:
  struct Connection {
    Descriptor fd;
    Peer peer;
    std::shared_ptr<ConnectionConduct> conduct;
  };

  // What is known of who an address stands for.
  struct Party {
    int64_t open = 0;
    TimePoint paused_until;  // epoch: it may connect
  };

  const Connection* Find(const std::string& peer) const;  // requires mutex_
  void ForgetParties();                                   // that may connect and do not; requires mutex_

  const ConnectionLimits limits_;
  const Clock& clock_;
  mutable std::mutex mutex_;
  // All guarded by mutex_:
  uint64_t next_id_ = 1;
  std::unordered_map<uint64_t, Connection> connections_;
  std::unordered_map<std::string, uint64_t> by_name_;
  std::unordered_map<std::string, Party> parties_;
  ConnectionCounts counts_;
  // Of AwaitReceived: connections in it tell once that something has come, until they are asked again.
  const Descriptor epoll_;
  const Descriptor stop_;       // an eventfd
  std::vector<uint64_t> told_;  // to be asked again
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_CONNECTION_BOOK_H_
