// SPDX-License-Identifier: Apache-2.0
//
// How to reach a server: what a connection is secured with, how many there are, and how calls are spread over
// several servers. client.h takes these options; OpenChannels is for callers that bring their own stubs.
#ifndef HEADLIGHT_CLIENT_CHANNEL_OPTIONS_H_
#define HEADLIGHT_CLIENT_CHANNEL_OPTIONS_H_

#include <grpcpp/channel.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/attend_call.h"
#include "client/retry.h"

namespace headlight::client {

// Whether clients of one target share a TCP connection. gRPC shares by default, which suits ordinary use; one
// connection of HTTP/2 is served by one thread at a time, though, so a load generator wants several of its
// own.
enum class Connection { kShared, kOwn };

// Which of the addresses that a target resolves to gets a call.
enum class LoadBalancing {
  // One of them, until it fails. What a proxy wants, which balances by itself.
  kPickFirst,
  // Each in turn, with a connection to every one: of the next two that can be reached, whose health is
  // SERVING and that do not rest, the one with fewer calls under way. After an attempt of which nothing was
  // heard, UNAVAILABLE, or a refusal that says when to come again, an address rests, for longer each time in
  // a row, 5 s at most; and a call that is tried again goes to one that has not failed it, at once, while
  // there is any. Names are looked up every 5 s, lists ("ipv4:10.0.0.1:8001,10.0.0.2:8001") are taken as they
  // are.
  kRoundRobin,
};

// Files are PEM, read once when the client is created: a client that must follow renewed certificates is
// created anew.
struct TlsOptions {
  bool enabled = false;
  // Certificates that may have signed the server's; empty: those that the system trusts.
  std::string ca_file;
  // The client's own certificate and its key, for servers that want one (mTLS). Both or neither.
  std::string cert_file;
  std::string key_file;
  // The name that the server's certificate must bear; empty: the host of the target.
  std::string server_name;
};

inline constexpr int kMaxChannels = 1024;  // of a client

struct ClientOptions {
  // Of a request or a reply; a larger one is RESOURCE_EXHAUSTED. The server has a limit of its own.
  int max_message_bytes = 256 << 20;
  // How many bytes of a call the server may send ahead of what was read, 64 KiB to 1 GiB; of a connection it
  // is HTTP/2's 64 KiB in any case, and what is missing of the messages that are being read. Fixed, because
  // gRPC's own way, to probe for bandwidth and round trip, costs a fifth of the CPU time of receiving 1 MB,
  // and within a data centre gains nothing. 0: gRPC probes, which many small replies want over a long fat
  // network: without it a connection carries at most 64 KiB of them a round trip.
  int receive_window_bytes = 1 << 20;
  // With several channels the connections are always the client's own.
  Connection connection = Connection::kShared;
  // Connections, 1 to kMaxChannels, that calls are dealt round. One suits most; bulk transfers of large
  // tensors, whose bytes one thread must move, gain from a few; more are for load generators that stand for
  // many clients.
  int num_channels = 1;
  LoadBalancing load_balancing = LoadBalancing::kPickFirst;
  TlsOptions tls;
  // File with a bearer token, sent with every call as "authorization: Bearer TOKEN"; white space around it is
  // dropped. Empty: none. Read once.
  std::string token_file;
  // A token without TLS can be read by whoever sees the packets, so it is refused unless this is set, for
  // tests and for meshes that encrypt by themselves.
  bool allow_token_without_tls = false;
  // How long a connection with calls under way may be silent before the peer is asked for a sign of life; 20
  // s later the connection counts as dead and its calls end with UNAVAILABLE. At least 10 s, as servers take
  // offence at less; 0: never.
  std::chrono::milliseconds keepalive{60'000};
  // When Attend and AttendAsync try again.
  RetryOptions retry;
  // Of replies of Attend, AttendAsync and streams; one that does not agree is DATA_LOSS.
  Checksums checksums = Checksums::kCheck;
};

// INVALID_ARGUMENT, naming the field, if the target is empty or an option is out of range or contradicts
// another.
absl::Status CheckClientOptions(const std::string& target, const ClientOptions& options);

// `options.num_channels` channels to `target`, which is HOST:PORT or any other gRPC name. Connects on the
// first call, not here. With kRoundRobin gRPC itself chooses, in turn among those whose health is SERVING.
// Errors as CheckClientOptions has them; INVALID_ARGUMENT too if a file is not what it should be; NOT_FOUND
// if it cannot be read.
absl::StatusOr<std::vector<std::shared_ptr<grpc::Channel>>> OpenChannels(const std::string& target,
                                                                         const ClientOptions& options);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_CHANNEL_OPTIONS_H_
