// SPDX-License-Identifier: Apache-2.0
#include "client/cli/load_report.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/text.h"

namespace headlight::client {
namespace {

using Json = nlohmann::ordered_json;
using std::chrono::nanoseconds;

double Seconds(nanoseconds duration) { return static_cast<double>(duration.count()) / 1e9; }
double Ms(nanoseconds duration) { return static_cast<double>(duration.count()) / 1e6; }

double Ratio(double numerator, double denominator) { return denominator > 0 ? numerator / denominator : 0; }

// What follows from the counts.
struct Derived {
  double requests_per_s;
  double tokens_per_s;
  double queue_us, compute_us, server_us, batch_requests;  // means
  double queue_share, compute_share, other_share;          // of the mean latency

  Derived(const LoadDescription& load, const LoadResult& result) {
    const auto replies = static_cast<double>(result.replies());
    const double latency_us = Ms(result.latency.mean()) * 1e3;
    requests_per_s = Ratio(replies, Seconds(result.measured));
    tokens_per_s = requests_per_s * static_cast<double>(load.tokens_per_request);
    queue_us = Ratio(static_cast<double>(result.queue_us), replies);
    compute_us = Ratio(static_cast<double>(result.compute_us), replies);
    server_us = Ratio(static_cast<double>(result.server_us), replies);
    batch_requests = Ratio(static_cast<double>(result.batch_requests), replies);
    queue_share = Ratio(queue_us, latency_us);
    compute_share = Ratio(compute_us, latency_us);
    other_share = replies > 0 ? std::max(0.0, 1 - queue_share - compute_share) : 0;
  }
};

}  // namespace

Json LoadReportJson(const LoadDescription& load, const LoadResult& result) {
  const Derived derived(load, result);
  Json refusals = Json::object();
  for (const auto& [code, of_code] : result.refusals) {
    refusals[absl::StatusCodeToString(code)] = {{"count", of_code.count}, {"example", of_code.example}};
  }
  return {
      {"server", load.server},
      {"model", load.model},
      {"model_version", load.model_version},
      {"loop", "closed"},
      {"concurrency", load.concurrency},
      {"connections", load.connections},
      {"warmup_s", Seconds(load.warmup)},
      {"duration_s", Seconds(load.duration)},
      {"timeout_ms", load.timeout.count()},
      {"request",
       {{absl::StrCat(load.input, "_shape"), load.input_shape},
        {"tokens", load.tokens_per_request},
        {"bytes", load.request_bytes}}},
      {"measured_s", Seconds(result.measured)},
      {"interrupted", load.interrupted},
      {"replies", result.replies()},
      {"requests_per_s", derived.requests_per_s},
      {"tokens_per_s", derived.tokens_per_s},
      {"sent_bytes", result.replies() * load.request_bytes},
      {"received_bytes", result.reply_bytes},
      {"refused", result.refused()},
      {"refusals", refusals},
      {"unfinished", result.unfinished},
      {"latency_ms",
       {{"mean", Ms(result.latency.mean())},
        {"p50", Ms(result.latency.Percentile(50))},
        {"p95", Ms(result.latency.Percentile(95))},
        {"p99", Ms(result.latency.Percentile(99))},
        {"max", Ms(result.latency.max())}}},
      {"server_mean",
       {{"queue_us", derived.queue_us},
        {"compute_us", derived.compute_us},
        {"total_us", derived.server_us},
        {"batch_requests", derived.batch_requests}}},
      {"server_share",
       {{"queue", derived.queue_share}, {"compute", derived.compute_share}, {"other", derived.other_share}}},
  };
}

std::string LoadReportText(const LoadDescription& load, const LoadResult& result) {
  const Derived derived(load, result);
  std::vector<std::vector<std::string>> rows = {
      {"target", absl::StrCat(load.server, ", model ", load.model, ", version ", load.model_version)},
      {"load", absl::StrCat(load.concurrency, " in flight over ", load.connections, " connections; each ",
                            load.input, " ", ToString(load.input_shape), ", ", load.tokens_per_request,
                            " tokens, ", FormatBytes(load.request_bytes))},
      {"measured", absl::StrCat(FormatSeconds(result.measured), " after ", FormatSeconds(load.warmup),
                                " of warm-up", load.interrupted ? ", interrupted" : "")},
      {"replies", absl::StrFormat("%d, %.1f requests/s, %.1f tokens/s", result.replies(),
                                  derived.requests_per_s, derived.tokens_per_s)},
      {"refused", absl::StrCat(result.refused())},
  };
  for (const auto& [code, of_code] : result.refusals) {
    rows.push_back(
        {"", absl::StrCat(of_code.count, " ", absl::StatusCodeToString(code), ": ", of_code.example)});
  }
  if (result.unfinished > 0) {
    rows.push_back({"unfinished", absl::StrCat(result.unfinished, " in flight at the end, not counted")});
  }
  if (result.replies() > 0) {
    rows.push_back({"latency", absl::StrCat("p50 ", FormatMs(result.latency.Percentile(50)), ", p95 ",
                                            FormatMs(result.latency.Percentile(95)), ", p99 ",
                                            FormatMs(result.latency.Percentile(99)), ", max ",
                                            FormatMs(result.latency.max()), ", mean ",
                                            FormatMs(result.latency.mean()))});
    rows.push_back(
        {"share",
         absl::StrFormat("queue %.1f %%, compute %.1f %%, other %.1f %% of the mean latency",
                         100 * derived.queue_share, 100 * derived.compute_share, 100 * derived.other_share)});
    rows.push_back(
        {"server",
         absl::StrFormat("queue %.0f us, compute %.0f us, total %.0f us, %.1f requests a batch",
                         derived.queue_us, derived.compute_us, derived.server_us, derived.batch_requests)});
    rows.push_back({"bytes", absl::StrCat("sent ", FormatBytes(result.replies() * load.request_bytes),
                                          ", received ", FormatBytes(result.reply_bytes))});
  }
  return FormatTable(rows);
}

}  // namespace headlight::client
