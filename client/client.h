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
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "client/attend_call.h"
#include "client/attend_stream.h"
#include "client/channel_options.h"
#include "client/retry.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "headlight/v1/attention.grpc.pb.h"

namespace headlight::client {

class ChannelFactory;
class PendingCall;

// An Attend under way. Copies refer to the same call; dropping them does not cancel it. Thread-safe.
class AttendHandle {
 public:
  explicit AttendHandle(std::weak_ptr<PendingCall> call) : call_(std::move(call)) {}

  // Ends the call with CANCELLED, if it has not ended yet; its callback is called all the same.
  void Cancel() const;

 private:
  std::weak_ptr<PendingCall> call_;  // empty once it has ended
};

struct StreamOptions {
  int max_unanswered = 32;  // requests under way, 1 to 1024; the server takes 32 at a time
  std::string traceparent;  // of all its requests, as AttendCall has it
};

// Movable, not copyable. All methods may be called from many threads at once.
//
// Errors of every call: those that attention.proto lists, with the server's message; UNAVAILABLE if the
// server cannot be reached; DEADLINE_EXCEEDED once `timeout` has passed; INTERNAL if the reply is malformed;
// DATA_LOSS if a tensor of the reply is not what the server sent; UNIMPLEMENTED if the server is too old to
// know AttendCall::layers.
// Attend, AttendAsync and AttendMessage try again as ClientOptions::retry says, within the one timeout; the
// others never do.
class Client {
 public:
  // `target` is HOST:PORT or any other gRPC name. Connects on the first call, not here.
  // INVALID_ARGUMENT, naming the field, if the target is empty or an option is wrong; NOT_FOUND if a file
  // that an option names cannot be read.
  static absl::StatusOr<Client> Create(const std::string& target, const ClientOptions& options = {});

  // Uses an existing channel, whatever its options are.
  explicit Client(std::shared_ptr<grpc::Channel> channel, const RetryOptions& retry = {},
                  Checksums checksums = Checksums::kCheck);

  // Waits for the calls under way and their callbacks, so it must not be called from one of these. The same
  // holds for assigning another client to this one.
  ~Client();
  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;

  // Computes attention. INVALID_ARGUMENT, before anything is sent, if a tensor's shape and values disagree.
  absl::StatusOr<AttendReply> Attend(const AttendCall& call, std::chrono::milliseconds timeout) const;

  // The same without waiting: tensors are copied before this returns. `callback` is called exactly once, on a
  // thread of gRPC's, which it must not hold up; or on this thread, before this returns, if a tensor's shape
  // and values disagree or there is no time at all.
  AttendHandle AttendAsync(const AttendCall& call, std::chrono::milliseconds timeout,
                           AttendCallback callback) const;

  // The same of a request that is a message already, payloads and all, and is sent as it is.
  absl::StatusOr<AttendReply> AttendMessage(const v1::AttendRequest& request,
                                            std::chrono::milliseconds timeout) const;

  // What the request would cost and whether it would be admitted now; nothing is computed, and of the tensors
  // only shapes are sent, so they need no values.
  absl::StatusOr<v1::EstimateCostResponse> EstimateCost(const AttendCall& call,
                                                        std::chrono::milliseconds timeout) const;

  // A stream for many requests, which ends with DEADLINE_EXCEEDED once `timeout` has passed from now. It may
  // outlive the client. INVALID_ARGUMENT if an option is out of range.
  absl::StatusOr<std::unique_ptr<AttendStream>> OpenStream(std::chrono::milliseconds timeout,
                                                           const StreamOptions& options = {}) const;

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

  // How often calls of this client were tried again.
  int64_t num_retries() const;

  // As many as ClientOptions::num_channels, as OpenChannels makes them.
  const std::vector<std::shared_ptr<grpc::Channel>>& channels() const;
  const std::shared_ptr<grpc::Channel>& channel() const { return channels().front(); }

 private:
  struct State;

  Client(const std::string& target, std::vector<std::shared_ptr<grpc::Channel>> channels,
         const RetryOptions& retry, Checksums checksums);

  // Has calls choose among the target's addresses from now on.
  void Spread(std::shared_ptr<const ChannelFactory> factory);

  std::unique_ptr<State> state_;
};

// The same code and message; gRPC's and abseil's codes have the same numbers.
absl::Status ToAbslStatus(const grpc::Status& status);

// Ends the call of `context` with DEADLINE_EXCEEDED once `timeout` has passed from now, by a clock that
// nobody sets.
void SetTimeout(grpc::ClientContext& context, std::chrono::milliseconds timeout);

// Tells the server how many bytes the unary call's message has, so that it takes memory for all of it, or
// refuses the call, before any of it is sent. Small messages go without.
void AnnounceMessage(grpc::ClientContext& context, int64_t message_bytes);

}  // namespace headlight::client

namespace headlight {
using client::AttendCall;     // NOLINT(misc-unused-using-decls): the names that callers use
using client::AttendReply;    // NOLINT(misc-unused-using-decls)
using client::AttendStream;   // NOLINT(misc-unused-using-decls)
using client::Client;         // NOLINT(misc-unused-using-decls)
using client::ClientOptions;  // NOLINT(misc-unused-using-decls)
}  // namespace headlight

#endif  // HEADLIGHT_CLIENT_CLIENT_H_
