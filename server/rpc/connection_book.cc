// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/connection_book.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/rpc/epoll_watch.h"

namespace headlight {
namespace {

constexpr uint64_t kStopAwaiting = 0;  // no connection's id
constexpr uint32_t kOnceReceived = EPOLLIN | EPOLLONESHOT;

// Never paused: a proxy beside the server brings everybody from there, and operators come from there.
constexpr char kThisHost[] = "127.0.0.1";

// Addresses that are remembered without a connection. Beyond it those that may connect again are forgotten,
// and of the others there are no more: each has had its connection ended within the pause.
constexpr size_t kManyParties = 10'000;

std::optional<int64_t> ReceivedBytes(int fd) {
  tcp_info info;
  socklen_t size = sizeof(info);
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return std::nullopt;
  if (size < offsetof(tcp_info, tcpi_bytes_received) + sizeof(info.tcpi_bytes_received)) return std::nullopt;
  return static_cast<int64_t>(info.tcpi_bytes_received);
}

// Of what was received, what is still in the socket: nobody has looked into it yet.
int64_t UnreadBytes(int fd) {
  int bytes = 0;
  return ioctl(fd, SIOCINQ, &bytes) == 0 ? bytes : 0;
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
    : limits_(limits),
      clock_(clock),
      epoll_(epoll_create1(EPOLL_CLOEXEC)),
      stop_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  (void)Watch(epoll_.get(), EPOLL_CTL_ADD, stop_.get(), EPOLLIN, kStopAwaiting);
}

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
    Party& party = parties_[peer.party];
    if (clock_.Now() < party.paused_until) {
      ++counts_.refused_in_pause;
      return std::nullopt;
    }
    if (party.open >= limits_.per_address) {
      ++counts_.refused_per_address;
      return std::nullopt;
    }
    ++party.open;
  }
  const Entered entered = {next_id_++, mine.get()};
  std::shared_ptr<ConnectionConduct> conduct;
  if (!peer.name.empty()) {
    by_name_[peer.name] = entered.id;
    conduct = std::make_shared<ConnectionConduct>(entered.id, clock_.Now());
    (void)Watch(epoll_.get(), EPOLL_CTL_ADD, entered.fd, kOnceReceived, entered.id);
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
  const auto party = parties_.find(peer.party);
  if (party != parties_.end() && --party->second.open == 0 && clock_.Now() >= party->second.paused_until) {
    parties_.erase(party);
  }
  connections_.erase(found);
  --counts_.open;
  if (parties_.size() > counts_.open + kManyParties) ForgetParties();
}

void ConnectionBook::ForgetParties() {
  const TimePoint now = clock_.Now();
  std::erase_if(parties_, [now](const auto& party) {
    return party.second.open == 0 && now >= party.second.paused_until;
  });
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
      const std::string& party = found->second.peer.party;
      if (party != kThisHost) {
        parties_[party].paused_until = clock_.Now() + std::chrono::seconds(limits_.abuse_pause_s);
      }
    }
  }
  spdlog::warn("the connection from {} was ended: {}", name, why);
}

std::vector<ConnectionBook::Received> ConnectionBook::AwaitReceived() {
  std::vector<Received> received;
  while (received.empty()) {
    {
      const std::lock_guard lock(mutex_);
      for (const uint64_t id : told_) {
        const auto found = connections_.find(id);
        if (found != connections_.end()) {
          (void)Watch(epoll_.get(), EPOLL_CTL_MOD, found->second.fd.get(), kOnceReceived, id);
        }
      }
    }
    told_.clear();
    std::array<epoll_event, 256> events;
    const int count = epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), -1);
    if (count < 0 && errno != EINTR) return {};
    const std::lock_guard lock(mutex_);
    for (int i = 0; i < count; ++i) {
      const uint64_t id = events[static_cast<size_t>(i)].data.u64;
      if (id == kStopAwaiting) return {};
      const auto found = connections_.find(id);
      // What has ended stays for the listener to hear of.
      if (found == connections_.end() || (events[static_cast<size_t>(i)].events & EPOLLHUP) != 0) continue;
      const std::optional<int64_t> bytes = ReceivedBytes(found->second.fd.get());
      if (!bytes) continue;  // nor would it tell the next time
      told_.push_back(id);
      const int64_t unread_bytes = UnreadBytes(found->second.fd.get());
      received.push_back(
          {found->second.conduct, found->second.peer.name, std::max<int64_t>(0, *bytes - unread_bytes)});
    }
  }
  return received;
}

void ConnectionBook::StopAwaiting() { (void)eventfd_write(stop_.get(), 1); }

void ConnectionBook::ShutDownAll() {
  const std::lock_guard lock(mutex_);
  for (const auto& [id, connection] : connections_) shutdown(connection.fd.get(), SHUT_RDWR);
}

ConnectionCounts ConnectionBook::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

}  // namespace headlight
