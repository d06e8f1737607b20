// SPDX-License-Identifier: Apache-2.0
#include "client/cli/summary.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
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

// One map of the weights.
struct MapPlace {
  int64_t sequence = 0;
  std::optional<int64_t> layer;  // where several were asked for
  int64_t head = 0;
};

// Of the maps of weights [batch, heads, ...] or [batch, layers, heads, ...], of which `inner` dimensions
// belong to one map, in their order; none of another shape.
std::vector<MapPlace> MapsOf(const Shape& shape, size_t inner, const Reported& reported) {
  const auto& [layers, heads, query_begin] = reported;
  const size_t outer = layers.empty() ? 2 : 3;
  if (shape.size() != outer + inner) return {};
  if (!layers.empty() && static_cast<int64_t>(layers.size()) != shape[1]) return {};
  const int64_t num_heads = shape[outer - 1];
  if (!heads.empty() && static_cast<int64_t>(heads.size()) != num_heads) return {};
  std::vector<MapPlace> maps;
  if (NumElements(shape).value_or(0) == 0)
    return maps;  // or a shape without elements could ask for any number
  const int64_t num_layers = layers.empty() ? 1 : shape[1];
  for (int64_t map = 0; map < shape[0] * num_layers * num_heads; ++map) {
    const auto head = static_cast<size_t>(map % num_heads);
    MapPlace& place = maps.emplace_back();
    place.sequence = map / num_heads / num_layers;
    if (!layers.empty()) place.layer = layers[static_cast<size_t>(map / num_heads % num_layers)];
    place.head = heads.empty() ? map % num_heads : heads[head];
  }
  return maps;
}

nlohmann::ordered_json PlaceJson(const MapPlace& place) {
  nlohmann::ordered_json json = {{"sequence", place.sequence}};
  if (place.layer) json["layer"] = *place.layer;
  json["head"] = place.head;
  return json;
}

std::vector<std::string> PlaceColumns(const Reported& reported) {
  if (reported.layers.empty()) return {"sequence", "head"};
  return {"sequence", "layer", "head"};
}

std::vector<std::string> PlaceCells(const MapPlace& place) {
  std::vector<std::string> cells = {absl::StrCat(place.sequence)};
  if (place.layer) cells.push_back(absl::StrCat(*place.layer));
  cells.push_back(absl::StrCat(place.head));
  return cells;
}

struct SummaryRow {
  MapPlace place;
  const float* statistics;
};

std::vector<SummaryRow> RowsOf(const Tensor& weights, const Reported& reported) {
  std::vector<SummaryRow> rows;
  const int64_t width = kStatistics.size();
  if (weights.shape.empty() || weights.shape.back() != width) return rows;
  for (const MapPlace& place : MapsOf(weights.shape, 1, reported)) {
    rows.push_back({place, weights.values.data() + static_cast<int64_t>(rows.size()) * width});
  }
  return rows;
}

constexpr size_t kMaxTableKeys = 8;

// One query of a map, with the places that hold a key.
struct TopKRow {
  MapPlace place;
  int64_t query;
  std::vector<int32_t> keys;
  std::vector<float> weights;
};

std::vector<TopKRow> TopKRowsOf(const Tensor& weights, const IntTensor& keys, const Reported& reported) {
  std::vector<TopKRow> rows;
  if (keys.shape != weights.shape) return rows;
  size_t next = 0;
  for (const MapPlace& place : MapsOf(weights.shape, 2, reported)) {
    for (int64_t query = 0; query < weights.shape[weights.shape.size() - 2]; ++query) {
      TopKRow top{.place = place, .query = reported.query_begin + query};
      for (int64_t i = 0; i < weights.shape.back(); ++i, ++next) {
        if (keys.values[next] < 0) continue;
        top.keys.push_back(keys.values[next]);
        top.weights.push_back(weights.values[next]);
      }
      if (!top.keys.empty()) rows.push_back(std::move(top));
    }
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

nlohmann::ordered_json SummaryJson(const Tensor& weights, const Reported& reported) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const SummaryRow& row : RowsOf(weights, reported)) {
    nlohmann::ordered_json& object = json.emplace_back(PlaceJson(row.place));
    for (size_t i = 0; i < kStatistics.size(); ++i) object[kStatistics[i]] = row.statistics[i];
  }
  return json;
}

std::string SummaryTable(const Tensor& weights, const Reported& reported) {
  const std::vector<SummaryRow> rows = RowsOf(weights, reported);
  std::vector<std::vector<std::string>> table = {PlaceColumns(reported)};
  table[0].insert(table[0].end(), kStatistics.begin(), kStatistics.end());
  const int64_t num_rows = static_cast<int64_t>(rows.size());
  for (int64_t i = 0; i < std::min(num_rows, kMaxTableRows); ++i) {
    const SummaryRow& row = rows[static_cast<size_t>(i)];
    std::vector<std::string>& line = table.emplace_back(PlaceCells(row.place));
    for (size_t j = 0; j < kStatistics.size(); ++j)
      line.push_back(absl::StrFormat("%.4g", row.statistics[j]));
  }
  return FormatTable(table) + MoreRows(num_rows);
}

nlohmann::ordered_json TopKJson(const Tensor& weights, const IntTensor& keys, const Reported& reported) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const TopKRow& row : TopKRowsOf(weights, keys, reported)) {
    nlohmann::ordered_json& object = json.emplace_back(PlaceJson(row.place));
    object["query"] = row.query;
    object["keys"] = row.keys;
    object["weights"] = row.weights;
  }
  return json;
}

std::string TopKTable(const Tensor& weights, const IntTensor& keys, const Reported& reported) {
  const std::vector<TopKRow> rows = TopKRowsOf(weights, keys, reported);
  std::vector<std::vector<std::string>> table = {PlaceColumns(reported)};
  table[0].insert(table[0].end(), {"query", "key: weight"});
  const int64_t num_rows = static_cast<int64_t>(rows.size());
  for (int64_t i = 0; i < std::min(num_rows, kMaxTableRows); ++i) {
    const TopKRow& row = rows[static_cast<size_t>(i)];
    std::vector<std::string>& line = table.emplace_back(PlaceCells(row.place));
    line.push_back(absl::StrCat(row.query));
    for (size_t j = 0; j < std::min(row.keys.size(), kMaxTableKeys); ++j)
      line.push_back(absl::StrFormat("%d: %.4f", row.keys[j], row.weights[j]));
    if (row.keys.size() > kMaxTableKeys) line.push_back("...");
  }
  return FormatTable(table) + MoreRows(num_rows);
}

}  // namespace headlight::client
