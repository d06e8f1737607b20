// SPDX-License-Identifier: Apache-2.0
#include "client/report/load_compare.h"

#include <fstream>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/report/load_report.h"
#include "client/report/text.h"

namespace headlight::client {
namespace {

using ReportJson = nlohmann::ordered_json;
using Pointer = ReportJson::json_pointer;

struct Quantity {
  const char* name;
  const char* path;  // within a run
};
constexpr Quantity kQuantities[] = {
    {"requests/s", "/requests_per_s"},
    {"in deadline/s", "/goodput_per_s"},
    {"tokens/s", "/tokens_per_s"},
    {"refused", "/refused"},
    {"p50 ms", "/latency_ms/intended/p50"},
    {"p90 ms", "/latency_ms/intended/p90"},
    {"p99 ms", "/latency_ms/intended/p99"},
    {"p99.9 ms", "/latency_ms/intended/p99_9"},
    {"max ms", "/latency_ms/intended/max"},
    {"queue us", "/server_mean/queue_us"},
    {"compute us", "/server_mean/compute_us"},
    {"tester CPUs", "/client/cpu_cores"},
};

const ReportJson* FindRun(const ReportJson& report, const std::string& key) {
  for (const ReportJson& run : report["runs"]) {
    if (RunName(run) == key) return &run;
  }
  return nullptr;
}

std::vector<std::string> QuantityRow(const Quantity& quantity, const ReportJson& first,
                                     const ReportJson& second) {
  const auto value = [&](const ReportJson& run) {
    const ReportJson found = run.value(Pointer(quantity.path), ReportJson());
    return found.is_number() ? found.get<double>() : 0.0;
  };
  const double from = value(first), to = value(second);
  return {absl::StrCat("  ", quantity.name), absl::StrFormat("%.6g", from), absl::StrFormat("%.6g", to),
          from > 0 ? absl::StrFormat("%.3f", to / from) : "-"};
}

}  // namespace

absl::StatusOr<ReportJson> ReadLoadReport(const std::string& path) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat(path, ": cannot be read"));
  ReportJson report = ReportJson::parse(file, nullptr, /*allow_exceptions=*/false);
  const std::string schema = report.is_object() && report.contains("schema") && report["schema"].is_string()
                                 ? report["schema"].get<std::string>()
                                 : "";
  const bool has_runs = report.is_object() && report.contains("runs") && report["runs"].is_array();
  if (schema != kLoadtestSchema || !has_runs) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": got ", schema.empty() ? "no schema" : schema,
                                                   ", wanted a report of ", kLoadtestSchema, " with runs"));
  }
  for (const ReportJson& run : report["runs"]) {
    const bool is_closed = run.is_object() && run.value("loop", ReportJson()) == "closed";
    if (run.is_object() && run.value(is_closed ? "concurrency" : "rate", ReportJson()).is_number()) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": runs: got one without concurrency or rate, wanted either"));
  }
  return report;
}

std::string CompareLoadReports(const ReportJson& first, const ReportJson& second) {
  std::vector<std::vector<std::string>> rows = {{"", "first", "second", "second / first"}};
  std::string notes;
  for (const ReportJson& run : first["runs"]) {
    const std::string key = RunName(run);
    const ReportJson* const other = FindRun(second, key);
    if (other == nullptr) {
      absl::StrAppend(&notes, "only in the first: ", key, "\n");
      continue;
    }
    rows.push_back({key});
    for (const Quantity& quantity : kQuantities) rows.push_back(QuantityRow(quantity, run, *other));
  }
  for (const ReportJson& run : second["runs"]) {
    const std::string key = RunName(run);
    if (FindRun(first, key) == nullptr) absl::StrAppend(&notes, "only in the second: ", key, "\n");
  }
  for (const char* what : {"model", "precision", "request", "arrivals", "connections", "timeouts_ms"}) {
    const ReportJson one = first.value(what, ReportJson()), two = second.value(what, ReportJson());
    if (one != two) absl::StrAppend(&notes, "differs: ", what, " ", one.dump(), " and ", two.dump(), "\n");
  }
  const auto best_rate = [](const ReportJson& report) {
    const ReportJson rate = report.value(Pointer("/search/best_rate"), ReportJson());
    return rate.is_number() ? rate.get<double>() : 0.0;
  };
  const double one = best_rate(first);
  const double two = best_rate(second);
  if (one > 0 && two > 0) {
    rows.push_back({"best rate", absl::StrFormat("%.6g", one), absl::StrFormat("%.6g", two),
                    absl::StrFormat("%.3f", two / one)});
  }
  return absl::StrCat(FormatTable(rows), notes);
}

}  // namespace headlight::client
