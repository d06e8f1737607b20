// SPDX-License-Identifier: Apache-2.0
#include "server/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/attention/multi_head_attention.h"
#include "core/base/status_macros.h"
#include "core/base/text.h"
#include "core/runtime/cpu_topology.h"
#include "core/runtime/memory_limit.h"
#include "grpc/health/v1/health.pb.h"
#include "server/models/make_model.h"

namespace headlight {
namespace {

constexpr char kServiceName[] = "headlight.v1.AttentionService";

// Memory kept between batches; more than a batch of the default size needs, less than the largest single
// request.
constexpr int64_t kMaxIdleBytes = int64_t{256} << 20;

// How long calls may linger once every accepted request is answered. A request that was on its way in when
// the shutdown began is answered UNAVAILABLE within this time; health watchers, who never leave by
// themselves, are then cut off.
constexpr std::chrono::seconds kGoodbyeTime{2};

// gRPC's own settings, beside those that have an option.
void SetTransport(const ServerOptions& options, grpc::ServerBuilder& builder) {
  const int message_bytes = static_cast<int>(options.max_message_bytes);
  builder.SetMaxReceiveMessageSize(message_bytes);
  builder.SetMaxSendMessageSize(message_bytes);
  // Embeddings hardly compress, and a few compressed bytes may unfold to more than any limit. Refused:
  // UNIMPLEMENTED.
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_DEFLATE, false);
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_GZIP, false);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);  // else two servers share a port without a word
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, 256);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 60'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10'000);
}

SchedulerOptions SchedulerOptionsOf(const ServerOptions& options) {
  return {options.max_batch_tokens, options.queue_max_requests, options.queue_max_bytes};
}

absl::Status AddBuiltInModels(const ServerOptions& options, ModelRegistry& registry) {
  for (const std::string& name : options.models) {
    HEADLIGHT_ASSIGN_OR_RETURN(auto model,
                               MakeBuiltInModel(name, options.kernel, options.precision.Of(name)));
    HEADLIGHT_RETURN_IF_ERROR(registry.Add(std::move(model)));
  }
  return absl::OkStatus();
}

// Null without a model repository.
std::unique_ptr<ModelLoader> MakeLoader(const ServerOptions& options, ModelRegistry& registry,
                                        Metrics& metrics) {
  if (options.model_repository.empty()) return nullptr;
  const FolderModelOptions folder_options = {
      options.precision, options.kernel,
      options.memory_limit > 0 ? options.memory_limit : DetectMemoryLimitBytes()};
  return std::make_unique<ModelLoader>(
      ModelLoaderOptions{options.model_repository, options.load, options.repository_poll_s}, registry,
      metrics, [folder_options](const ModelSource& source, const CancellationToken& cancelled) {
        return MakeModelFromFolder(folder_options, source, cancelled);
      });
}

// `listen` with the port that was picked in place of the one asked for.
std::string WithPort(const std::string& listen, int port) {
  const size_t colon = listen.rfind(':');
  return absl::StrCat(listen.substr(0, colon), ":", port);
}

// These are switches of the whole process, which the next ServerBuilder obeys.
void EnablePlugins() {
  static std::once_flag once;
  std::call_once(once, [] {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    // gRPC serves health without its description; with it, reflection can tell a caller what Check and Watch
    // take.
    grpc::health::v1::HealthCheckRequest::descriptor();
  });
}

}  // namespace

absl::StatusOr<std::unique_ptr<HeadlightServer>> HeadlightServer::Start(
    const ServerOptions& options, std::shared_ptr<ModelRegistry> registry,
    const std::function<void()>& before_listening) {
  if (registry == nullptr) {
    registry = std::make_shared<ModelRegistry>();
    if (options.model_repository.empty()) HEADLIGHT_RETURN_IF_ERROR(AddBuiltInModels(options, *registry));
  }
  HEADLIGHT_ASSIGN_OR_RETURN(std::unique_ptr<Metrics> metrics, Metrics::Create(options.metrics_listen));
  const int threads =
      options.threads > 0 ? static_cast<int>(options.threads) : DetectCpuTopology().ComputeThreads();
  std::unique_ptr<HeadlightServer> server(
      new HeadlightServer(options, std::move(registry), std::move(metrics), threads));
  if (server->loader_ != nullptr) HEADLIGHT_RETURN_IF_ERROR(server->loader_->LoadAll());
  if (before_listening) before_listening();
  HEADLIGHT_RETURN_IF_ERROR(server->Listen());
  return server;
}

HeadlightServer::HeadlightServer(const ServerOptions& options, std::shared_ptr<ModelRegistry> registry,
                                 std::unique_ptr<Metrics> metrics, int compute_threads)
    : options_(options),
      registry_(std::move(registry)),
      metrics_(std::move(metrics)),
      loader_(MakeLoader(options, *registry_, *metrics_)),
      arena_(compute_threads),
      executor_(arena_, kMaxIdleBytes),
      scheduler_(SchedulerOptionsOf(options), executor_, clock_),
      service_({*registry_, scheduler_, clock_, options.max_message_bytes, compute_threads, loader_.get(),
                options.allow_model_control}) {}

HeadlightServer::~HeadlightServer() {
  // Calls under way end only when the scheduler answers them, so it must still be there while gRPC waits for
  // them. So it is with calls that load models.
  if (loader_ != nullptr) loader_->Stop();
  if (grpc_server_ != nullptr) grpc_server_->Shutdown(std::chrono::system_clock::now());
}

absl::Status HeadlightServer::Listen() {
  EnablePlugins();
  grpc::ServerBuilder builder;
  SetTransport(options_, builder);
  builder.AddListeningPort(options_.listen, grpc::InsecureServerCredentials(), &port_);
  builder.RegisterService(&service_);
  grpc_server_ = builder.BuildAndStart();
  if (grpc_server_ == nullptr) {
    return absl::UnavailableError(absl::StrCat("--listen: cannot listen on ", Quoted(options_.listen),
                                               "; is it in use, or no address of this machine?"));
  }
  grpc_server_->GetHealthCheckService()->SetServingStatus(kServiceName, true);
  std::set<std::string> kernels;
  for (const auto& model : registry_->List()) {
    kernels.insert(model->model.attention().kernel_name());
    if (loader_ != nullptr) continue;  // which has logged it and tells the rest
    LogModel(*model);
    SetHealth(absl::StrCat("models/", model->name), true);
    metrics_->ModelServes(model->name, model->version, model->model.packed_bytes());
  }
  if (loader_ != nullptr) {
    loader_->Start([this](const std::string& service, bool serving) { SetHealth(service, serving); });
  }
  if (metrics_->port() != 0) {
    spdlog::info("metrics on http://{}/metrics", WithPort(options_.metrics_listen, metrics_->port()));
  }
  spdlog::info("compute_threads={} kernel={} isa={}", arena_.num_threads(), absl::StrJoin(kernels, ","),
               MultiHeadAttention::IsaName());
  spdlog::info("listening on {}", WithPort(options_.listen, port_));
  return absl::OkStatus();
}

void HeadlightServer::SetHealth(const std::string& service, bool serving) {
  grpc_server_->GetHealthCheckService()->SetServingStatus(service, serving);
}

absl::Status HeadlightServer::Shutdown() {
  const auto grace = std::chrono::seconds(options_.shutdown_grace_s);
  grpc_server_->GetHealthCheckService()->Shutdown();
  scheduler_.StopAccepting();
  service_.EndStreams();
  if (loader_ != nullptr) loader_->Stop();
  const bool finished = service_.WaitUntilIdle(grace);
  const int64_t cut_off = service_.num_calls();
  const auto now = std::chrono::system_clock::now();
  grpc_server_->Shutdown(finished ? now + kGoodbyeTime : now);
  if (finished) return absl::OkStatus();
  return absl::DeadlineExceededError(absl::StrCat(cut_off, " requests were cut off after ",
                                                  options_.shutdown_grace_s, " s (--shutdown-grace-s)"));
}

}  // namespace headlight
