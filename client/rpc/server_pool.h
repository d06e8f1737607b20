// SPDX-License-Identifier: Apache-2.0
//
// The servers of a client and which of them gets a call. ADR 0034 says why gRPC does not choose.
#ifndef HEADLIGHT_CLIENT_RPC_SERVER_POOL_H_
#define HEADLIGHT_CLIENT_RPC_SERVER_POOL_H_

#include <grpcpp/channel.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace headlight::client {

using Channels = std::vector<std::shared_ptr<grpc::Channel>>;

// One address, and what calls to it have come to. Thread-safe.
class Server {
 public:
  using Time = std::chrono::steady_clock::time_point;

  // `channels` of at least one.
  Server(std::string address, Channels channels)
      : address_(std::move(address)), channels_(std::move(channels)) {}

  const std::string& address() const { return address_; }
  // In turn; `turn` is any number that grows.
  const std::shared_ptr<grpc::Channel>& channel(uint64_t turn) const {
    return channels_[turn % channels_.size()];
  }

  void CallBegins(Time now) {
    last_begin_ = now.time_since_epoch().count();
    ++under_way_;
  }
  void CallEnds() { --under_way_; }
  int under_way() const { return under_way_; }

  // It has answered a call, whatever the answer was.
  void Answered() { failures_ = 0; }

  // It is to be left alone for `rest`, or for longer, twice as long for each failure in a row, 5 s at most.
  // Failures while it rests are of the same mishap and change nothing.
  void Failed(Time now, std::chrono::milliseconds rest);

  // A call ended that says nothing of it.
  void Unjudged() { last_begin_ = 0; }

  // After a failure one call at a time may try whether it is back, until one is answered.
  bool Rests(Time now) const {
    const bool is_tried = under_way_ > 0 && last_begin_ >= rests_until_;
    return failures_ > 0 && (is_tried || now.time_since_epoch().count() < rests_until_);
  }

 private:
  const std::string address_;
  const Channels channels_;
  std::atomic<int> under_way_{0};
  std::atomic<Time::rep> last_begin_{0};  // of a call
  std::atomic<int> failures_{0};          // in a row
  std::atomic<Time::rep> rests_until_{0};
};

// Thread-safe.
class ServerPool {
 public:
  using Open = std::function<Channels(const std::string& address)>;
  using Servers = std::vector<std::shared_ptr<Server>>;

  // Of one server, that `target` names. Once there are others its channels are for calls that come while none
  // of these is connected: they are to give such a call to the first that is.
  ServerPool(std::string target, Channels channels);

  // These from now on; what is known of those that stay, stays. Nothing changes if there are none. `open`
  // makes channels to new ones.
  void SetAddresses(const std::vector<std::string>& addresses, const Open& open);

  struct Choice {
    std::shared_ptr<Server> server;
    std::shared_ptr<grpc::Channel> channel;
  };

  // The server for the next attempt of a call that has been at `tried`. In this order: of those that are
  // connected the ones that are well, that rest, that are tried; the target's, if some are not connected yet;
  // those out of reach. Connects to all that have no connection.
  Choice Pick(const Servers& tried);

  // Whether calls to `server` may have been served by any of several.
  bool LeadsToAny(const Server& server) const { return &server == target_.get() && HasSeveral(); }

  // The one at `peer`, as gRPC names it; the target if it is none of these.
  std::shared_ptr<Server> AtPeer(const std::string& peer) const;

  // Whether one can be reached, or may be soon, that is not tried.
  bool HasUntried(const Servers& tried) const;

  bool HasSeveral() const { return servers()->size() > 1; }

  // Whether Pick would find one that is connected, well and not tried.
  bool HasOther(const Servers& tried) const;

 private:
  std::shared_ptr<const Servers> servers() const;

  const std::shared_ptr<Server> target_;
  std::atomic<uint64_t> turn_{0};
  mutable std::mutex mutex_;
  // Guarded by mutex_:
  std::shared_ptr<const Servers> servers_;  // never empty; exchanged whole
  Servers retired_;  // kept until their calls are over, which must not hold a channel's last reference
};

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_RPC_SERVER_POOL_H_
