// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/health_service.h"

#include <cstddef>
#include <cstring>
#include <mutex>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/wire/control_message.h"
#include "server/wire/grpc_status.h"

namespace headlight {
namespace {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;
using grpc::health::v1::HealthListRequest;
using grpc::health::v1::HealthListResponse;

constexpr char kModels[] = "models/";

// Of names that are kept while somebody watches them; longer ones name nothing.
constexpr size_t kMaxServiceBytes = 1024;
constexpr size_t kMaxWatchBytes = 2 * kMaxServiceBytes;

HealthCheckResponse::ServingStatus ToProto(Health health) {
  switch (health) {
    case Health::kServing:
      return HealthCheckResponse::SERVING;
    case Health::kNotServing:
      return HealthCheckResponse::NOT_SERVING;
    case Health::kUnknown:
      break;
  }
  return HealthCheckResponse::SERVICE_UNKNOWN;
}

grpc::ByteBuffer Message(Health health) {
  HealthCheckResponse response;
  response.set_status(ToProto(health));
  return WriteControlMessage(response);
}

// The model that a service is about; nothing: about none.
std::optional<std::string> ModelOf(const std::string& service) {
  if (!absl::StartsWith(service, kModels)) return std::nullopt;
  const size_t begin = std::strlen(kModels);
  return service.substr(begin, service.find('/', begin) - begin);
}

bool MaySee(const Identity& who, const std::string& service) {
  const std::optional<std::string> model = ModelOf(service);
  return !model || who.models.MaySee(*model);
}

// One Watch. At most one write is under way; what changes meanwhile replaces what was to be told next. The
// board calls Tell under its own lock, which Forget takes: so no Tell is under way when OnDone deletes this.
class Watcher final : public grpc::ServerWriteReactor<grpc::ByteBuffer>, public HealthWatcher {
 public:
  Watcher(HealthBoard& board, std::string service, std::atomic<int64_t>& num_watchers)
      : board_(board), service_(std::move(service)), num_watchers_(num_watchers) {}

  void Tell(Health health) override {
    const std::lock_guard lock(mutex_);
    latest_ = health;
    WriteLatest();
  }

  void Refuse(const grpc::Status& status) {
    const std::lock_guard lock(mutex_);
    finished_ = true;  // also for OnCancel, which may come nevertheless
    Finish(status);
  }

 private:
  void OnWriteDone(bool ok) override {
    const std::lock_guard lock(mutex_);
    writing_ = false;
    ended_ |= !ok;
    WriteLatest();
  }

  void OnCancel() override {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    WriteLatest();
  }

  void OnDone() override {
    board_.Forget(service_, *this);
    num_watchers_.fetch_sub(1, std::memory_order_relaxed);
    delete this;
  }

  // Requires mutex_.
  void WriteLatest() {
    if (writing_ || finished_) return;
    if (ended_) {
      finished_ = true;
      return Finish(grpc::Status(grpc::StatusCode::CANCELLED, "nobody listens any more"));
    }
    if (latest_ == told_) return;
    told_ = latest_;
    writing_ = true;
    response_ = Message(*latest_);
    StartWrite(&response_);
  }

  HealthBoard& board_;
  const std::string service_;
  std::atomic<int64_t>& num_watchers_;
  std::mutex mutex_;
  // Guarded by mutex_:
  std::optional<Health> latest_;
  std::optional<Health> told_;
  bool writing_ = false;
  bool ended_ = false;
  bool finished_ = false;
  grpc::ByteBuffer response_;  // of the write that is under way
};

}  // namespace

bool HealthService::MaySee(const grpc::CallbackServerContext& context, const std::string& service) const {
  if (service.size() > kMaxServiceBytes) return false;
  if (!ModelOf(service)) return true;  // whatever the token is: probes have none
  const auto who = gate_.Admit(context.client_metadata());
  return who.ok() && headlight::MaySee(**who, service);
}

grpc::ServerUnaryReactor* HealthService::Check(grpc::CallbackServerContext* context,
                                               const grpc::ByteBuffer* message, grpc::ByteBuffer* response) {
  HealthCheckRequest request;
  absl::Status status = ReadControlMessage(*message, request);
  if (status.ok()) {
    const Health health =
        MaySee(*context, request.service()) ? board_.Get(request.service()) : Health::kUnknown;
    *response = Message(health);
    if (health == Health::kUnknown) status = absl::NotFoundError("service: no such one");
  }
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

grpc::ServerUnaryReactor* HealthService::List(grpc::CallbackServerContext* context,
                                              const grpc::ByteBuffer* message, grpc::ByteBuffer* response) {
  HealthListRequest request;
  const absl::Status status = ReadControlMessage(*message, request);
  if (status.ok()) *response = WriteControlMessage(ListFor(*context));
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

HealthListResponse HealthService::ListFor(const grpc::CallbackServerContext& context) const {
  HealthListResponse list;
  const auto who = gate_.Admit(context.client_metadata());
  for (const auto& [service, health] : board_.All()) {
    if (ModelOf(service) && !(who.ok() && headlight::MaySee(**who, service))) continue;
    (*list.mutable_statuses())[service].set_status(ToProto(health));
  }
  return list;
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* HealthService::Watch(grpc::CallbackServerContext* context,
                                                                 const grpc::ByteBuffer* message) {
  HealthCheckRequest request;
  absl::Status status = ReadControlMessage(*message, request);
  // gRPC keeps the message for as long as somebody watches.
  if (status.ok() && message->Length() > kMaxWatchBytes) {
    status = absl::InvalidArgumentError(
        absl::StrCat("got a request of ", message->Length(), " bytes, wanted at most ", kMaxWatchBytes));
  }
  const bool may_see = status.ok() && MaySee(*context, request.service());
  auto* const watcher =  // deletes itself
      new Watcher(board_, may_see ? request.service() : std::string(), num_watchers_);
  if (num_watchers_.fetch_add(1, std::memory_order_relaxed) >= kMaxWatchers) {
    watcher->Refuse({grpc::StatusCode::RESOURCE_EXHAUSTED, "too many watch this server's health"});
  } else if (!status.ok()) {
    watcher->Refuse(ToGrpcStatus(status));
  } else if (may_see) {
    board_.Watch(request.service(), *watcher);
  } else {
    watcher->Tell(Health::kUnknown);
  }
  return watcher;
}

}  // namespace headlight
