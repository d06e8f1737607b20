// SPDX-License-Identifier: Apache-2.0
//
// The page at "/": plain HTML without scripts, for a person with a browser or a terminal.
#include <chrono>
#include <ctime>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/models/load_error.h"
#include "server/observe/server_status.h"

namespace headlight {
namespace {

constexpr char kHead[] =
    "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
    "<meta name=\"viewport\" content=\"width=device-width\"><title>headlight</title><style>"
    "body{font:15px/1.5 sans-serif;max-width:70em;margin:2em auto;padding:0 1em;color:#222;background:#fff}"
    "table{border-collapse:collapse;margin-bottom:1.5em}th,td{text-align:left;padding:.2em 1em .2em 0;"
    "border-bottom:1px solid #ddd;vertical-align:top;overflow-wrap:anywhere}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}th,td{border-color:#444}a{color:#"
    "8bf}}"
    "</style></head><body>\n";

// Names and errors hold what callers and file systems put there.
std::string Escaped(const std::string& text) {
  std::string escaped;
  for (const char c : ToValidUtf8(text)) {
    if (c == '<') {
      escaped += "&lt;";
    } else if (c == '>') {
      escaped += "&gt;";
    } else if (c == '&') {
      escaped += "&amp;";
    } else if (c == '"') {
      escaped += "&quot;";
    } else if (c == '\'') {
      escaped += "&#39;";
    } else {
      const bool control = (static_cast<unsigned char>(c) < ' ' && c != '\n') || c == '\x7f';
      escaped += control ? ' ' : c;
    }
  }
  return escaped;
}

using Row = std::vector<std::string>;

void AppendTable(std::string& page, const std::string& title, const Row& head, const std::vector<Row>& rows) {
  absl::StrAppend(&page, "<h2>", title, "</h2>\n");
  if (rows.empty()) {
    page += "<p>none</p>\n";
    return;
  }
  page += "<table><tr>";
  for (const std::string& cell : head) absl::StrAppend(&page, "<th>", cell, "</th>");
  page += "</tr>\n";
  for (const Row& row : rows) {
    page += "<tr>";
    for (const std::string& cell : row) absl::StrAppend(&page, "<td>", Escaped(cell), "</td>");
    page += "</tr>\n";
  }
  page += "</table>\n";
}

std::vector<Row> RowsOf(const std::vector<std::pair<std::string, std::string>>& pairs) {
  std::vector<Row> rows;
  for (const auto& [name, value] : pairs) rows.push_back({name, value});
  return rows;
}

std::string Milliseconds(double seconds) { return absl::StrFormat("%.2f ms", seconds * 1e3); }

std::string TimeOf(const RecentError& error) {
  const std::time_t time = std::chrono::system_clock::to_time_t(error.time);
  std::tm utc = {};
  char text[32] = "";
  if (gmtime_r(&time, &utc) != nullptr) std::strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%SZ", &utc);
  return text;
}

std::vector<Row> RowsOf(const std::vector<RecentError>& errors) {
  std::vector<Row> rows;
  for (const RecentError& error : errors) {
    rows.push_back({TimeOf(error), absl::StatusCodeToString(error.code), error.reason, error.method,
                    error.model, error.message});
  }
  return rows;
}

}  // namespace

HttpPage StatusPage(const ServerStatus& status) {
  std::string page = kHead;
  absl::StrAppend(&page, "<h1>headlight-server ", Escaped(status.version), ": ",
                  IsReady(status)                         ? "serving"
                  : status.phase == ServerPhase::kServing ? "no model serves"
                                                          : Name(status.phase),
                  "</h1>\n");
  page += absl::StrFormat(
      "<p>up for %.0f s &middot; <a href=\"/metrics\">metrics</a> &middot; <a href=\"/models\">models</a> "
      "&middot; "
      "<a href=\"/readyz\">readyz</a> &middot; <a href=\"/livez\">livez</a></p>\n",
      status.up_s);
  std::vector<Row> models;
  for (const ModelStatus& model : status.models) {
    std::string state = Name(model.state);
    if (model.state == ModelStatus::State::kLoading) state += absl::StrFormat(" for %.1f s", model.loading_s);
    const std::string memory =
        model.memory_bytes > 0
            ? absl::StrFormat("%.1f MiB", static_cast<double>(model.memory_bytes) / 1048576.0)
            : "";
    models.push_back({model.name, model.version, state, model.precision, memory, model.error});
  }
  AppendTable(page, "Models", {"name", "version", "state", "precision", "memory", "last error"}, models);
  AppendTable(page, "Load now", {"what", "value"}, RowsOf(status.load));
  std::vector<Row> latencies;
  for (const ModelLatency& latency : status.latencies) {
    latencies.push_back({latency.model.empty() ? "(others)" : latency.model, absl::StrCat(latency.requests),
                         Milliseconds(latency.p50_s), Milliseconds(latency.p99_s)});
  }
  AppendTable(page, "Answered since the start", {"model", "requests", "half within", "99 of 100 within"},
              latencies);
  std::vector<Row> refusals;
  for (const auto& [reason, count] : status.refusals) refusals.push_back({reason, absl::StrCat(count)});
  AppendTable(page, "Refused since the start", {"reason", "requests"}, refusals);
  const Row error_head = {"time", "code", "reason", "method", "model", "message"};
  AppendTable(page, "Last errors of this server", error_head, RowsOf(status.our_faults));
  AppendTable(page, "Last requests that were refused", error_head, RowsOf(status.refused));
  AppendTable(page, "Limits", {"what", "value"}, RowsOf(status.limits));
  page += "</body></html>\n";
  return {200, "text/html; charset=utf-8", std::move(page)};
}

}  // namespace headlight
