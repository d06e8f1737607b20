// SPDX-License-Identifier: Apache-2.0
//
// Pictures of attention weights: a grid of maps, a row of them for each layer and a column for each head. In
// a map a row is a query, a column is a key, and the colour is the weight.
#ifndef HEADLIGHT_CLIENT_PICTURE_ATTENTION_MAPS_H_
#define HEADLIGHT_CLIENT_PICTURE_ATTENTION_MAPS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "client/picture/color_scale.h"

namespace headlight::client {

// The weights of one sequence. Labels are shown as they are; numbers that count layers and heads are theirs
// in the model.
struct AttentionMaps {
  std::string title;     // what was asked: the model
  std::string subtitle;  // and how
  std::vector<int64_t> layers;
  std::vector<int64_t> heads;
  int64_t first_query = 0;  // its place in the sequence
  std::vector<std::string> query_labels;
  std::vector<std::string> key_labels;
  std::vector<float> weights;  // [layers, heads, queries, keys]
  // Queries and keys are cells of several: weights are means, and labels say all.
  bool are_cells = false;

  int64_t num_queries() const { return static_cast<int64_t>(query_labels.size()); }
  int64_t num_keys() const { return static_cast<int64_t>(key_labels.size()); }
  int64_t num_maps() const { return static_cast<int64_t>(layers.size() * heads.size()); }
  const char* weight_name() const { return are_cells ? "mean attention weight" : "attention weight"; }
  int64_t num_cells() const { return num_maps() * num_queries() * num_keys(); }
};

// Up to so many cells an SVG is opened by browsers at once, at all, and a page can be sent around.
inline constexpr int64_t kMaxQuickSvgCells = 16'384;
inline constexpr int64_t kMaxSvgCells = 262'144;
inline constexpr int64_t kMaxPageCells = int64_t{1} << 24;

// The scale from 0 to the largest finite weight of all maps; 1 if there is none above 0.
ColorScale ScaleOf(const AttentionMaps& maps, ScaleKind kind);

// A picture with an element for each weight, whose hover text has its value.
std::string AttentionMapsSvg(const AttentionMaps& maps, ScaleKind kind);

// A page of its own, which draws the weights on canvases: all maps small, one of them large, its values under
// the pointer. Weights are kept to three digits (binary16).
std::string AttentionMapsPage(const AttentionMaps& maps, ScaleKind kind);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_PICTURE_ATTENTION_MAPS_H_
