// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/flood_guard.h"

#include <grpc/grpc.h>
#include <grpc/support/alloc.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "server/rpc/socket_address.h"

namespace headlight {
namespace {

using Json = nlohmann::json;

constexpr std::chrono::milliseconds kLookPeriod{10};

// One part in so many of the time may be spent on looking, where that does not leave too much unseen.
constexpr int kShare = 20;
constexpr std::chrono::milliseconds kMostLooking{10};
constexpr std::chrono::milliseconds kMostRest{50};

constexpr char kSocketName[] = "chttp2 ";

// Takes over `text`, which may be null.
std::string Owned(char* text) {
  const std::unique_ptr<char, void (*)(void*)> owned(text, gpr_free);
  return text == nullptr ? "" : text;
}

Json Parsed(const std::string& text) { return Json::parse(text, nullptr, /*allow_exceptions=*/false); }

// Protobuf's JSON has numbers of 64 bits as text, and leaves zeros and empty things out.
int64_t NumberOf(const Json& object, const char* name) {
  if (!object.is_object()) return 0;
  const auto found = object.find(name);
  int64_t value = 0;
  if (found == object.end()) return 0;
  if (found->is_number_integer()) return found->get<int64_t>();
  if (found->is_string()) (void)absl::SimpleAtoi(found->get_ref<const std::string&>(), &value);
  return value;
}

const Json& Child(const Json& object, const char* name) {
  static const Json& nothing = *new Json(Json::object());
  if (!object.is_object()) return nothing;
  const auto found = object.find(name);
  return found == object.end() ? nothing : *found;
}

// Whom the name of a socket tells of, as the book knows it.
std::string PeerIn(const std::string& name) {
  return absl::StartsWith(name, kSocketName) ? UnescapedPeer(name.substr(sizeof(kSocketName) - 1)) : "";
}

// Among the connections of the server. Nothing: it is none of them, or not yet.
std::optional<int64_t> SocketAmong(int64_t server, const std::string& peer) {
  int64_t from = 0;
  while (true) {
    const Json page = Parsed(Owned(grpc_channelz_get_server_sockets(server, from, /*max_results=*/0)));
    const Json& sockets = Child(page, "socketRef");
    for (const Json& socket : sockets) {
      from = NumberOf(socket, "socketId") + 1;
      const Json& name = Child(socket, "name");
      if (name.is_string() && PeerIn(name.get<std::string>()) == peer) return from - 1;
    }
    if (sockets.empty() || !Child(page, "end").empty()) return std::nullopt;
  }
}

std::optional<int64_t> SocketOf(const std::string& peer) {
  for (const int64_t server : ServersIn(Owned(grpc_channelz_get_servers(0)))) {
    if (const std::optional<int64_t> socket = SocketAmong(server, peer)) return socket;
  }
  return std::nullopt;
}

}  // namespace

std::vector<int64_t> ServersIn(const std::string& json) {
  std::vector<int64_t> servers;
  const Json parsed = Parsed(json);
  for (const Json& server : Child(parsed, "server")) {
    const int64_t number = NumberOf(Child(server, "ref"), "serverId");
    if (number > 0) servers.push_back(number);
  }
  return servers;
}

StreamCounts StreamsIn(const std::string& json) {
  const Json parsed = Parsed(json);
  const Json& data = Child(Child(parsed, "socket"), "data");
  return {.begun = NumberOf(data, "streamsStarted"),
          .ended = NumberOf(data, "streamsSucceeded") + NumberOf(data, "streamsFailed"),
          .messages_sent = NumberOf(data, "messagesSent")};
}

FloodGuard::FloodGuard(ConnectionBook& connections, const Clock& clock, int64_t max_streams)
    : connections_(connections), clock_(clock), max_streams_(max_streams), thread_([this] { Run(); }) {}

FloodGuard::~FloodGuard() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  stop_.notify_all();
  connections_.StopAwaiting();
  thread_.join();
}

void FloodGuard::Run() {
  while (true) {
    const std::vector<ConnectionBook::Received> all = connections_.AwaitReceived();
    const TimePoint begin = clock_.Now();
    for (const ConnectionBook::Received& received : all) {
      Look(received);
      if (clock_.Now() - begin > kMostLooking) break;  // the others are told of again
    }
    const auto rest =
        std::clamp<TimePoint::duration>(kShare * (clock_.Now() - begin), kLookPeriod, kMostRest);
    std::unique_lock lock(mutex_);
    if (stop_.wait_for(lock, rest, [this] { return stopping_; })) return;
  }
}

void FloodGuard::Look(const ConnectionBook::Received& received) {
  ConnectionConduct& conduct = *received.conduct;
  if (!conduct.judge.IsSuspect(conduct.GetTraffic(clock_.Now(), received.bytes))) return;
  const std::optional<StreamCounts> streams = StreamsOf(received);
  if (!streams) return;
  // Asked again: calls may have begun and ended meanwhile.
  const Traffic traffic = conduct.GetTraffic(clock_.Now(), received.bytes);
  const std::string why = conduct.judge.WhyAbuse(traffic, *streams, max_streams_);
  if (!why.empty()) connections_.EndForAbuse(conduct, why);
}

std::optional<StreamCounts> FloodGuard::StreamsOf(const ConnectionBook::Received& received) {
  std::optional<int64_t>& socket = received.conduct->channelz_socket;
  if (!socket) socket = SocketOf(received.peer);
  if (!socket) return std::nullopt;  // its handshake goes on
  const std::string facts = Owned(grpc_channelz_get_socket(*socket));
  return facts.empty() ? std::nullopt : std::optional(StreamsIn(facts));
}

}  // namespace headlight
