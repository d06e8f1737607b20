// SPDX-License-Identifier: Apache-2.0
//
// A connection to a Headlight server. Every call takes a timeout, so none can hang for ever, and answers with
// a status that keeps the server's code and message. The `headlight` command is built upon this library.
//
//   absl::StatusOr<Client> client = Client::Create("127.0.0.1:8001");
//   absl::StatusOr<AttendReply> reply = client->Attend({.model = "demo", .query = query.View()}, 2s);
#ifndef HEADLIGHT_CLIENT_CLIENT_H_
#define HEADLIGHT_CLIENT_CLIENT_H_

#include <grpcpp/channel.h>

#include <chrono>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "client/wire.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "headlight/v1/attention.grpc.pb.h"

namespace headlight::client {

// Whether clients of one target share a TCP connection. gRPC shares by default, which suits ordinary use; one
// connection of HTTP/2 is served by one thread at a time, though, so a load generator wants several of its
// own.
enum class Connection { kShared, kOwn };

struct ClientOptions {
  int max_message_bytes = 256 << 20;  // of a request or a reply
  Connection connection = Connection::kShared;
};

// Movable, not copyable. All methods may be called from many threads at once.
//
// Errors of every call: those that attention.proto lists, with the server's message; UNAVAILABLE if the
// server cannot be reached; DEADLINE_EXCEEDED once `timeout` has passed; INTERNAL if the reply is malformed.
class Client {
 public:
  // `target` is HOST:PORT or any other gRPC name. Connects on the first call, not here.
  // INVALID_ARGUMENT if the target is empty or an option is out of range.
  static absl::StatusOr<Client> Create(const std::string& target, const ClientOptions& options = {});

  // Uses an existing channel, whatever its options are.
  explicit Client(std::shared_ptr<grpc::Channel> channel);

  // Computes attention. INVALID_ARGUMENT, before anything is sent, if a tensor's shape and values disagree.
  absl::StatusOr<AttendReply> Attend(const AttendCall& call, std::chrono::milliseconds timeout) const;

  absl::StatusOr<v1::ListModelsResponse> ListModels(std::chrono::milliseconds timeout) const;

  // An empty version means the newest that is ready.
  absl::StatusOr<v1::Model> GetModel(const std::string& name, const std::string& version,
                                     std::chrono::milliseconds timeout) const;

  // Makes the newest version in the server's model repository the one that answers; see LoadModel in
  // attention.proto for what is refused. Large models take a while: mind the timeout.
  absl::StatusOr<v1::Model> LoadModel(const std::string& name, std::chrono::milliseconds timeout) const;

  // Takes a model out; its accepted requests are still answered.
  absl::Status UnloadModel(const std::string& name, std::chrono::milliseconds timeout) const;

  // The state of one service by its full gRPC name, of a model as "models/NAME", or of the whole server if
  // `service` is empty. NOT_FOUND if the server does not know the service.
  absl::StatusOr<grpc::health::v1::HealthCheckResponse::ServingStatus> CheckHealth(
      const std::string& service, std::chrono::milliseconds timeout) const;

  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }

 private:
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::AttentionService::Stub> attention_;
  std::unique_ptr<grpc::health::v1::Health::Stub> health_;
};

// The same code and message; gRPC's and abseil's codes have the same numbers.
absl::Status ToAbslStatus(const grpc::Status& status);

// Ends the call of `context` with DEADLINE_EXCEEDED once `timeout` has passed from now, by a clock that
// nobody sets.
void SetTimeout(grpc::ClientContext& context, std::chrono::milliseconds timeout);

}  // namespace headlight::client

namespace headlight {
using client::AttendCall;     // NOLINT(misc-unused-using-decls): the names that callers use
using client::AttendReply;    // NOLINT(misc-unused-using-decls)
using client::Client;         // NOLINT(misc-unused-using-decls)
using client::ClientOptions;  // NOLINT(misc-unused-using-decls)
}  // namespace headlight

#endif  // HEADLIGHT_CLIENT_CLIENT_H_
