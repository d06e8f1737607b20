// SPDX-License-Identifier: Apache-2.0
#include "client/client.h"

#include <grpc/support/time.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/security/credentials.h>

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"

namespace headlight::client {

absl::StatusOr<Client> Client::Create(const std::string& target, const ClientOptions& options) {
  if (target.empty()) return absl::InvalidArgumentError("target: got an empty string, wanted HOST:PORT");
  if (options.max_message_bytes < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_message_bytes: got ", options.max_message_bytes, ", wanted at least 1"));
  }
  grpc::ChannelArguments arguments;
  arguments.SetMaxSendMessageSize(options.max_message_bytes);
  arguments.SetMaxReceiveMessageSize(options.max_message_bytes);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, options.connection == Connection::kOwn ? 1 : 0);
  return Client(grpc::CreateCustomChannel(target, grpc::InsecureChannelCredentials(), arguments));
}

Client::Client(std::shared_ptr<grpc::Channel> channel)
    : channel_(std::move(channel)),
      attention_(v1::AttentionService::NewStub(channel_)),
      health_(grpc::health::v1::Health::NewStub(channel_)) {}

absl::StatusOr<AttendReply> Client::Attend(const AttendCall& call, std::chrono::milliseconds timeout) const {
  const absl::StatusOr<grpc::ByteBuffer> request = EncodeRequest(call);
  if (!request.ok()) return request.status();
  grpc::ClientContext context;
  SetTimeout(context, timeout);
  grpc::ByteBuffer reply;
  grpc::Status status;
  absl::Notification done;
  grpc::GenericStub(channel_).UnaryCall(&context, kAttendMethod, {}, &*request, &reply,
                                        [&](grpc::Status result) {
                                          status = std::move(result);
                                          done.Notify();
                                        });
  done.WaitForNotification();
  if (!status.ok()) return ToAbslStatus(status);
  return DecodeReply(reply);
}

absl::StatusOr<v1::ListModelsResponse> Client::ListModels(std::chrono::milliseconds timeout) const {
  grpc::ClientContext context;
  SetTimeout(context, timeout);
  v1::ListModelsResponse response;
  const grpc::Status status = attention_->ListModels(&context, {}, &response);
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
  const grpc::Status status = attention_->GetModel(&context, request, &response);
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
  const grpc::Status status = attention_->LoadModel(&context, request, &response);
  if (!status.ok()) return ToAbslStatus(status);
  return std::move(*response.mutable_model());
}

absl::Status Client::UnloadModel(const std::string& name, std::chrono::milliseconds timeout) const {
  grpc::ClientContext context;
  SetTimeout(context, timeout);
  v1::UnloadModelRequest request;
  request.set_model(name);
  v1::UnloadModelResponse response;
  return ToAbslStatus(attention_->UnloadModel(&context, request, &response));
}

absl::StatusOr<grpc::health::v1::HealthCheckResponse::ServingStatus> Client::CheckHealth(
    const std::string& service, std::chrono::milliseconds timeout) const {
  grpc::ClientContext context;
  SetTimeout(context, timeout);
  grpc::health::v1::HealthCheckRequest request;
  request.set_service(service);
  grpc::health::v1::HealthCheckResponse response;
  const grpc::Status status = health_->Check(&context, request, &response);
  if (!status.ok()) return ToAbslStatus(status);
  return response.status();
}

absl::Status ToAbslStatus(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

void SetTimeout(grpc::ClientContext& context, std::chrono::milliseconds timeout) {
  context.set_deadline(gpr_time_from_millis(timeout.count(), GPR_TIMESPAN));
}

}  // namespace headlight::client
