// SPDX-License-Identifier: Apache-2.0
//
// The layout, from the left: the name of the layer, labels of the queries, the maps of its heads. From the
// top: title, colour bar, names of the heads, the maps, labels of the keys. Labels stand once for each row
// and column of maps, since all maps have the same.
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "client/picture/attention_maps.h"
#include "client/picture/color_bar.h"
#include "client/picture/svg.h"

namespace headlight::client {
namespace {

constexpr double kMargin = 16;
constexpr double kFontSize = 11;
constexpr double kLineHeight = 13;  // labels that are closer overlap
constexpr double kMapGap = 14;
constexpr double kAllMapsWidth = 900;  // what a row of maps should have,
constexpr double kMinMapSide = 190;    // but a map this much
constexpr double kMaxMapSide = 480;
constexpr double kMinCell = 2;
constexpr double kMaxCell = 24;
constexpr int64_t kMaxLabelColumns = 14;
constexpr double kMinWidth = 420;  // title and colour bar want it
constexpr double kBarWidth = 256;

double WidthOf(const std::string& text) {
  return static_cast<double>(TextColumns(text)) * kCharWidth * kFontSize;
}

double WidestOf(const std::vector<std::string>& labels) {
  double widest = 0;
  for (const std::string& label : labels)
    widest = std::max(widest, WidthOf(Shorten(label, kMaxLabelColumns)));
  return widest;
}

// Every how many-th label there is room for.
size_t LabelStep(double cell) { return static_cast<size_t>(std::max(1.0, std::ceil(kLineHeight / cell))); }

// "3" where the label is but the place, "3 the" where it is a token, the label of a cell.
std::string PlaceName(const AttentionMaps& maps, int64_t place, const std::string& label) {
  const std::string number = absl::StrCat(place);
  return maps.are_cells || label == number ? label : absl::StrCat(number, " ", label);
}

struct Layout {
  explicit Layout(const AttentionMaps& maps) {
    const double longer = static_cast<double>(std::max(maps.num_queries(), maps.num_keys()));
    // Whole pixels: cells of unequal size would look like a pattern in the data.
    const double side =
        std::clamp(kAllMapsWidth / static_cast<double>(maps.heads.size()), kMinMapSide, kMaxMapSide);
    cell = std::clamp(std::floor(side / longer), kMinCell, kMaxCell);
    map_width = cell * static_cast<double>(maps.num_keys());
    map_height = cell * static_cast<double>(maps.num_queries());
    // A head's name stands over its map.
    head_width = std::max(map_width, WidthOf("head 000"));
    left = kMargin + 2 * kLineHeight + 8 + kLineHeight + WidestOf(maps.query_labels) + 6;
    top = kMargin + 44 + kColorBarHeight + 30;
    key_labels_height = WidestOf(maps.key_labels) + 8;
    const double num_rows = static_cast<double>(maps.layers.size());
    const double num_columns = static_cast<double>(maps.heads.size());
    row_height = std::max(map_height, WidthOf("layer 00")) + kMapGap;
    const double right = left + num_columns * (head_width + kMapGap) - kMapGap;
    const double words =
        static_cast<double>(std::max(TextColumns(maps.title) * 16 / 11, TextColumns(maps.subtitle)));
    width = std::max({right, kMinWidth, kMargin + words * kCharWidth * kFontSize}) + kMargin;
    bottom = top + num_rows * row_height - kMapGap;
    height = bottom + key_labels_height + kLineHeight + kMargin;
  }

  Point MapCorner(size_t layer, size_t head) const {
    return {left + static_cast<double>(head) * (head_width + kMapGap),
            top + static_cast<double>(layer) * row_height};
  }

  double cell, map_width, map_height, head_width, row_height;
  double left, top, bottom, key_labels_height, width, height;
};

void DrawMap(const AttentionMaps& maps, size_t layer, size_t head, const ColorScale& scale,
             const Layout& layout, SvgWriter& svg) {
  const Point corner = layout.MapCorner(layer, head);
  const size_t num_keys = maps.key_labels.size();
  const float* weight =
      maps.weights.data() + (layer * maps.heads.size() + head) * maps.query_labels.size() * num_keys;
  const std::string where = absl::StrCat("\nlayer ", maps.layers[layer], ", head ", maps.heads[head]);
  svg.BeginGroup("cells");
  for (size_t query = 0; query < maps.query_labels.size(); ++query) {
    const std::string query_name =
        PlaceName(maps, maps.first_query + static_cast<int64_t>(query), maps.query_labels[query]);
    for (size_t key = 0; key < num_keys; ++key, ++weight) {
      svg.Rect({corner.x + layout.cell * static_cast<double>(key),
                corner.y + layout.cell * static_cast<double>(query)},
               layout.cell, layout.cell, ToHex(ColorOf(scale.ShareOf(*weight))),
               absl::StrCat(FormatValue(*weight), "\nquery ", query_name, "\nkey ",
                            PlaceName(maps, static_cast<int64_t>(key), maps.key_labels[key]), where));
    }
  }
  svg.EndGroup();
  svg.Frame(corner, layout.map_width, layout.map_height);
}

void DrawQueryLabels(const AttentionMaps& maps, const Layout& layout, SvgWriter& svg) {
  const size_t step = LabelStep(layout.cell);
  for (size_t layer = 0; layer < maps.layers.size(); ++layer) {
    const Point corner = layout.MapCorner(layer, 0);
    const double middle = corner.y + layout.map_height / 2;
    svg.Text({kMargin + kLineHeight, middle}, absl::StrCat("layer ", maps.layers[layer]),
             {.anchor = Anchor::kMiddle, .rotation = -90, .css = "axis"});
    svg.Text({kMargin + 2 * kLineHeight + 8, middle}, "query",
             {.anchor = Anchor::kMiddle, .rotation = -90, .css = "faint"});
    for (size_t query = 0; query < maps.query_labels.size(); query += step) {
      const double y = corner.y + layout.cell * (static_cast<double>(query) + 0.5) + kFontSize * 0.35;
      const std::string& label = maps.query_labels[query];
      svg.Text({corner.x - 5, y}, Shorten(label, kMaxLabelColumns), {.anchor = Anchor::kEnd}, label);
    }
  }
}

void DrawKeyLabels(const AttentionMaps& maps, const Layout& layout, SvgWriter& svg) {
  const size_t step = LabelStep(layout.cell);
  for (size_t head = 0; head < maps.heads.size(); ++head) {
    const double left = layout.MapCorner(0, head).x;
    svg.Text({left + layout.map_width / 2, layout.top - 8}, absl::StrCat("head ", maps.heads[head]),
             {.anchor = Anchor::kMiddle, .css = "axis"});
    const double below = layout.bottom - (layout.row_height - kMapGap - layout.map_height);
    for (size_t key = 0; key < maps.key_labels.size(); key += step) {
      const double x = left + layout.cell * (static_cast<double>(key) + 0.5) + kFontSize * 0.35;
      const std::string& label = maps.key_labels[key];
      svg.Text({x, below + 5}, Shorten(label, kMaxLabelColumns), {.anchor = Anchor::kEnd, .rotation = -90},
               label);
    }
    svg.Text({left + layout.map_width / 2, below + layout.key_labels_height + 10}, "key",
             {.anchor = Anchor::kMiddle, .css = "faint"});
  }
}

}  // namespace

ColorScale ScaleOf(const AttentionMaps& maps, ScaleKind kind) {
  float largest = 0;
  for (float weight : maps.weights) {
    if (std::isfinite(weight)) largest = std::max(largest, weight);
  }
  return ColorScale(kind, 0, largest > 0 ? largest : 1);
}

std::string AttentionMapsSvg(const AttentionMaps& maps, ScaleKind kind) {
  const Layout layout(maps);
  const ColorScale scale = ScaleOf(maps, kind);
  SvgWriter svg(layout.width, layout.height, maps.title);
  svg.Text({kMargin, kMargin + 14}, maps.title, {.css = "title"});
  svg.Text({kMargin, kMargin + 31}, maps.subtitle, {.css = "faint"});
  DrawColorBar({kMargin, kMargin + 44}, kBarWidth, scale,
               absl::StrCat(maps.weight_name(), kind == ScaleKind::kLog ? " (log scale)" : ""), "", svg);
  DrawQueryLabels(maps, layout, svg);
  DrawKeyLabels(maps, layout, svg);
  for (size_t layer = 0; layer < maps.layers.size(); ++layer) {
    for (size_t head = 0; head < maps.heads.size(); ++head) DrawMap(maps, layer, head, scale, layout, svg);
  }
  return std::move(svg).Finish();
}

}  // namespace headlight::client
