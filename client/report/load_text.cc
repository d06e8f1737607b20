// SPDX-License-Identifier: Apache-2.0
//
// A load test's report as text and as CSV, made from its JSON.
#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/report/load_report.h"
#include "client/report/text.h"

namespace headlight::client {
namespace {

using Json = nlohmann::ordered_json;
using Rows = std::vector<std::vector<std::string>>;

std::string Number(const Json& json, const char* format_name) {
  if (json.is_null()) return "-";
  const double value = json.get<double>();
  return std::string(format_name) == "ms" ? absl::StrFormat("%.3f", value) : absl::StrFormat("%.1f", value);
}

std::string ClosedLoopName(int concurrency) { return absl::StrCat(concurrency, " in flight"); }
std::string OpenLoopName(double rate) { return absl::StrFormat("%g requests/s", rate); }

std::string PercentName(const NamedPercentile& percentile) {
  return absl::StrFormat("p%g", percentile.percent);
}

std::string Interval(const Json& bounds) {
  return absl::StrCat("[", Number(bounds[0], "ms"), ", ", Number(bounds[1], "ms"), "]");
}

std::string InputText(const Json& request) {
  std::string text = request["input"].get<std::string>();
  if (request.contains("shape")) {
    absl::StrAppend(&text, " ", ToString(request["shape"].get<Shape>()));
  }
  if (request.contains("seq_lens")) {
    absl::StrAppend(&text, " of lengths ", request["seq_lens"].get<std::string>());
  }
  return absl::StrCat(text, ", ", absl::StrFormat("%.4g", request["mean_tokens"].get<double>()), " tokens, ",
                      FormatBytes(std::llround(request["mean_bytes"].get<double>())));
}

// Percentiles down, both points of view across.
Rows LatencyRows(const Json& run) {
  const Json& intended = run["latency_ms"]["intended"];
  const Json& actual = run["latency_ms"]["actual"];
  Rows rows = {{"latency, ms", "since it was due", "95 % confidence", "since it was sent"}};
  for (const NamedPercentile& percentile : kLoadPercentiles) {
    rows.push_back({absl::StrCat("  ", PercentName(percentile)), Number(intended[percentile.name], "ms"),
                    Interval(intended["ci95"][percentile.name]), Number(actual[percentile.name], "ms")});
  }
  for (const char* name : {"max", "mean"}) {
    rows.push_back({absl::StrCat("  ", name), Number(intended[name], "ms"), "", Number(actual[name], "ms")});
  }
  return rows;
}

void AddFailures(const Json& run, Rows& rows) {
  rows.push_back({"refused", absl::StrCat(run["refused"].get<int64_t>())});
  for (const auto& [code, refusals] : run["refusals"].items()) {
    rows.push_back({"", absl::StrCat(refusals["count"].get<int64_t>(), " ", code, ": ",
                                     refusals["example"].get<std::string>())});
  }
  const auto add = [&](const char* key, const char* what) {
    const int64_t count = run[key].get<int64_t>();
    if (count > 0) rows.push_back({key, absl::StrCat(count, " ", what)});
  };
  add("cancelled", "cancelled by the tester, as asked for");
  add("unfinished", "in flight at the end, not counted");
  add("unsent", "not sent: no room among those in flight until their deadline");
  const Json& warning = run["client"]["warning"];
  if (!warning.is_null()) rows.push_back({"warning", warning.get<std::string>()});
}

std::string RunText(const Json& run) {
  Rows rows = {
      {"measured", absl::StrFormat("%s for %.1f s", RunName(run), run["measured_s"].get<double>())},
      {"replies", absl::StrFormat("%d, %.1f requests/s, %.1f in their deadline, %.1f tokens/s",
                                  run["replies"].get<int64_t>(), run["requests_per_s"].get<double>(),
                                  run["goodput_per_s"].get<double>(), run["tokens_per_s"].get<double>())}};
  AddFailures(run, rows);
  if (run["replies"].get<int64_t>() == 0) return FormatTable(rows);
  const Json& mean = run["server_mean"];
  const Json& share = run["server_share"];
  rows.push_back(
      {"server", absl::StrFormat("queue %.0f us, compute %.0f us, total %.0f us, %.1f requests a batch",
                                 mean["queue_us"].get<double>(), mean["compute_us"].get<double>(),
                                 mean["total_us"].get<double>(), mean["batch_requests"].get<double>())});
  rows.push_back(
      {"share", absl::StrFormat("queue %.1f %%, compute %.1f %%, other %.1f %% of the mean latency",
                                100 * share["queue"].get<double>(), 100 * share["compute"].get<double>(),
                                100 * share["other"].get<double>())});
  rows.push_back({"bytes", absl::StrCat("sent ", FormatBytes(run["sent_bytes"].get<int64_t>()), ", received ",
                                        FormatBytes(run["received_bytes"].get<int64_t>()))});
  rows.push_back({"tester", absl::StrFormat(
                                "%.2f CPUs on %d threads, 99 %% sent within %.3f ms of their time",
                                run["client"]["cpu_cores"].get<double>(), run["client"]["threads"].get<int>(),
                                run["client"]["late_ms"]["p99"].get<double>())});
  return absl::StrCat(FormatTable(rows), FormatTable(LatencyRows(run)));
}

// One line a run.
std::string SweepText(const Json& runs) {
  Rows rows = {{"load", "requests/s", "in deadline/s", "refused", "unsent", "p50 ms", "p90 ms", "p99 ms",
                "p99.9 ms", "max ms"}};
  for (const Json& run : runs) {
    const Json& latency = run["latency_ms"]["intended"];
    rows.push_back({RunName(run), Number(run["requests_per_s"], ""), Number(run["goodput_per_s"], ""),
                    absl::StrCat(run["refused"].get<int64_t>()), absl::StrCat(run["unsent"].get<int64_t>()),
                    Number(latency["p50"], "ms"), Number(latency["p90"], "ms"), Number(latency["p99"], "ms"),
                    Number(latency["p99_9"], "ms"), Number(latency["max"], "ms")});
  }
  std::string text = FormatTable(rows);
  Rows notes;
  for (const Json& run : runs) {
    Rows failures;
    AddFailures(run, failures);
    if (failures.size() == 1 && run["refused"] == 0) continue;
    notes.push_back({absl::StrCat("at ", RunName(run))});
    for (const auto& row : failures) notes.push_back({absl::StrCat("  ", row[0]), row[1]});
  }
  return absl::StrCat(text, notes.empty() ? "" : "\n", FormatTable(notes));
}

std::string SearchText(const Json& search) {
  const std::string goal =
      absl::StrFormat("%s of %g", search["goal"].get<std::string>(), search["limit_ms"].get<double>());
  if (search["best_rate"].is_null()) return absl::StrCat("search  no rate that was tried meets ", goal, "\n");
  return absl::StrFormat("search  %.4g requests/s is the highest rate found to meet %s\n",
                         search["best_rate"].get<double>(), goal);
}

std::string CsvField(const Json& value) {
  if (value.is_null()) return "";
  if (!value.is_string()) return value.dump();
  std::string quoted = "\"";
  for (char c : Printable(value.get<std::string>())) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + "\"";
}

}  // namespace

std::string RunName(int concurrency, double rate) {
  return concurrency > 0 ? ClosedLoopName(concurrency) : OpenLoopName(rate);
}

std::string RunName(const Json& run) {
  return run.value("loop", Json()) == "closed" ? ClosedLoopName(run.value("concurrency", 0))
                                               : OpenLoopName(run.value("rate", 0.0));
}

std::string LoadReportText(const Json& report) {
  Rows rows = {
      {"target",
       absl::StrCat(report["server"].get<std::string>(), ", model ", report["model"].get<std::string>(),
                    ", version ", report["model_version"].get<std::string>())},
      {"load", absl::StrCat("each ", InputText(report["request"]), "; ", report["connections"].get<int>(),
                            " connections",
                            report["arrivals"].is_null()
                                ? ""
                                : absl::StrCat(", ", report["arrivals"].get<std::string>(), " arrivals"))},
      {"warm-up", absl::StrFormat("%.1f s%s", report["warmup_s"].get<double>(),
                                  report["interrupted"].get<bool>() ? "; interrupted" : "")}};
  const Json& runs = report["runs"];
  std::string text = FormatTable(rows);
  if (runs.size() == 1) {
    absl::StrAppend(&text, RunText(runs[0]));
  } else if (!runs.empty()) {
    absl::StrAppend(&text, "\n", SweepText(runs));
  }
  if (!report["search"].is_null()) absl::StrAppend(&text, "\n", SearchText(report["search"]));
  return text;
}

std::string LoadReportCsv(const Json& report) {
  std::vector<std::string> header = {"model", "arrivals"};
  std::string lines;
  for (const Json& run : report["runs"]) {
    std::vector<std::string> row = {CsvField(report["model"]), CsvField(report["arrivals"])};
    header.resize(2);
    const auto add = [&](const std::string& name, const Json& value) {
      header.push_back(name);
      row.push_back(CsvField(value));
    };
    for (const char* key :
         {"loop", "concurrency", "rate", "measured_s", "sent", "replies", "requests_per_s", "goodput_per_s",
          "tokens_per_s", "sent_bytes", "received_bytes", "refused", "cancelled", "unfinished", "unsent"}) {
      add(key, run[key]);
    }
    for (const char* view : {"intended", "actual"}) {
      const Json& latency = run["latency_ms"][view];
      add(absl::StrCat(view, "_mean_ms"), latency["mean"]);
      for (const NamedPercentile& percentile : kLoadPercentiles) {
        add(absl::StrCat(view, "_", percentile.name, "_ms"), latency[percentile.name]);
      }
      add(absl::StrCat(view, "_max_ms"), latency["max"]);
    }
    for (const auto& [key, value] : run["server_mean"].items()) add(absl::StrCat("server_", key), value);
    add("cpu_cores", run["client"]["cpu_cores"]);
    add("late_p99_ms", run["client"]["late_ms"]["p99"]);
    add("warning", run["client"]["warning"]);
    add("goodput_tokens_per_s", run["goodput_tokens_per_s"]);
    for (size_t i = 0; i < row.size(); ++i) absl::StrAppend(&lines, i > 0 ? "," : "", row[i]);
    lines += "\n";
  }
  std::string text;
  for (size_t i = 0; i < header.size(); ++i) absl::StrAppend(&text, i > 0 ? "," : "", header[i]);
  return absl::StrCat(text, "\n", lines);
}

}  // namespace headlight::client
