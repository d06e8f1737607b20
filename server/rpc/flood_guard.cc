// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/flood_guard.h"

#include <grpc/grpc.h>
#include <grpc/support/alloc.h>

#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace headlight {
namespace {

using Json = nlohmann::json;

constexpr std::chrono::milliseconds kLookPeriod{10};

// What makes connections worth looking at: calls that are under way, or that have been cancelled since the
// last look.
constexpr int64_t kCalmCalls = 2000;
constexpr int64_t kCalmFailures = 20;

// How far beyond --max-streams the calls of a connection that are in memory may be.
constexpr int64_t kPatience = 750;

// Of the time, what looking at connections may take.
constexpr int kShare = 20;

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

}  // namespace

CallCounts CountCalls(const std::string& json) {
  CallCounts counts;
  const Json servers = Parsed(json);
  for (const Json& server : Child(servers, "server")) {
    const Json& data = Child(server, "data");
    const int64_t failed = NumberOf(data, "callsFailed");
    counts.failed += failed;
    counts.unfinished += NumberOf(data, "callsStarted") - NumberOf(data, "callsSucceeded") - failed;
    counts.servers.push_back(NumberOf(Child(server, "ref"), "serverId"));
  }
  return counts;
}

FloodGuard::FloodGuard(ConnectionBook& connections, int64_t max_streams)
    : connections_(connections), max_streams_(max_streams), looking_(kLookPeriod, [this] { Look(); }) {}

void FloodGuard::Look() {
  if (connections_.counts().open == 0) return;
  const CallCounts calls = CountCalls(Owned(grpc_channelz_get_servers(0)));
  const int64_t newly_failed = calls.failed - std::exchange(failed_calls_, calls.failed);
  if (calls.unfinished < kCalmCalls && newly_failed < kCalmFailures) return;
  const auto begin = std::chrono::steady_clock::now();
  if (begin < rested_) return;
  LookAtConnections(calls.servers);
  const auto end = std::chrono::steady_clock::now();
  rested_ = end + kShare * (end - begin);
}

void FloodGuard::LookAtConnections(const std::vector<int64_t>& servers) {
  for (const int64_t server : servers) {
    int64_t from = 0;
    for (bool at_end = false; !at_end;) {
      const Json page = Parsed(Owned(grpc_channelz_get_server_sockets(server, from, /*max_results=*/0)));
      const Json& sockets = Child(page, "socketRef");
      at_end = sockets.empty() || !Child(page, "end").empty();
      for (const Json& socket : sockets) {
        from = NumberOf(socket, "socketId") + 1;
        const Json& name = Child(socket, "name");
        if (name.is_string()) LookAt(NumberOf(socket, "socketId"), name.get<std::string>());
      }
    }
  }
}

void FloodGuard::LookAt(int64_t socket, const std::string& name) {
  if (!absl::StartsWith(name, kSocketName)) return;
  const auto conduct = connections_.ConductOf(name.substr(sizeof(kSocketName) - 1));
  if (conduct == nullptr) return;
  const Json facts = Parsed(Owned(grpc_channelz_get_socket(socket)));
  const Json& data = Child(Child(facts, "socket"), "data");
  const int64_t in_memory =
      NumberOf(data, "streamsStarted") - NumberOf(data, "streamsSucceeded") - NumberOf(data, "streamsFailed");
  if (in_memory > max_streams_ + kPatience) {
    connections_.EndForAbuse(*conduct, absl::StrCat("it has reset more than ", kPatience, " calls at once"));
  }
}

}  // namespace headlight
