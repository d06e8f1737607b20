// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/connection_book.h"

#include <fcntl.h>
#include <linux/tcp.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"

namespace headlight {
namespace {

std::optional<int64_t> ReceivedBytes(int fd) {
  tcp_info info;
  socklen_t size = sizeof(info);
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return std::nullopt;
  if (size < offsetof(tcp_info, tcpi_bytes_received) + sizeof(info.tcpi_bytes_received)) return std::nullopt;
  return static_cast<int64_t>(info.tcpi_bytes_received);
}

// Shut down, a socket still hands over what it had received: megabytes of calls to come. Disconnected, it
// forgets them and resets the peer.
void Reset(int fd) {
  sockaddr nowhere{};
  nowhere.sa_family = AF_UNSPEC;
  (void)connect(fd, &nowhere, sizeof(nowhere));
  shutdown(fd, SHUT_RDWR);
}

}  // namespace

ConnectionBook::ConnectionBook(const ConnectionLimits& limits, const Clock& clock)
    : limits_(limits), clock_(clock) {}

std::optional<ConnectionBook::Entered> ConnectionBook::Enter(int fd) {
  Peer peer = PeerOf(fd);
  Descriptor mine(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  const std::lock_guard lock(mutex_);
  if (!mine.valid()) {
    ++counts_.refused_no_descriptor;
    return std::nullopt;
  }
  if (counts_.open >= limits_.in_all) {
    ++counts_.refused_in_all;
    return std::nullopt;
  }
  if (!peer.party.empty()) {
    int64_t& of_party = by_party_[peer.party];
    if (of_party >= limits_.per_address) {
      ++counts_.refused_per_address;
      return std::nullopt;
    }
    ++of_party;
  }
  const Entered entered = {next_id_++, mine.get()};
  std::shared_ptr<ConnectionConduct> conduct;
  if (!peer.name.empty()) {
    by_name_[peer.name] = entered.id;
    conduct = std::make_shared<ConnectionConduct>(entered.id, clock_.Now());
  }
  connections_.emplace(entered.id, Connection{std::move(mine), std::move(peer), std::move(conduct)});
  ++counts_.open;
  ++counts_.accepted;
  return entered;
}

void ConnectionBook::NoteNoDescriptor() {
  const std::lock_guard lock(mutex_);
  ++counts_.refused_no_descriptor;
}

void ConnectionBook::Leave(uint64_t id) {
  const std::lock_guard lock(mutex_);
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;
  const Peer& peer = found->second.peer;
  const auto name = by_name_.find(peer.name);
  // A peer may have taken the same port again before the end of its last connection was heard of.
  if (name != by_name_.end() && name->second == id) by_name_.erase(name);
  const auto party = by_party_.find(peer.party);
  if (party != by_party_.end() && --party->second == 0) by_party_.erase(party);
  connections_.erase(found);
  --counts_.open;
}

const ConnectionBook::Connection* ConnectionBook::Find(const std::string& peer) const {
  const auto id = by_name_.find(UnescapedPeer(peer));
  return id == by_name_.end() ? nullptr : &connections_.at(id->second);
}

std::optional<int64_t> ConnectionBook::ReceivedFrom(const std::string& peer) const {
  const std::lock_guard lock(mutex_);
  const Connection* const connection = Find(peer);
  return connection == nullptr ? std::nullopt : ReceivedBytes(connection->fd.get());
}

std::shared_ptr<ConnectionConduct> ConnectionBook::ConductOf(const std::string& peer) const {
  const std::lock_guard lock(mutex_);
  const Connection* const connection = Find(peer);
  return connection == nullptr ? nullptr : connection->conduct;
}

void ConnectionBook::CallEnded(ConnectionConduct* conduct, CallEnding ending) {
  if (conduct == nullptr || !conduct->IsAbuse(ending, clock_.Now())) return;
  EndForAbuse(*conduct, absl::StrCat("it has reset more than ", ConnectionConduct::kBurst, " calls and ",
                                     ConnectionConduct::kPerSecond, " a second"));
}

void ConnectionBook::EndForAbuse(ConnectionConduct& conduct, const std::string& why) {
  if (!conduct.Condemn()) return;
  std::string name = "a peer that has left";
  {
    const std::lock_guard lock(mutex_);
    ++counts_.ended_for_abuse;
    const auto found = connections_.find(conduct.id());
    if (found != connections_.end()) {
      Reset(found->second.fd.get());
      name = found->second.peer.name;
    }
  }
  spdlog::warn("the connection from {} was ended: {}", name, why);
}

void ConnectionBook::ShutDownAll() {
  const std::lock_guard lock(mutex_);
  for (const auto& [id, connection] : connections_) shutdown(connection.fd.get(), SHUT_RDWR);
}

ConnectionCounts ConnectionBook::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

}  // namespace headlight
