// SPDX-License-Identifier: Apache-2.0
#include "client/cli/summary.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/report/text.h"

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

constexpr size_t kMaxTableKeys = 8;

// One sequence, head and query, with the places that hold a key.
struct TopKRow {
  int64_t sequence;
  int64_t head;
  int64_t query;
  std::vector<int32_t> keys;
  std::vector<float> weights;
};

std::vector<TopKRow> TopKRowsOf(const Tensor& weights, const IntTensor& keys,
                                const std::vector<int64_t>& heads, int64_t query_begin) {
  std::vector<TopKRow> rows;
  if (weights.shape.size() != 4 || keys.shape != weights.shape) return rows;
  const int64_t num_heads = weights.shape[1], num_queries = weights.shape[2], top_k = weights.shape[3];
  if (!heads.empty() && static_cast<int64_t>(heads.size()) != num_heads) return rows;
  for (int64_t row = 0; row < weights.shape[0] * num_heads * num_queries; ++row) {
    const int64_t place = row / num_queries % num_heads;
    TopKRow top{.sequence = row / num_queries / num_heads,
                .head = heads.empty() ? place : heads[static_cast<size_t>(place)],
                .query = query_begin + row % num_queries};
    for (int64_t i = row * top_k; i < (row + 1) * top_k; ++i) {
      if (keys.values[static_cast<size_t>(i)] < 0) continue;
      top.keys.push_back(keys.values[static_cast<size_t>(i)]);
      top.weights.push_back(weights.values[static_cast<size_t>(i)]);
    }
    if (!top.keys.empty()) rows.push_back(std::move(top));
  }
  return rows;
}

// The line below a table that shows fewer rows than there are; empty if it shows all.
std::string MoreRows(int64_t num_rows) {
  if (num_rows <= kMaxTableRows) return "";
  return absl::StrCat("... and ", num_rows - kMaxTableRows, " more: --json has all of them\n");
}

}  // namespace

ValueRange RangeOf(std::span<const float> values) {
  ValueRange range;
  int64_t num_finite = 0;
  double sum = 0;
  for (const float value : values) {
    if (!std::isfinite(value)) {
      ++range.num_non_finite;
      continue;
    }
    range.min = num_finite == 0 ? value : std::min<double>(range.min, value);
    range.max = num_finite == 0 ? value : std::max<double>(range.max, value);
    sum += value;
    ++num_finite;
  }
  if (num_finite > 0) range.mean = sum / static_cast<double>(num_finite);
  return range;
}

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
  return FormatTable(table) + MoreRows(num_rows);
}

nlohmann::ordered_json TopKJson(const Tensor& weights, const IntTensor& keys,
                                const std::vector<int64_t>& heads, int64_t query_begin) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const TopKRow& row : TopKRowsOf(weights, keys, heads, query_begin)) {
    json.push_back({{"sequence", row.sequence},
                    {"head", row.head},
                    {"query", row.query},
                    {"keys", row.keys},
                    {"weights", row.weights}});
  }
  return json;
}

std::string TopKTable(const Tensor& weights, const IntTensor& keys, const std::vector<int64_t>& heads,
                      int64_t query_begin) {
  const std::vector<TopKRow> rows = TopKRowsOf(weights, keys, heads, query_begin);
  std::vector<std::vector<std::string>> table = {{"sequence", "head", "query", "key: weight"}};
  const int64_t num_rows = static_cast<int64_t>(rows.size());
  for (int64_t i = 0; i < std::min(num_rows, kMaxTableRows); ++i) {
    const TopKRow& row = rows[static_cast<size_t>(i)];
    std::vector<std::string>& line = table.emplace_back();
    line = {absl::StrCat(row.sequence), absl::StrCat(row.head), absl::StrCat(row.query)};
    for (size_t j = 0; j < std::min(row.keys.size(), kMaxTableKeys); ++j)
      line.push_back(absl::StrFormat("%d: %.4f", row.keys[j], row.weights[j]));
    if (row.keys.size() > kMaxTableKeys) line.push_back("...");
  }
  return FormatTable(table) + MoreRows(num_rows);
}

}  // namespace headlight::client
