// SPDX-License-Identifier: Apache-2.0
#include "client/report/text.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace headlight::client {

std::string FormatMs(std::chrono::nanoseconds duration) {
  return absl::StrFormat("%.3f ms", static_cast<double>(duration.count()) / 1e6);
}

std::string FormatSeconds(std::chrono::nanoseconds duration) {
  return absl::StrFormat("%.1f s", static_cast<double>(duration.count()) / 1e9);
}

std::string FormatBytes(int64_t size_bytes) {
  if (size_bytes < 1000) return absl::StrCat(size_bytes, " B");
  double value = static_cast<double>(size_bytes);
  const char* unit = "B";
  for (const char* larger : {"kB", "MB", "GB", "TB"}) {
    if (value < 999.95) break;
    value /= 1000;
    unit = larger;
  }
  return absl::StrFormat("%.1f %s", value, unit);
}

std::string FormatTable(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i + 1 < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      const bool last = i + 1 == row.size();
      absl::StrAppend(&text, row[i], last ? "" : std::string(widths[i] - row[i].size() + 2, ' '));
    }
    text += '\n';
  }
  return text;
}

}  // namespace headlight::client
