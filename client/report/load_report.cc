// SPDX-License-Identifier: Apache-2.0
#include "client/report/load_report.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/load/quantile_ranks.h"

namespace headlight::client {
namespace {

using Json = nlohmann::ordered_json;
using std::chrono::nanoseconds;

double ToSeconds(nanoseconds duration) { return static_cast<double>(duration.count()) / 1e9; }
double ToMs(nanoseconds duration) { return static_cast<double>(duration.count()) / 1e6; }

double Ratio(double numerator, double denominator) { return denominator > 0 ? numerator / denominator : 0; }
double Ratio(int64_t numerator, double denominator) {
  return Ratio(static_cast<double>(numerator), denominator);
}

// Points of a curve that resolves each further nine: 0, 5, ... 90, 91, ... 99, 99.1, ... 99.999 %.
std::vector<double> CurvePercents() {
  std::vector<double> percents;
  for (int percent = 0; percent <= 90; percent += 5) percents.push_back(percent);
  for (int step = 1; step <= 1000; step *= 10) {
    for (int i = 1; i <= 9; ++i) percents.push_back(100 - (10.0 - i) / step);
  }
  return percents;
}

Json LatencyJson(const LatencyHistogram& latency) {
  Json json = {{"mean", ToMs(latency.mean())}};
  for (const NamedPercentile& percentile : kLoadPercentiles) {
    json[percentile.name] = ToMs(latency.Percentile(percentile.percent));
  }
  json["max"] = ToMs(latency.max());
  Json& intervals = json["ci95"] = Json::object();
  for (const NamedPercentile& percentile : kLoadPercentiles) {
    if (latency.count() == 0) break;
    const QuantileRanks ranks = QuantileRanks95(latency.count(), percentile.percent / 100);
    const auto bound = [&](int64_t rank) {
      return rank < 1 || rank > latency.count() ? Json() : Json(ToMs(latency.AtRank(rank)));
    };
    intervals[percentile.name] = Json::array({bound(ranks.low), bound(ranks.high)});
  }
  Json& curve = json["percentiles"] = Json::array();
  if (latency.count() == 0) return json;
  for (double percent : CurvePercents()) {
    curve.push_back(Json::array({percent, ToMs(latency.Percentile(percent))}));
  }
  return json;
}

Json TimelineJson(const Timeline& timeline) {
  Json json = Json::array();
  for (size_t i = 0; i < timeline.bins().size(); ++i) {
    const TimelineBin& bin = timeline.bins()[i];
    json.push_back({{"t_s", ToSeconds(timeline.width()) * static_cast<double>(i)},
                    {"sent", bin.sent},
                    {"replies", bin.replies},
                    {"refused", bin.refused},
                    {"good", bin.good},
                    {"goodput_per_s", Ratio(bin.good, ToSeconds(timeline.width()))},
                    {"goodput_tokens_per_s", Ratio(bin.good_tokens, ToSeconds(timeline.width()))},
                    {"p50_ms", ToMs(bin.latency.Percentile(50))},
                    {"p99_ms", ToMs(bin.latency.Percentile(99))},
                    {"max_ms", ToMs(bin.latency.max())}});
  }
  return json;
}

Json RefusalsJson(const LoadResult& result) {
  const auto latency = [](const LatencyHistogram& of) {
    return Json{{"p50", ToMs(of.Percentile(50))}, {"p99", ToMs(of.Percentile(99))}, {"max", ToMs(of.max())}};
  };
  Json refusals = Json::object();
  for (const auto& [code, of_code] : result.refusals) {
    refusals[absl::StatusCodeToString(code)] = {
        {"count", of_code.count},
        {"example", of_code.example},
        {"latency_ms", {{"intended", latency(of_code.intended)}, {"actual", latency(of_code.actual)}}}};
  }
  return refusals;
}

Json ClientJson(const LoadRun& run) {
  const LoadResult& result = run.result;
  const std::optional<std::string> warning = TesterWarning(run);
  return {{"cpu_cores", result.cpu_cores},
          {"threads", result.threads},
          {"late_ms",
           {{"p50", ToMs(result.late.Percentile(50))},
            {"p99", ToMs(result.late.Percentile(99))},
            {"max", ToMs(result.late.max())}}},
          {"is_bottleneck", warning.has_value()},
          {"warning", warning ? Json(*warning) : Json()}};
}

void AddServerTimes(const LoadResult& result, Json& json) {
  const auto replies = static_cast<double>(result.replies());
  const double latency_us = ToMs(result.actual.mean()) * 1e3;
  const double queue_us = Ratio(result.queue_us, replies);
  const double compute_us = Ratio(result.compute_us, replies);
  const double queue = Ratio(queue_us, latency_us);
  const double compute = Ratio(compute_us, latency_us);
  json["server_mean"] = {{"queue_us", queue_us},
                         {"compute_us", compute_us},
                         {"total_us", Ratio(result.server_us, replies)},
                         {"batch_requests", Ratio(result.batch_requests, replies)}};
  json["server_share"] = {{"queue", queue},
                          {"compute", compute},
                          {"other", replies > 0 ? std::max(0.0, 1 - queue - compute) : 0}};
}

Json RunJson(const LoadRun& run) {
  const LoadResult& result = run.result;
  const double measured_s = ToSeconds(result.measured);
  Json json = {
      {"loop", run.concurrency > 0 ? "closed" : "open"},
      {"concurrency", run.concurrency > 0 ? Json(run.concurrency) : Json()},
      {"rate", run.concurrency > 0 ? Json() : Json(run.rate)},
      {"measured_s", measured_s},
      {"sent", result.sent},
      {"replies", result.replies()},
      {"requests_per_s", Ratio(result.replies_in_window, measured_s)},
      {"goodput_per_s", Ratio(result.good_in_window, measured_s)},
      {"tokens_per_s", Ratio(result.tokens_in_window, measured_s)},
      {"goodput_tokens_per_s", Ratio(result.good_tokens_in_window, measured_s)},
      {"sent_bytes", result.sent_bytes},
      {"received_bytes", result.received_bytes},
      {"refused", result.refused()},
      {"refusals", RefusalsJson(result)},
      {"cancelled", result.cancelled},
      {"unfinished", result.unfinished},
      {"unsent", result.unsent},
      {"latency_ms", {{"intended", LatencyJson(result.intended)}, {"actual", LatencyJson(result.actual)}}},
      {"timeline_bin_s", ToSeconds(result.timeline.width())},
      {"timeline", TimelineJson(result.timeline)},
  };
  AddServerTimes(result, json);
  json["client"] = ClientJson(run);
  return json;
}

Json SearchJson(const LoadSearch& search) {
  Json steps = Json::array();
  for (const SearchStep& step : search.result.steps) {
    steps.push_back({{"rate", step.rate},
                     {"value_ms", step.value_ms ? Json(*step.value_ms) : Json()},
                     {"met", step.met}});
  }
  return {{"goal", absl::StrCat(search.goal.percentile.name, "_ms")},
          {"limit_ms", search.goal.limit_ms},
          {"best_rate", search.result.best_rate ? Json(*search.result.best_rate) : Json()},
          {"steps", steps}};
}

}  // namespace

std::optional<std::string> TesterWarning(const LoadRun& run) {
  constexpr double kBusy = 0.9;  // of what the load threads can use at most
  const LoadResult& result = run.result;
  const int usable = std::min(result.threads, result.cpus);
  if (usable > 0 && result.cpu_cores >= kBusy * usable) {
    return absl::StrFormat("the tester used %.2f CPUs and can use %d: it may be the bottleneck",
                           result.cpu_cores, usable);
  }
  const nanoseconds late = result.late.Percentile(99);
  if (late > std::max<nanoseconds>(std::chrono::milliseconds(1), result.intended.Percentile(50) / 10)) {
    return absl::StrFormat(
        "1 %% of the requests were sent %.1f ms late or later: this machine was too busy, or too many were "
        "in "
        "flight",
        ToMs(late));
  }
  if (result.unsent > 0)
    return absl::StrCat(result.unsent, " requests could not be sent within their timeout");
  return std::nullopt;
}

Json LoadReportJson(const LoadDescription& load, const std::vector<LoadRun>& runs,
                    const std::optional<LoadSearch>& search) {
  Json request = {{"input", load.input}};
  if (!load.shape.empty()) request["shape"] = load.shape;
  if (!load.seq_lens.empty()) request["seq_lens"] = load.seq_lens;
  request["mean_tokens"] = load.mean_tokens;
  request["mean_bytes"] = load.mean_bytes;
  request["dtype"] = load.dtype;
  request["weights"] = load.weights;
  Json rate_steps = Json::array();
  for (const RateStep& step : load.rate_steps) {
    rate_steps.push_back({{"t_s", ToSeconds(step.at)}, {"rate", step.rate}});
  }
  Json timeouts = Json::array();
  for (const auto timeout : load.timeouts) timeouts.push_back(timeout.count());
  Json report = {{"schema", kLoadtestSchema},
                 {"server", load.server},
                 {"model", load.model},
                 {"model_version", load.model_version},
                 {"precision", load.precision},
                 {"started_at", load.started_at},
                 {"interrupted", load.interrupted},
                 {"request", request},
                 {"connections", load.connections},
                 {"arrivals", load.arrivals.empty() ? Json() : Json(load.arrivals)},
                 {"rate_steps", rate_steps},
                 {"timeouts_ms", timeouts},
                 {"cancel_ratio", load.cancel_ratio},
                 {"warmup_s", ToSeconds(load.warmup)},
                 {"seed", load.seed},
                 {"runs", Json::array()},
                 {"search", search ? SearchJson(*search) : Json()}};
  for (const LoadRun& run : runs) report["runs"].push_back(RunJson(run));
  return report;
}

}  // namespace headlight::client
