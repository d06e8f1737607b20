// SPDX-License-Identifier: Apache-2.0
#include "client/rpc/server_pool.h"

#include <algorithm>
#include <iterator>

namespace headlight::client {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kLongestRest{5'000};
constexpr int kMaxDoublings = 20;

// Lower is better.
enum Rank { kReady, kRests, kTried, kNotConnected, kOutOfReach, kNumRanks };

bool Contains(const ServerPool::Servers& servers, const Server& server) {
  return std::any_of(servers.begin(), servers.end(), [&](const auto& one) { return one.get() == &server; });
}

Rank RankOf(const Server& server, grpc::Channel& channel, const ServerPool::Servers& tried,
            Server::Time now) {
  const grpc_connectivity_state state = channel.GetState(/*try_to_connect=*/true);
  if (state == GRPC_CHANNEL_TRANSIENT_FAILURE || state == GRPC_CHANNEL_SHUTDOWN) return kOutOfReach;
  if (state != GRPC_CHANNEL_READY) return kNotConnected;
  if (Contains(tried, server)) return kTried;
  return server.Rests(now) ? kRests : kReady;
}

}  // namespace

void Server::Failed(Time now, milliseconds rest) {
  if (failures_ > 0 && now.time_since_epoch().count() < rests_until_) return;
  const int doublings = std::min(failures_++, kMaxDoublings);
  const milliseconds longer = std::min(kLongestRest, rest * (int64_t{1} << doublings));
  rests_until_ = (now + longer).time_since_epoch().count();
}

ServerPool::ServerPool(std::string target, Channels channels)
    : target_(std::make_shared<Server>(std::move(target), std::move(channels))),
      servers_(std::make_shared<Servers>(Servers{target_})) {}

void ServerPool::SetAddresses(const std::vector<std::string>& addresses, const Open& open) {
  if (addresses.empty()) return;
  const std::shared_ptr<const Servers> old = servers();
  auto next = std::make_shared<Servers>();
  for (const std::string& address : addresses) {
    const auto known = std::find_if(old->begin(), old->end(),
                                    [&](const auto& server) { return server->address() == address; });
    next->push_back(known != old->end() ? *known : std::make_shared<Server>(address, open(address)));
  }
  const std::lock_guard lock(mutex_);
  std::copy_if(old->begin(), old->end(), std::back_inserter(retired_),
               [&](const auto& server) { return !Contains(*next, *server); });
  servers_ = std::move(next);
  // Of what went before; nobody comes to have it again.
  retired_.erase(std::remove_if(retired_.begin(), retired_.end(),
                                [](const auto& server) { return server.use_count() == 1; }),
                 retired_.end());
}

ServerPool::Choice ServerPool::Pick(const Servers& tried) {
  const std::shared_ptr<const Servers> all = servers();
  const uint64_t turn = turn_.fetch_add(1, std::memory_order_relaxed);
  const uint64_t channel_turn = turn / all->size();
  if (all->size() == 1) return {all->front(), all->front()->channel(channel_turn)};
  const Server::Time now = std::chrono::steady_clock::now();
  Rank best = kNumRanks;
  std::vector<const std::shared_ptr<Server>*> candidates;  // of the best rank
  for (const auto& server : *all) {
    const Rank rank = RankOf(*server, *server->channel(channel_turn), tried, now);
    if (rank < best) candidates.clear();
    best = std::min(best, rank);
    if (rank == best) candidates.push_back(&server);
  }
  // A call that waits for a connection of one server waits long if that one never answers.
  if (best == kNotConnected) return {target_, target_->channel(channel_turn)};
  // One that is slow, or silent, gathers calls, and so gets fewer.
  const auto& first = *candidates[turn % candidates.size()];
  const auto& second = *candidates[(turn + 1) % candidates.size()];
  const auto& chosen = second->under_way() < first->under_way() ? second : first;
  return {chosen, chosen->channel(channel_turn)};
}

bool ServerPool::HasOther(const Servers& tried) const {
  const std::shared_ptr<const Servers> all = servers();
  if (all->size() == 1) return false;
  const Server::Time now = std::chrono::steady_clock::now();
  const uint64_t channel_turn = turn_.load(std::memory_order_relaxed) / all->size();  // of the next Pick
  const auto num_ready = std::count_if(all->begin(), all->end(), [&](const auto& server) {
    return RankOf(*server, *server->channel(channel_turn), tried, now) == kReady;
  });
  return num_ready >
         (Contains(tried, *target_) ? 1 : 0);  // whose channel led to one of them, nobody knows which
}

std::shared_ptr<Server> ServerPool::AtPeer(const std::string& peer) const {
  const std::shared_ptr<const Servers> all = servers();
  const auto found =
      std::find_if(all->begin(), all->end(), [&](const auto& one) { return one->address() == peer; });
  return found != all->end() ? *found : target_;
}

bool ServerPool::HasUntried(const Servers& tried) const {
  const std::shared_ptr<const Servers> all = servers();
  return std::any_of(all->begin(), all->end(), [&](const auto& server) {
    return !Contains(tried, *server) &&
           RankOf(*server, *server->channel(0), tried, std::chrono::steady_clock::now()) != kOutOfReach;
  });
}

std::shared_ptr<const ServerPool::Servers> ServerPool::servers() const {
  const std::lock_guard lock(mutex_);
  return servers_;
}

}  // namespace headlight::client
