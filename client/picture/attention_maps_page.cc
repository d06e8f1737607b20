// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "client/half.h"
#include "client/picture/attention_maps.h"
#include "client/picture/page.h"

namespace headlight::client {
namespace {

constexpr int kPaletteSize = 256;

// Little-endian binary16, as attention_maps.js reads it.
std::string HalfBytes(const std::vector<float>& values) {
  std::string bytes;
  bytes.reserve(values.size() * 2);
  for (float value : values) {
    const uint16_t half = FloatToHalf(value);
    bytes += static_cast<char>(half & 0xff);
    bytes += static_cast<char>(half >> 8);
  }
  return bytes;
}

nlohmann::ordered_json Palette() {
  nlohmann::ordered_json colors = nlohmann::ordered_json::array();
  for (int i = 0; i < kPaletteSize; ++i) {
    const Color color = ColorOf(i / (kPaletteSize - 1.0));
    colors.push_back({color.red, color.green, color.blue});
  }
  return colors;
}

}  // namespace

std::string AttentionMapsPage(const AttentionMaps& maps, ScaleKind kind) {
  const ColorScale scale = ScaleOf(maps, kind);
  const Color not_a_number = ColorOf(std::numeric_limits<double>::quiet_NaN());
  const nlohmann::ordered_json data = {
      {"title", maps.title},
      {"subtitle", maps.subtitle},
      {"layers", maps.layers},
      {"heads", maps.heads},
      {"first_query", maps.first_query},
      {"query_labels", maps.query_labels},
      {"key_labels", maps.key_labels},
      {"are_cells", maps.are_cells},
      {"weight_name", maps.weight_name()},
      {"scale", kind == ScaleKind::kLog ? "log" : "linear"},
      {"log_decades", ColorScale::kLogDecades},
      {"max", scale.max()},
      {"palette", Palette()},
      {"not_a_number", {not_a_number.red, not_a_number.green, not_a_number.blue}},
      {"weights", Base64(HalfBytes(maps.weights))},
  };
  return HtmlPage(maps.title, data, std::string(kPlotJs) + kAttentionMapsJs);
}

}  // namespace headlight::client
