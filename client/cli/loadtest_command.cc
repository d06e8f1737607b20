// SPDX-License-Identifier: Apache-2.0
//
// `headlight loadtest`: how many requests a second the server answers, and how long each takes.
#include <algorithm>
#include <atomic>
#include <ctime>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"
#include "client/cli/interrupt.h"
#include "client/cli/load_flags.h"
#include "client/cli/load_requests.h"
#include "client/cli/progress.h"
#include "client/cli/write_file.h"
#include "client/load/load_run.h"
#include "client/load/rate_search.h"
#include "client/report/load_compare.h"
#include "client/report/load_report.h"
#include "client/report/load_report_html.h"
#include "client/report/text.h"

namespace headlight::client {
namespace {

// Beside those of commands.h: there were replies, and failures that load alone does not explain.
constexpr int kExitSomeFailed = 3;

std::string NowUtc() {
  const std::time_t now = std::time(nullptr);
  std::tm utc = {};
  gmtime_r(&now, &utc);
  char text[32];
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

LoadDescription Describe(const LoadtestFlags& flags, const v1::Model& model, const RequestPool& pool) {
  return {
      .server = flags.server.server,
      .model = model.name(),
      .model_version = model.version(),
      .precision = model.precision(),
      .started_at = NowUtc(),
      .input = pool.input,
      .shape = pool.shape,
      .seq_lens = flags.lengths.text,
      .mean_tokens = pool.mean_tokens,
      .mean_bytes = pool.mean_bytes,
      .dtype = DTypeName(flags.request.dtype),
      .weights = WeightsModeName(flags.request.weights),
      .connections = flags.num_channels(),
      .arrivals = !flags.is_open_loop()                  ? ""
                  : flags.arrivals == Arrivals::kPoisson ? "poisson"
                                                         : "constant",
      .rate_steps = flags.rate_steps,
      .timeouts = flags.timeouts,
      .cancel_ratio = flags.cancel_ratio,
      .warmup = flags.warmup,
      .seed = flags.request.seed,
  };
}

// Runs what the flags ask for, until done or interrupted.
class Loadtest {
 public:
  Loadtest(const LoadtestFlags& flags, LoadPlan plan, const std::atomic<bool>& stop, ProgressLine& progress)
      : flags_(flags), plan_(std::move(plan)), stop_(stop), progress_(progress) {}

  void Run() {
    if (flags_.search.limit_ms > 0) return Search();
    for (int concurrency : flags_.concurrencies) RunOne(concurrency, 0);
    for (double rate : flags_.rates) RunOne(0, rate);
  }

  const std::vector<LoadRun>& runs() const { return runs_; }
  const std::optional<LoadSearch>& search() const { return search_; }

 private:
  // False if interrupted, before or meanwhile.
  bool RunOne(int concurrency, double rate) {
    if (stop_) return false;
    plan_.concurrency = concurrency;
    plan_.rate = rate;
    const std::string what = RunName(concurrency, rate);
    LoadRun run{.concurrency = concurrency, .rate = rate};
    run.result = RunLoad(plan_, stop_, [&](const LoadProgress& now) { progress_.Show(what, now); });
    runs_.push_back(std::move(run));
    return !stop_;
  }

  void Search() {
    SearchLimits limits;
    if (!flags_.rates.empty()) limits.first_rate = flags_.rates.front();
    search_ = LoadSearch{.goal = flags_.search};
    search_->result = SearchRate(limits, [&](double rate) -> std::optional<SearchStep> {
      if (!RunOne(0, rate)) return std::nullopt;
      const std::optional<double> value_ms = GoalValueMs(flags_.search, runs_.back().result);
      return SearchStep{
          .rate = rate, .value_ms = value_ms, .met = value_ms && *value_ms <= flags_.search.limit_ms};
    });
  }

  const LoadtestFlags& flags_;
  LoadPlan plan_;
  const std::atomic<bool>& stop_;
  ProgressLine& progress_;
  std::vector<LoadRun> runs_;
  std::optional<LoadSearch> search_;
};

absl::Status WriteReports(const LoadtestFlags& flags, const nlohmann::ordered_json& report,
                          std::ostream& out) {
  if (flags.json_path != "-" && flags.csv_path != "-" && flags.html_path != "-") {
    out << LoadReportText(report) << std::flush;
  }
  absl::Status status;
  const auto write = [&](const std::string& path, const auto& make) {
    if (status.ok() && !path.empty()) status = WriteFile(path, make(report), out);
  };
  write(flags.json_path, FormatJson);
  write(flags.csv_path, LoadReportCsv);
  write(flags.html_path, LoadReportHtml);
  return status;
}

// What the server refuses under load is a result. Anything else that failed is told apart by the exit code.
int ExitCodeOf(const std::vector<LoadRun>& runs) {
  int64_t replies = 0, failed = 0;
  for (const LoadRun& run : runs) {
    replies += run.result.replies();
    for (const auto& [code, refusals] : run.result.refusals) {
      const bool is_load =
          code == absl::StatusCode::kResourceExhausted || code == absl::StatusCode::kDeadlineExceeded;
      if (!is_load) failed += refusals.count;
    }
  }
  return replies == 0 ? kExitFailed : failed > 0 ? kExitSomeFailed : kExitOk;
}

int RunCompare(const LoadtestFlags& flags, const Streams& streams) {
  const auto first = ReadLoadReport(flags.compare[0]);
  if (!first.ok()) return Fail(streams, kExitUsage, first.status());
  const auto second = ReadLoadReport(flags.compare[1]);
  if (!second.ok()) return Fail(streams, kExitUsage, second.status());
  streams.out << CompareLoadReports(*first, *second) << std::flush;
  return kExitOk;
}

int RunLoadtest(LoadtestFlags flags, const Streams& streams) {
  if (!flags.compare.empty()) return RunCompare(flags, streams);
  if (absl::Status status = CompleteLoadtestFlags(flags); !status.ok()) {
    return Fail(streams, kExitUsage, status);
  }
  // All but the first channel connect on their first request, which warm-up leaves out.
  const absl::StatusOr<Client> client = flags.server.Connect(flags.num_channels());
  if (!client.ok()) return Fail(streams, kExitUsage, client.status());
  const auto model =
      client->GetModel(flags.request.model, flags.request.model_version, flags.server.timeout());
  if (!model.ok()) return Fail(streams, kExitFailed, model.status());
  absl::StatusOr<RequestPool> pool = MakePool(flags, *model);
  if (!pool.ok()) return Fail(streams, kExitUsage, pool.status());

  LoadDescription description = Describe(flags, *model, *pool);
  LoadPlan plan{
      .channels = client->channels(),
      .pool = std::move(pool->requests),
      .mix = {.timeouts = flags.timeouts,
              .cancel_ratio = flags.cancel_ratio,
              .cancel_within = flags.cancel_within,
              .seed = flags.request.seed},
      .rate_steps = flags.rate_steps,
      .arrivals = flags.arrivals,
      .max_in_flight = flags.max_in_flight,
      .warmup = flags.warmup,
      .duration = flags.duration,
      .count = flags.count,
      .timeline_width = flags.timeline_width,
  };
  const InterruptGuard guard;
  ProgressLine progress(streams);
  Loadtest loadtest(flags, std::move(plan), guard.interrupted(), progress);
  loadtest.Run();
  progress.Erase();
  description.interrupted = guard.interrupted();
  const auto report = LoadReportJson(description, loadtest.runs(), loadtest.search());
  const absl::Status written = WriteReports(flags, report, streams.out);
  if (!written.ok()) return Fail(streams, kExitFailed, written);
  return ExitCodeOf(loadtest.runs());
}

constexpr char kLoadtestFooter[] =
    "A closed loop (--concurrency) finds the highest throughput; an open loop (--rate) what users see at a "
    "given one.\n"
    "Latency counts from the time that a request was due, and from when it was sent. Errors are counted by "
    "code and\n"
    "never end the run; Ctrl-C ends it with what was gathered.\n"
    "Ends with 0 if the server answered, or refused for load alone (RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED); "
    "1 if no\n"
    "request succeeded; 3 if some succeeded and others failed with another code, as when a server is "
    "restarted.\n"
    "The JSON schema is headlight-loadtest/1, in docs/load-testing.md: schema, server, model, request.{...}, "
    "runs[].{loop,\n"
    "concurrency, rate, requests_per_s, goodput_per_s, refusals, latency_ms.{intended, actual}, timeline, "
    "client, ...}, search.\n"
    "Examples: headlight loadtest --shape 4x128 --concurrency 1,2,4,8 --duration 10s --json report.json\n"
    "          headlight loadtest --seq-lens uniform:1-128 --rate 100,200,400 --html report.html\n"
    "          headlight loadtest --shape 1x128 --search p99_ms=50 --duration 5s\n"
    "          headlight loadtest --shape 1x128 --rate 100 --rate-step 5s=300 --timeline 100ms --json "
    "step.json";

}  // namespace

void AddLoadtestCommand(CLI::App& app, Command& chosen) {
  auto flags = std::make_shared<LoadtestFlags>();  // shared with the parser, which fills it, and the command
  CLI::App* command =
      app.add_subcommand("loadtest", "Keep the server busy for a while and report how it did");
  AddLoadtestFlags(*command, *flags);
  command->footer(kLoadtestFooter);
  command->callback([flags, &chosen] {
    chosen = [flags](const Streams& streams) { return RunLoadtest(*flags, streams); };
  });
}

}  // namespace headlight::client
