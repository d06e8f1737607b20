// SPDX-License-Identifier: Apache-2.0
#include "server/program/admin_site.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/attention/layer.h"
#include "core/product/precision.h"
#include "server/program/version.h"
#include "server/rpc/listen_sockets.h"
#include "server/rpc/transport.h"

namespace headlight {
namespace {

using Pairs = std::vector<std::pair<std::string, std::string>>;

constexpr MemoryKind kMemoryKinds[] = {MemoryKind::kMessage, MemoryKind::kQueue,     MemoryKind::kBatch,
                                       MemoryKind::kReply,   MemoryKind::kWorkspace, MemoryKind::kModel};
static_assert(std::size(kMemoryKinds) == kNumMemoryKinds);

double SecondsSince(std::chrono::steady_clock::time_point time) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - time).count();
}

std::string Mebibytes(int64_t bytes) {
  return absl::StrFormat("%.1f MiB", static_cast<double>(bytes) / 1048576.0);
}

std::string OrNone(int64_t value, const char* unit) {
  return value == 0 ? "none" : absl::StrCat(value, " ", unit);
}

Pairs LoadOf(const AdminSources& sources) {
  const Backlog backlog = sources.scheduler.GetBacklog();
  Pairs load = {{"connections", absl::StrCat(sources.connections.counts().open)},
                {"calls open", absl::StrCat(sources.calls.num_calls())},
                {"requests that wait", absl::StrCat(backlog.num_waiting)},
                {"requests that are computed", absl::StrCat(backlog.num_running)},
                {"predicted time of both", absl::StrFormat("%.1f ms", backlog.seconds() * 1e3)}};
  for (const MemoryKind kind : kMemoryKinds) {
    load.emplace_back(absl::StrCat("memory: ", Name(kind)), Mebibytes(sources.memory.Held(kind)));
  }
  return load;
}

Pairs LimitsOf(const AdminSources& sources) {
  const ServerOptions& options = sources.options;
  return {{"memory", Mebibytes(sources.memory.limit())},
          {"memory of requests", Mebibytes(sources.memory.limit_of_requests())},
          {"memory of models", Mebibytes(sources.memory.limit_of_models())},
          {"compute threads", absl::StrCat(sources.compute_threads)},
          {"message", Mebibytes(options.max_message_bytes)},
          {"requests that wait", absl::StrCat(options.queue_max_requests)},
          {"tokens of a batch", absl::StrCat(options.max_batch_tokens)},
          {"predicted time of a batch", absl::StrCat(options.batch_budget_us, " us")},
          {"deadline, by default", OrNone(options.default_deadline_ms, "ms")},
          {"deadline, latest", OrNone(options.max_deadline_ms, "ms")},
          {"time to read a reply", OrNone(options.reply_timeout_s, "s")},
          {"shutdown",
           absl::StrCat("lame duck ", options.lame_duck_s, " s, grace ", options.shutdown_grace_s, " s")}};
}

}  // namespace

AdminSite::AdminSite(const AdminSources& sources, Metrics& metrics) : sources_(sources), metrics_(metrics) {
  WatchAll();
}

absl::Status AdminSite::Listen() {
  const std::string& listen = sources_.options.admin_listen;
  if (listen.empty()) return absl::OkStatus();
  const auto metrics_page = [this] {
    return HttpPage{200, "text/plain; version=0.0.4; charset=utf-8", metrics_.Text()};
  };
  absl::StatusOr<std::unique_ptr<AdminHttp>> http =
      AdminHttp::Listen(listen, {{"/", [this] { return StatusPage(Status()); }},
                                 {"/livez", LivePage},
                                 {"/readyz", [this] { return ReadyPage(Status()); }},
                                 {"/models", [this] { return ModelsPage(Status()); }},
                                 {"/metrics", metrics_page}});
  if (absl::IsUnavailable(http.status()) && !sources_.options.admin_listen_given) {
    spdlog::warn("{}; there is no admin port", std::string(http.status().message()));
    return absl::OkStatus();
  }
  if (!http.ok()) return http.status();
  http_ = *std::move(http);
  spdlog::info("admin port on http://{}/", WithPort(listen, http_->port()));
  return absl::OkStatus();
}

void AdminSite::SetVerdict(const std::string& model, const absl::Status& verdict) {
  const std::lock_guard lock(mutex_);
  if (verdict.ok()) {
    wrong_.erase(model);
  } else {
    wrong_[model] = std::string(verdict.message());
  }
}

ServerStatus AdminSite::Status() const {
  ServerStatus status;
  status.version = kVersion;
  status.phase = phase_.load(std::memory_order_relaxed);
  status.up_s = SecondsSince(start_);
  status.models = Models();
  status.load = LoadOf(sources_);
  status.limits = LimitsOf(sources_);
  status.latencies = metrics_.Latencies();
  status.refusals = metrics_.Refusals();
  status.our_faults = sources_.errors.OurFaults();
  status.refused = sources_.errors.Refusals();
  return status;
}

std::vector<ModelStatus> AdminSite::Models() const {
  using State = ModelStatus::State;
  std::map<std::string, std::string> errors = sources_.registry.LoadErrors();
  const auto failures = sources_.loads.failures();
  for (const auto& [name, failure] : failures) errors[name] = failure.error;  // with paths
  const auto wrong = [this] {
    const std::lock_guard lock(mutex_);
    return wrong_;
  }();
  std::vector<ModelStatus> models;
  for (const auto& loaded : sources_.registry.List()) {
    ModelStatus& model = models.emplace_back();
    model.name = loaded->name;
    model.version = loaded->version;
    model.precision = PrecisionText(loaded->model.attention());
    model.memory_bytes = loaded->model.packed_bytes();
    model.error = errors[model.name];
    errors.erase(model.name);
    if (const auto why = wrong.find(model.name); why != wrong.end()) {
      model.state = State::kWrong;
      model.error = why->second;
    }
  }
  for (const auto& [name, loading] : sources_.loads.loading()) {
    ModelStatus& model = models.emplace_back();
    model.name = name;
    model.version = loading.version;
    model.state = State::kLoading;
    model.loading_s = SecondsSince(loading.since);
    model.error = errors[name];
    errors.erase(name);
  }
  for (const auto& [name, error] : errors) {
    ModelStatus& model = models.emplace_back();
    model.name = name;
    if (const auto failure = failures.find(name); failure != failures.end()) {
      model.version = failure->second.version;
    }
    model.state = State::kFailed;
    model.error = error;
  }
  std::stable_sort(models.begin(), models.end(),
                   [](const ModelStatus& a, const ModelStatus& b) { return a.name < b.name; });
  return models;
}

void AdminSite::WatchAll() {
  using Kind = Metrics::Kind;
  const auto gauge = [this](const char* name, const char* help, std::function<double()> read) {
    metrics_.WatchOne(name, help, Kind::kGauge, std::move(read));
  };
  metrics_.Watch("headlight_build_info", "1, with the version and what it was built and runs with",
                 Kind::kGauge, [] {
                   return Metrics::Values{{{{"version", kVersion},
                                            {"isa", AttentionLayer::IsaName()},
                                            {"compiler", __VERSION__},
                                            {"grpc", grpc::Version()}},
                                           1}};
                 });
  gauge("headlight_ready", "1 while requests can be answered, as /readyz tells", [this] {
    return IsReady({.phase = phase_.load(std::memory_order_relaxed), .models = Models()}) ? 1 : 0;
  });
  gauge("headlight_models_wrong", "Models that compute other bits than when they were loaded", [this] {
    const std::vector<ModelStatus> models = Models();
    std::set<std::string> wrong;  // a model may have several versions
    for (const ModelStatus& model : models) {
      if (model.state == ModelStatus::State::kWrong) wrong.insert(model.name);
    }
    return static_cast<double>(wrong.size());
  });
  gauge("headlight_compute_threads", "Threads that compute", [this] { return sources_.compute_threads; });
  gauge("headlight_open_calls", "Calls of Attend and AttendStream that are open",
        [this] { return static_cast<double>(sources_.calls.num_calls()); });
  gauge("headlight_connections", "Connections that are open",
        [this] { return static_cast<double>(sources_.connections.counts().open); });
  metrics_.WatchOne("headlight_connections_accepted_total", "Connections that were taken", Kind::kCounter,
                    [this] { return static_cast<double>(sources_.connections.counts().accepted); });
  metrics_.Watch("headlight_connections_refused_total",
                 "Connections that were closed at once, and those that were ended for what they did",
                 Kind::kCounter, [this] {
                   const ConnectionCounts counts = sources_.connections.counts();
                   const auto of = [](const char* reason, int64_t count) {
                     return Metrics::Values::value_type{{{"reason", reason}}, static_cast<double>(count)};
                   };
                   return Metrics::Values{
                       of("limit", counts.refused_in_all), of("address_limit", counts.refused_per_address),
                       of("no_descriptor", counts.refused_no_descriptor),
                       of("pause", counts.refused_in_pause), of("abuse", counts.ended_for_abuse)};
                 });
  metrics_.Watch("headlight_backlog_requests", "Requests that wait and that are computed", Kind::kGauge,
                 [this] {
                   const Backlog backlog = sources_.scheduler.GetBacklog();
                   return Metrics::Values{{{{"state", "waiting"}}, static_cast<double>(backlog.num_waiting)},
                                          {{{"state", "running"}}, static_cast<double>(backlog.num_running)}};
                 });
  gauge("headlight_backlog_seconds",
        "Predicted time to compute what waits and what is left of what is computed",
        [this] { return sources_.scheduler.GetBacklog().seconds(); });
  metrics_.Watch(
      "headlight_memory_held_bytes", "Memory that is taken from the budget, by kind", Kind::kGauge, [this] {
        Metrics::Values values;
        for (const MemoryKind kind : kMemoryKinds) {
          values.push_back({{{"kind", Name(kind)}}, static_cast<double>(sources_.memory.Held(kind))});
        }
        return values;
      });
  gauge("headlight_memory_limit_bytes", "The memory budget (--memory-limit)",
        [this] { return static_cast<double>(sources_.memory.limit()); });
  if (sources_.tls != nullptr) {
    gauge("headlight_tls_certificate_expiry_time_seconds",
          "When the certificate that the server shows expires, since 1970",
          [this] { return static_cast<double>(sources_.tls->valid_until_s()); });
  }
  if (sources_.spans != nullptr) WatchSpans();
}

void AdminSite::WatchSpans() {
  metrics_.Watch("headlight_spans_total", "Spans of sampled requests, by what became of them",
                 Metrics::Kind::kCounter, [&spans = *sources_.spans] {
                   const SpanExport::Counts counts = spans.counts();
                   return Metrics::Values{{{{"result", "exported"}}, static_cast<double>(counts.exported)},
                                          {{{"result", "failed"}}, static_cast<double>(counts.failed)},
                                          {{{"result", "dropped"}}, static_cast<double>(counts.dropped)}};
                 });
}

}  // namespace headlight
