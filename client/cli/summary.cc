// SPDX-License-Identifier: Apache-2.0
#include "client/cli/summary.h"

#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/text.h"

namespace headlight::client {
namespace {

// In the order of attention.proto.
constexpr std::array<const char*, 6> kStatistics = {"entropy_nats", "distance_tokens",  "max_weight",
                                                    "self_mass",    "first_token_mass", "effective_support"};
constexpr int64_t kMaxTableRows = 48;

// One sequence and head.
struct SummaryRow {
  int64_t sequence;
  int64_t head;
  const float* statistics;
};

std::vector<SummaryRow> RowsOf(const Tensor& weights, const std::vector<int64_t>& heads) {
  std::vector<SummaryRow> rows;
  const int64_t width = kStatistics.size();
  if (weights.shape.size() != 3 || weights.shape[2] != width) return rows;
  const int64_t num_heads = weights.shape[1];
  if (!heads.empty() && static_cast<int64_t>(heads.size()) != num_heads) return rows;
  for (int64_t row = 0; row < weights.shape[0] * num_heads; ++row) {
    const int64_t place = row % num_heads;
    rows.push_back({row / num_heads, heads.empty() ? place : heads[static_cast<size_t>(place)],
                    weights.values.data() + row * width});
  }
  return rows;
}

}  // namespace

nlohmann::ordered_json SummaryJson(const Tensor& weights, const std::vector<int64_t>& heads) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const SummaryRow& row : RowsOf(weights, heads)) {
    nlohmann::ordered_json& object = json.emplace_back();
    object["sequence"] = row.sequence;
    object["head"] = row.head;
    for (size_t i = 0; i < kStatistics.size(); ++i) object[kStatistics[i]] = row.statistics[i];
  }
  return json;
}

std::string SummaryTable(const Tensor& weights, const std::vector<int64_t>& heads) {
  const std::vector<SummaryRow> rows = RowsOf(weights, heads);
  std::vector<std::vector<std::string>> table = {{"sequence", "head"}};
  table[0].insert(table[0].end(), kStatistics.begin(), kStatistics.end());
  const int64_t num_rows = static_cast<int64_t>(rows.size());
  for (int64_t i = 0; i < std::min(num_rows, kMaxTableRows); ++i) {
    const SummaryRow& row = rows[static_cast<size_t>(i)];
    std::vector<std::string>& line = table.emplace_back();
    line = {absl::StrCat(row.sequence), absl::StrCat(row.head)};
    for (size_t j = 0; j < kStatistics.size(); ++j)
      line.push_back(absl::StrFormat("%.4g", row.statistics[j]));
  }
  std::string text = FormatTable(table);
  if (num_rows > kMaxTableRows) {
    absl::StrAppend(&text, "... and ", num_rows - kMaxTableRows, " more: --json has all of them\n");
  }
  return text;
}

}  // namespace headlight::client
