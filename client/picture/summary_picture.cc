// SPDX-License-Identifier: Apache-2.0
#include "client/picture/summary_picture.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/picture/color_bar.h"
#include "client/picture/color_scale.h"
#include "client/picture/svg.h"

namespace headlight::client {
namespace {

constexpr double kPadding = 16;
constexpr double kHeadingHeight = 60;
constexpr double kGridGap = 34;
constexpr double kGridLeft = kPadding + 56;
constexpr double kScaleWidth = 256;
constexpr double kLeastWidth = 620;                       // explanations and colour bars want it
constexpr double kAboveGrid = 18 + kColorBarHeight + 40;  // its name, bar and numbers of heads

struct CellSize {
  double width = 0;
  double height = 0;
};

// Wide enough for a number where there are few heads; a mark for each where there are many.
CellSize CellSizeOf(const SummaryPicture& picture) {
  const size_t num_heads = picture.heads.size();
  return {num_heads <= 16 ? 46.0 : num_heads <= 40 ? 22.0 : 12.0, picture.layers.size() <= 32 ? 20.0 : 12.0};
}

ColorScale ScaleOfStatistic(const StatisticGrid& statistic) {
  double least = INFINITY, largest = -INFINITY;
  for (float value : statistic.values) {
    if (!std::isfinite(value)) continue;
    least = std::min(least, static_cast<double>(value));
    largest = std::max(largest, static_cast<double>(value));
  }
  if (least > largest) return ColorScale(ScaleKind::kLinear, 0, 1);
  return ColorScale(ScaleKind::kLinear, least, largest);
}

void DrawCells(const SummaryPicture& picture, const StatisticGrid& statistic, Point corner, CellSize size,
               const ColorScale& scale, SvgWriter& svg) {
  const size_t num_heads = picture.heads.size();
  svg.BeginGroup("cells");
  for (size_t i = 0; i < statistic.values.size(); ++i) {
    const Point at = {corner.x + size.width * static_cast<double>(i % num_heads),
                      corner.y + size.height * static_cast<double>(i / num_heads)};
    const std::string value = FormatValue(statistic.values[i]);
    const Color color = ColorOf(scale.ShareOf(statistic.values[i]));
    const std::string hover =
        absl::StrCat(statistic.name, " ", value, statistic.unit.empty() ? "" : " ", statistic.unit,
                     "\nlayer ", picture.layers[i / num_heads], ", head ", picture.heads[i % num_heads]);
    svg.Rect(at, size.width, size.height, ToHex(color), hover);
    if (size.width < 40) continue;
    svg.Text({at.x + size.width / 2, at.y + size.height / 2 + 4}, value,
             {.anchor = Anchor::kMiddle, .css = IsDark(color) ? "small on-dark" : "small on-pale"}, hover);
  }
  svg.EndGroup();
  svg.Frame(corner, size.width * static_cast<double>(num_heads),
            size.height * static_cast<double>(picture.layers.size()));
}

// Numbers of the layers on the left, of the heads above; as many as there is room for.
void DrawNumbers(const SummaryPicture& picture, Point corner, CellSize size, SvgWriter& svg) {
  const size_t head_step = static_cast<size_t>(std::ceil(26 / size.width));
  for (size_t i = 0; i < picture.heads.size(); i += head_step) {
    svg.Text({corner.x + size.width * (static_cast<double>(i) + 0.5), corner.y - 6},
             absl::StrCat(picture.heads[i]), {.anchor = Anchor::kMiddle});
  }
  const size_t layer_step = static_cast<size_t>(std::ceil(13 / size.height));
  for (size_t i = 0; i < picture.layers.size(); i += layer_step) {
    svg.Text({corner.x - 6, corner.y + size.height * (static_cast<double>(i) + 0.5) + 4},
             absl::StrCat(picture.layers[i]), {.anchor = Anchor::kEnd});
  }
  svg.Text({corner.x, corner.y - 21}, "head", {.css = "faint"});
  svg.Text({kPadding + 12, corner.y + size.height * static_cast<double>(picture.layers.size()) / 2}, "layer",
           {.anchor = Anchor::kMiddle, .rotation = -90, .css = "faint"});
}

}  // namespace

std::string SummarySvg(const SummaryPicture& picture) {
  const CellSize size = CellSizeOf(picture);
  const double grid_width = size.width * static_cast<double>(picture.heads.size());
  const double grid_height = std::max(size.height * static_cast<double>(picture.layers.size()), 34.0);
  const double words =
      static_cast<double>(std::max(TextColumns(picture.title) * 16 / 11, TextColumns(picture.subtitle)));
  const double width =
      std::max({kGridLeft + grid_width, kLeastWidth, kPadding + words * kCharWidth * 11}) + kPadding;
  const double grid_step = kAboveGrid + grid_height + kGridGap;
  const double height = kPadding + kHeadingHeight +
                        grid_step * static_cast<double>(picture.statistics.size()) - kGridGap + kPadding;
  SvgWriter svg(width, height, picture.title);
  svg.Text({kPadding, kPadding + 14}, picture.title, {.css = "title"});
  svg.Text({kPadding, kPadding + 31}, picture.subtitle, {.css = "faint"});
  double top = kPadding + kHeadingHeight;
  for (const StatisticGrid& statistic : picture.statistics) {
    const ColorScale scale = ScaleOfStatistic(statistic);
    svg.Text({kPadding, top + 10}, statistic.explanation, {.css = "faint"});
    DrawColorBar({kPadding, top + 20}, kScaleWidth, scale, statistic.name, statistic.unit, svg);
    const Point corner = {kGridLeft, top + kAboveGrid};
    DrawCells(picture, statistic, corner, size, scale, svg);
    DrawNumbers(picture, corner, size, svg);
    top += grid_step;
  }
  return std::move(svg).Finish();
}

}  // namespace headlight::client
