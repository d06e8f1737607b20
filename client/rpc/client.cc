// SPDX-License-Identifier: Apache-2.0
#include "client/client.h"

#include <grpc/support/time.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "client/rpc/asked_layers.h"
#include "client/rpc/channel_factory.h"
#include "client/rpc/name_watch.h"
#include "client/rpc/pending_call.h"
#include "client/rpc/target.h"
#include "client/rpc/traceparent.h"
#include "client/wire/wire.h"
#include "headlight/v1/metadata.h"

namespace headlight::client {
namespace {

constexpr std::chrono::seconds kLookUpInterval{5};

}  // namespace

struct Client::State {
  std::vector<std::shared_ptr<grpc::Channel>> channels;  // at least one
  std::unique_ptr<v1::AttentionService::Stub> attention;
  std::unique_ptr<grpc::health::v1::Health::Stub> health;
  std::unique_ptr<CallContext> calls;
  std::unique_ptr<NameWatch> watch;  // goes before what it changes

  AttendHandle Start(grpc::ByteBuffer request, const std::string& traceparent,
                     std::chrono::milliseconds timeout, AttendCallback callback) {
    const auto pending =
        std::make_shared<PendingCall>(*calls, std::move(request), traceparent, timeout, std::move(callback));
    pending->Start();
    return AttendHandle(pending);
  }
};

namespace {

// What `begin`, given a callback, has it called with.
template <typename Begin>
absl::StatusOr<AttendReply> WaitForReply(const Begin& begin) {
  absl::StatusOr<AttendReply> reply;
  absl::Notification done;
  begin([&](absl::StatusOr<AttendReply> result) {
    reply = std::move(result);
    done.Notify();
  });
  done.WaitForNotification();
  return reply;
}

}  // namespace

void AttendHandle::Cancel() const {
  if (const auto call = call_.lock()) call->Cancel();
}

absl::StatusOr<Client> Client::Create(const std::string& target, const ClientOptions& options) {
  const auto factory = ChannelFactory::Create(target, options);
  if (!factory.ok()) return factory.status();
  Client client(target, factory->OpenTarget(), options.retry, options.checksums);
  if (options.load_balancing == LoadBalancing::kRoundRobin && !factory->has_proxy()) {
    client.Spread(std::make_shared<ChannelFactory>(*factory));
  }
  return client;
}

Client::Client(std::shared_ptr<grpc::Channel> channel, const RetryOptions& retry, Checksums checksums)
    : Client("", std::vector<std::shared_ptr<grpc::Channel>>{std::move(channel)}, retry, checksums) {}

Client::Client(const std::string& target, std::vector<std::shared_ptr<grpc::Channel>> channels,
               const RetryOptions& retry, Checksums checksums)
    : state_(std::make_unique<State>()) {
  state_->attention = v1::AttentionService::NewStub(channels.front());
  state_->health = grpc::health::v1::Health::NewStub(channels.front());
  state_->calls.reset(new CallContext{.pool = ServerPool(target, channels),
                                      .retry = retry,
                                      .budget = RetryBudget(retry),
                                      .checksums = checksums});
  state_->channels = std::move(channels);
}

void Client::Spread(std::shared_ptr<const ChannelFactory> factory) {
  const auto set = [&pool = state_->calls->pool, factory](const std::vector<std::string>& addresses) {
    pool.SetAddresses(addresses, [&](const std::string& address) { return factory->OpenAddress(address); });
  };
  set(ListedAddresses(factory->target()));
  if (const std::string name = NameToLookUp(factory->target()); !name.empty()) {
    state_->watch = std::make_unique<NameWatch>([name] { return LookUp(name); }, kLookUpInterval, set);
  }
}

Client::~Client() = default;
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;

const std::vector<std::shared_ptr<grpc::Channel>>& Client::channels() const { return state_->channels; }

int64_t Client::num_retries() const { return state_->calls->budget.retries(); }

absl::StatusOr<AttendReply> Client::Attend(const AttendCall& call, std::chrono::milliseconds timeout) const {
  return WaitForReply([&](AttendCallback callback) { AttendAsync(call, timeout, std::move(callback)); });
}

absl::StatusOr<AttendReply> Client::AttendMessage(const v1::AttendRequest& request,
                                                  std::chrono::milliseconds timeout) const {
  const grpc::Slice bytes(request.SerializeAsString());
  const v1::WeightsOptions& weights = request.weights();
  return WaitForReply([&](AttendCallback callback) {
    state_->Start(grpc::ByteBuffer(&bytes, 1), /*traceparent=*/"", timeout,
                  WithLayersChecked(weights.mode(), weights.layers_size(), std::move(callback)));
  });
}

AttendHandle Client::AttendAsync(const AttendCall& call, std::chrono::milliseconds timeout,
                                 AttendCallback callback) const {
  absl::Status wrong = CheckTraceparent(call.traceparent);
  absl::StatusOr<grpc::ByteBuffer> request = wrong.ok() ? EncodeRequest(call) : std::move(wrong);
  if (!request.ok()) {
    callback(request.status());
    return AttendHandle({});
  }
  return state_->Start(
      *std::move(request), call.traceparent, timeout,
      WithLayersChecked(call.weights, static_cast<int64_t>(call.layers.size()), std::move(callback)));
}

absl::StatusOr<std::unique_ptr<AttendStream>> Client::OpenStream(std::chrono::milliseconds timeout,
                                                                 const StreamOptions& options) const {
  constexpr int kMostUnanswered = 1024;
  if (options.max_unanswered < 1 || options.max_unanswered > kMostUnanswered) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_unanswered: got ", options.max_unanswered, ", wanted 1 to ", kMostUnanswered));
  }
  if (absl::Status wrong = CheckTraceparent(options.traceparent); !wrong.ok()) return wrong;
  return std::make_unique<AttendStream>(state_->calls->pool.Pick({}).channel, timeout, options.max_unanswered,
                                        options.traceparent, state_->calls->checksums);
}

absl::StatusOr<v1::EstimateCostResponse> Client::EstimateCost(const AttendCall& call,
                                                              std::chrono::milliseconds timeout) const {
  absl::StatusOr<v1::AttendRequest> described = DescribeRequest(call);
  if (!described.ok()) return described.status();
  grpc::ClientContext context;
  SetTimeout(context, timeout);
  v1::EstimateCostRequest request;
  *request.mutable_request() = *std::move(described);
  v1::EstimateCostResponse response;
  const grpc::Status status = state_->attention->EstimateCost(&context, request, &response);
  if (!status.ok()) return ToAbslStatus(status);
  return response;
}

absl::StatusOr<v1::ListModelsResponse> Client::ListModels(std::chrono::milliseconds timeout) const {
  grpc::ClientContext context;
  SetTimeout(context, timeout);
  v1::ListModelsResponse response;
  const grpc::Status status = state_->attention->ListModels(&context, {}, &response);
  if (!status.ok()) return ToAbslStatus(status);
  return response;
}

absl::StatusOr<v1::Model> Client::GetModel(const std::string& name, const std::string& version,
                                           std::chrono::milliseconds timeout) const {
  grpc::ClientContext context;
  SetTimeout(context, timeout);
  v1::GetModelRequest request;
  request.set_model(name);
  request.set_model_version(version);
  v1::GetModelResponse response;
  const grpc::Status status = state_->attention->GetModel(&context, request, &response);
  if (!status.ok()) return ToAbslStatus(status);
  return std::move(*response.mutable_model());
}

absl::StatusOr<v1::Model> Client::LoadModel(const std::string& name,
                                            std::chrono::milliseconds timeout) const {
  grpc::ClientContext context;
  SetTimeout(context, timeout);
  v1::LoadModelRequest request;
  request.set_model(name);
  v1::LoadModelResponse response;
  const grpc::Status status = state_->attention->LoadModel(&context, request, &response);
  if (!status.ok()) return ToAbslStatus(status);
  return std::move(*response.mutable_model());
}

absl::Status Client::UnloadModel(const std::string& name, std::chrono::milliseconds timeout) const {
  grpc::ClientContext context;
  SetTimeout(context, timeout);
  v1::UnloadModelRequest request;
  request.set_model(name);
  v1::UnloadModelResponse response;
  return ToAbslStatus(state_->attention->UnloadModel(&context, request, &response));
}

absl::StatusOr<grpc::health::v1::HealthCheckResponse::ServingStatus> Client::CheckHealth(
    const std::string& service, std::chrono::milliseconds timeout) const {
  grpc::ClientContext context;
  SetTimeout(context, timeout);
  grpc::health::v1::HealthCheckRequest request;
  request.set_service(service);
  grpc::health::v1::HealthCheckResponse response;
  const grpc::Status status = state_->health->Check(&context, request, &response);
  if (!status.ok()) return ToAbslStatus(status);
  return response.status();
}

absl::Status ToAbslStatus(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

void SetTimeout(grpc::ClientContext& context, std::chrono::milliseconds timeout) {
  context.set_deadline(gpr_time_from_millis(timeout.count(), GPR_TIMESPAN));
}

void AnnounceMessage(grpc::ClientContext& context, int64_t message_bytes) {
  // What goes out at once, before the server could say anything.
  constexpr int64_t kFirstWindowBytes = int64_t{64} << 10;
  if (message_bytes > kFirstWindowBytes) {
    context.AddMetadata(v1::kMessageBytesHeader, absl::StrCat(message_bytes));
  }
}

}  // namespace headlight::client
