// SPDX-License-Identifier: Apache-2.0
#include "server/server.h"

#include <malloc.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <cstdint>
#include <future>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/attention/layer.h"
#include "core/base/status_macros.h"
#include "core/base/text.h"
#include "server/attend/attend_face.h"
#include "server/memory/memory_plan.h"
#include "server/models/built_in_models.h"
#include "server/models/make_model.h"
#include "server/models/model_log.h"
#include "server/observe/gemm_peak.h"
#include "server/oip/oip_face.h"
#include "server/program/reload.h"
#include "server/program/version.h"
#include "server/rpc/control_methods.h"
#include "server/rpc/descriptor_limit.h"
#include "server/rpc/listen_sockets.h"
#include "server/rpc/reflection_service.h"
#include "server/rpc/transport.h"

namespace headlight {
namespace {

// What answers goes before what computes. On two busy cores a refusal takes a dozen wake-ups, and each would
// else wait for the kernel to end a computing thread's turn.
constexpr int kComputeNice = 5;

constexpr char kHealthName[] = "grpc.health.v1.Health";
constexpr char kLoadServiceName[] = "xds.service.orca.v3.OpenRcaService";

// Memory kept between batches; more than a batch of the default size needs, less than the largest single
// request.
constexpr int64_t kMaxIdleBytes = int64_t{256} << 20;

// How long a shutdown waits for a collector, once every request is answered.
constexpr std::chrono::milliseconds kSpanPatience{2000};

// A burst is over when its memory has not been needed for so long.
constexpr std::chrono::seconds kHousekeepingPeriod{1};

EngineOptions EngineOptionsOf(const ServerOptions& options) {
  EngineOptions engine;
  engine.max_batch_tokens = options.max_batch_tokens;
  engine.queue_max_requests = options.queue_max_requests;
  engine.batch_budget_us = options.batch_budget_us;
  engine.max_age_us = options.max_age_ms * 1000;
  engine.long_run_us = kLongRunBudgets * options.batch_budget_us;
  return engine;
}

absl::Status AddBuiltInModels(const ServerOptions& options, MemoryBudget& memory, ModelRegistry& registry) {
  for (const std::string& name : BuiltInModelsToServe(options)) {
    HEADLIGHT_ASSIGN_OR_RETURN(auto model, MakeBuiltInModel(name, options.kernel, options.precision.Of(name),
                                                            &memory, options.parameters_precision.Of(name)));
    HEADLIGHT_RETURN_IF_ERROR(registry.Add(std::move(model)));
  }
  return absl::OkStatus();
}

// `spans` may be null.
std::vector<RequestObserver*> AndSpans(std::vector<RequestObserver*> observers, SpanExport* spans) {
  if (spans != nullptr) observers.push_back(spans);
  return observers;
}

// Says whether a model may serve.
using TryModel = std::function<absl::Status(const std::shared_ptr<const LoadedModel>& model)>;

// Null without a folder to load from.
std::unique_ptr<ModelLoader> MakeLoader(const ServerOptions& options, MemoryBudget& memory,
                                        ModelRegistry& registry, LoadObserver& observer, TryModel try_model) {
  if (options.model_repository.empty() && options.model_folders.empty()) return nullptr;
  const FolderModelOptions folder_options = {options.precision, options.parameters_precision,
                                             options.strict,    options.pooling,
                                             options.kernel,    &memory};
  return std::make_unique<ModelLoader>(
      ModelLoaderOptions{options.model_repository, options.load, options.repository_poll_s,
                         options.model_folders},
      registry, observer,
      [folder_options, try_model = std::move(try_model)](
          const ModelSource& source,
          const CancellationToken& cancelled) -> absl::StatusOr<std::shared_ptr<const LoadedModel>> {
        HEADLIGHT_ASSIGN_OR_RETURN(std::shared_ptr<const LoadedModel> model,
                                   MakeModelFromFolder(folder_options, source, cancelled));
        HEADLIGHT_RETURN_IF_ERROR(try_model(model));
        return model;
      });
}

TransportOptions TransportOptionsOf(const ServerOptions& options, const MemoryBudget& memory) {
  return {.max_message_bytes = options.max_message_bytes,
          .receive_window_bytes = options.receive_window_bytes,
          .connections_bytes = memory.limit_of_requests(),
          .max_streams = options.max_streams,
          .max_header_bytes = options.max_header_bytes,
          .idle_timeout_s = options.idle_timeout_s,
          .max_connection_age_s = options.max_connection_age_s,
          .connection_age_grace_s = options.connection_age_grace_s};
}

}  // namespace

absl::StatusOr<std::unique_ptr<HeadlightServer>> HeadlightServer::Start(
    const ServerOptions& given, std::shared_ptr<ModelRegistry> registry,
    const std::function<void()>& before_serving, OnLoading on_loading) {
  const MachineLimits machine = DetectMachineLimits();
  HEADLIGHT_ASSIGN_OR_RETURN(const FittedLimits limits, FitLimits(given, machine));
  const ServerOptions& options = limits.options;
  for (const std::string& warning : limits.warnings) spdlog::warn("{}", warning);
  spdlog::info("limits: memory={} max_message_bytes={} receive_window_bytes={} queue_max_requests={}",
               options.memory_limit, options.max_message_bytes, options.receive_window_bytes,
               options.queue_max_requests);
  const bool registry_given = registry != nullptr;
  if (!registry_given) registry = std::make_shared<ModelRegistry>();
  HEADLIGHT_RETURN_IF_ERROR(CheckOtlpEndpoint(options.otlp_endpoint));
  HEADLIGHT_ASSIGN_OR_RETURN(
      const ConnectionLimits connections,
      FitConnections(
          {options.max_connections, options.max_connections_per_address, options.abuse_pause_s},
          RaiseDescriptorLimit() - (options.allow_shared_memory ? SharedMemoryLimits().max_regions : 0)));
  const TlsFiles tls_files = {options.tls_cert, options.tls_key, options.tls_client_ca};
  std::shared_ptr<TlsCredentials> tls;
  if (!tls_files.empty()) {
    HEADLIGHT_ASSIGN_OR_RETURN(tls, TlsCredentials::Create(tls_files));
  }
  std::unique_ptr<HeadlightServer> server(new HeadlightServer(
      options, std::move(registry), machine, connections, std::move(tls), std::move(on_loading)));
  if (!options.tokens.empty()) {
    HEADLIGHT_ASSIGN_OR_RETURN(const std::string tokens, ReloadTokens(options.tokens, server->gate_));
    spdlog::info("{} of {}", tokens, options.tokens);
  }
  HEADLIGHT_RETURN_IF_ERROR(server->admin_.Listen());
  HEADLIGHT_RETURN_IF_ERROR(server->Listen());
  HEADLIGHT_RETURN_IF_ERROR(server->LoadModels(registry_given));
  if (before_serving) before_serving();
  server->ServeModels();
  return server;
}

HeadlightServer::HeadlightServer(const ServerOptions& options, std::shared_ptr<ModelRegistry> registry,
                                 const MachineLimits& machine, const ConnectionLimits& connections,
                                 std::shared_ptr<TlsCredentials> tls, OnLoading on_loading)
    : options_(options),
      memory_(PlanMemory(options.memory_limit, options.memory_for_models)),
      gate_(options.allow_model_control),
      registry_(std::move(registry)),
      metrics_(static_cast<int>(options.threads)),
      loads_(metrics_, std::move(on_loading)),
      loader_(MakeLoader(options, memory_, *registry_, loads_,
                         [this](const auto& model) { return canaries_.Begin(model); })),
      tallies_(*registry_),
      load_(clock_, machine.quota_cpus.value_or(machine.cpus), static_cast<int>(options.threads),
            [this] { return Load(); }),
      spans_(StartSpanExport(options.otlp_endpoint, {kVersion})),
      requests_({options.log_format == LogFormat::kJson ? RequestLogForm::kJson : RequestLogForm::kText,
                 options.access_log_per_s},
                AndSpans({&metrics_, &errors_, &tallies_, &load_}, spans_.get())),
      pool_(kMaxIdleBytes, &memory_),
      regions_(options.allow_shared_memory
                   ? std::make_unique<SharedMemoryRegions>(
                         pool_, SharedMemoryLimits{.max_tensor_bytes =
                                                       static_cast<uint64_t>(options.max_message_bytes)})
                   : nullptr),
      arena_(static_cast<int>(options.threads), kComputeNice),
      long_arena_(static_cast<int>(options.threads), kComputeNice),
      executor_(arena_, pool_, &memory_),
      long_executor_(long_arena_, pool_, &memory_),
      lane_(executor_, arena_),
      long_lane_(long_executor_, long_arena_),
      scheduler_(EngineOptionsOf(options), lane_, &long_lane_, clock_, &metrics_),
      canaries_(
          *registry_, scheduler_, clock_,
          [this](const std::string& model, const absl::Status& verdict) { TellVerdict(model, verdict); }),
      connections_(connections, clock_),
      tls_(std::move(tls)),
      service_({*registry_, gate_, scheduler_, clock_, options.max_message_bytes, loader_.get(),
                arena_.num_threads(), kVersion}),
      inference_service_(
          {.registry = *registry_,
           .gate = gate_,
           .tallies = tallies_,
           .serves = [this](const std::string& service) { return health_.Get(service) == Health::kServing; },
           .limits = {.max_message_bytes = options.max_message_bytes,
                      .queue_max_requests = options.queue_max_requests,
                      .default_deadline_us = options.default_deadline_ms * 1000},
           .version = kVersion,
           .exports_spans = spans_ != nullptr,
           .loader = loader_.get(),
           .loads = &loads_,
           .regions = regions_.get()}),
      exchanges_({.registry = *registry_,
                  .gate = gate_,
                  .scheduler = scheduler_,
                  .clock = clock_,
                  .memory = memory_,
                  .requests = requests_,
                  .max_message_bytes = options.max_message_bytes,
                  .max_header_bytes = options.max_header_bytes,
                  .default_deadline_us = options.default_deadline_ms * 1000,
                  .max_deadline_us = options.max_deadline_ms * 1000,
                  .compute_threads = arena_.num_threads(),
                  .load = &load_,
                  .connections = &connections_}),
      load_service_(load_, exchanges_.ledger(), clock_, gate_),
      health_service_(health_, gate_),
      reflection_(MakeReflectionServices(
          {AttendFace::kService, OipFace::kService, kHealthName, kLoadServiceName}, gate_)),
      admin_({.options = options_,
              .registry = *registry_,
              .loads = loads_,
              .memory = memory_,
              .scheduler = scheduler_,
              .calls = exchanges_.ledger(),
              .connections = connections_,
              .errors = errors_,
              .spans = spans_.get(),
              .tls = tls_.get(),
              .compute_threads = arena_.num_threads()},
             metrics_),
      housekeeping_(kHousekeepingPeriod, [this] { KeepHouse(); }) {
  for (const auto method : {AttendFace::Method::kAttend, AttendFace::Method::kAttendStream}) {
    exchanges_.Add(std::make_unique<AttendFace>(method));
  }
  for (const auto method : {OipFace::Method::kModelInfer, OipFace::Method::kModelStreamInfer}) {
    exchanges_.Add(std::make_unique<OipFace>(method, InferMemory{.pool = &pool_, .regions = regions_.get()}));
  }
  AddControlMethods(service_, exchanges_);
  AddControlMethods(inference_service_, exchanges_);
}

HeadlightServer::~HeadlightServer() {
  // Calls under way end only when the scheduler answers them, so it must still be there while gRPC waits for
  // them. So it is with calls that load models.
  if (loader_ != nullptr) loader_->Stop();
  if (listener_ != nullptr) listener_->Stop();
  if (grpc_server_ != nullptr) grpc_server_->Shutdown(std::chrono::system_clock::now());
}

bool HeadlightServer::Turns() const {
  const Backlog backlog = scheduler_.GetBacklog();
  return backlog.num_waiting == 0 || backlog.num_running > 0;
}

LoadNow HeadlightServer::Load() const {
  const Backlog backlog = scheduler_.GetBacklog();
  const auto fraction = [](int64_t part, int64_t whole) {
    return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0.0;
  };
  const int64_t held = memory_.held(), models = memory_.Held(MemoryKind::kModel);
  return {
      .cpu_s = ProcessCpuSeconds(),
      .memory_utilization = fraction(held, memory_.limit()),
      .requests_memory_utilization = fraction(held - models, memory_.limit_of_requests()),
      .queue_utilization = fraction(backlog.num_waiting - backlog.num_held_back, options_.queue_max_requests),
      .backlog_s = backlog.seconds()};
}

void HeadlightServer::KeepHouse() {
  requests_.TellLeftOut();
  if (tls_ != nullptr) tls_->LookForChanges();
  if (options_.reply_timeout_s > 0) {
    exchanges_.ledger().EndUnread(clock_.Now() - std::chrono::seconds(options_.reply_timeout_s));
  }
  MeasurePeakOnce();
  // What only a burst needed goes back to the system.
  const bool freed = pool_.Trim() + executor_.Trim() + long_executor_.Trim() > 0;
  const int64_t resident_bytes = ResidentBytes();
  if (!freed && !heap_trim_.IsDue(resident_bytes, clock_.Now())) return;
  malloc_trim(0);
  heap_trim_.Trimmed(resident_bytes, ResidentBytes(), clock_.Now());
}

void HeadlightServer::TellVerdict(const std::string& model, const absl::Status& verdict) {
  lifecycle_->SetRight(absl::StrCat("models/", model), verdict.ok());
  admin_.SetVerdict(model, verdict);
  if (verdict.ok()) return spdlog::info("model {}: computes as it should again", Quoted(model));
  spdlog::error("{}", std::string(verdict.message()));
}

void HeadlightServer::MeasurePeakOnce() {
  if (peak_measured_ || !admin_.IsServing() || scheduler_.num_unfinished() > 0) return;
  peak_measured_ = true;
  const absl::StatusOr<double> peak = MeasureGemmPeak(arena_);
  if (peak.ok()) {
    metrics_.SetGemmPeak(*peak);
    spdlog::info("peak of f32 products: {:.1f} GFLOP/s", *peak / 1e9);
  } else {
    spdlog::warn("the peak of f32 products is unknown: {}", std::string(peak.status().message()));
  }
}

absl::Status HeadlightServer::Listen() {
  HEADLIGHT_ASSIGN_OR_RETURN(ListenSockets sockets, OpenListenSockets(options_.listen));
  port_ = sockets.port;
  grpc::ServerBuilder builder;
  SetTransport(TransportOptionsOf(options_, memory_), builder);
  std::shared_ptr<grpc::ServerCredentials> credentials = tls_;
  if (credentials == nullptr) credentials = grpc::InsecureServerCredentials();
  const std::shared_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor =
      builder.experimental().AddExternalConnectionAcceptor(
          grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD, credentials);
  builder.RegisterService(&load_service_);
  builder.RegisterService(&health_service_);
  for (const auto& service : reflection_) builder.RegisterService(service.get());
  builder.RegisterCallbackGenericService(&exchanges_);
  grpc_server_ = builder.BuildAndStart();
  if (grpc_server_ == nullptr) {
    return absl::UnavailableError("gRPC does not start; its log says why");
  }
  listener_ = std::make_unique<Listener>(std::move(sockets), connections_, [acceptor](int fd) {
    grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
    connection.fd = fd;
    acceptor->HandleNewConnection(&connection);
  });
  lifecycle_ =
      std::make_unique<Lifecycle>(*grpc_server_, health_, exchanges_.ledger(), *listener_, connections_,
                                  std::vector<std::string>{AttendFace::kService, OipFace::kService});
  HEADLIGHT_RETURN_IF_ERROR(listener_->Start());
  flood_guard_ = std::make_unique<FloodGuard>(connections_, clock_, options_.max_streams);
  spdlog::info("port open on {}, not serving yet", WithPort(options_.listen, port_));
  return absl::OkStatus();
}

absl::Status HeadlightServer::LoadModels(bool registry_given) {
  if (!registry_given) HEADLIGHT_RETURN_IF_ERROR(AddBuiltInModels(options_, memory_, *registry_));
  for (const auto& model : registry_->List()) {
    HEADLIGHT_RETURN_IF_ERROR(canaries_.Begin(model));
    LogModel(*model);
    lifecycle_->SetHealth(absl::StrCat("models/", model->name), true);
    loads_.ModelServes(model->name, model->version, model->model.packed_bytes());
  }
  if (loader_ != nullptr) HEADLIGHT_RETURN_IF_ERROR(loader_->LoadAll());
  scheduler_.WaitUntilIdle();  // what is unfinished from here on is callers'
  return absl::OkStatus();
}

void HeadlightServer::ServeModels() {
  if (loader_ != nullptr) {
    loader_->Start(
        [this](const std::string& service, bool serving) { lifecycle_->SetHealth(service, serving); });
  }
  std::set<std::string> kernels;
  for (const auto& model : registry_->List()) kernels.insert(model->model.attention().kernel_name());
  lifecycle_->Serve();
  if (options_.canary_period_s > 0) {
    look_again_ = std::make_unique<Periodic>(std::chrono::seconds(options_.canary_period_s),
                                             [this] { canaries_.Look(); });
  }
  admin_.SetPhase(ServerPhase::kServing);
  spdlog::info("compute_threads={} kernel={} isa={}", arena_.num_threads(), absl::StrJoin(kernels, ","),
               AttentionLayer::IsaName());
  spdlog::info("listening on {}", WithPort(options_.listen, port_));
}

absl::Status HeadlightServer::Shutdown() {
  admin_.SetPhase(ServerPhase::kDraining);
  const std::chrono::seconds grace(options_.shutdown_grace_s);
  // Beside the drain, which waits for calls that load models; those of a loader that hangs are answered when
  // the grace is over.
  std::future<bool> loader_ended;
  if (loader_ != nullptr) {
    loader_ended = std::async(std::launch::async, [this, grace] { return loader_->Stop(grace); });
  }
  const absl::Status drained =
      lifecycle_->Drain({.lame_duck = std::chrono::seconds(options_.lame_duck_s), .grace = grace});
  if (loader_ended.valid() && !loader_ended.get()) (void)loader_.release();  // see ModelLoader::Stop
  if (spans_ != nullptr) spans_->Finish(kSpanPatience);
  return drained;
}

}  // namespace headlight
