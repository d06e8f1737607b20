// SPDX-License-Identifier: Apache-2.0
#include "server/request/weights_choice.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace headlight {
namespace {

using Mode = WeightsSink::Mode;

template <typename... Parts>
absl::Status WrongWeights(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

absl::Status CheckTopK(int64_t top_k, Mode mode, const FieldNames& names) {
  if (mode == Mode::kTopK ? top_k >= 1 && top_k <= kMaxTopK : top_k == 0) return absl::OkStatus();
  if (mode == Mode::kTopK) {
    return WrongWeights(names.weights_top_k, ": got ", top_k, ", wanted 1 to ", kMaxTopK);
  }
  return WrongWeights(names.weights_top_k, ": got ", top_k, ", wanted 0 without ", names.weights_top_k_mode);
}

absl::Status CheckGridSide(int64_t cells, Mode mode, const char* name, const FieldNames& names) {
  if (mode == Mode::kGrid ? cells >= 0 && cells <= kMaxGridCells : cells == 0) return absl::OkStatus();
  if (mode == Mode::kGrid) {
    return WrongWeights(name, ": got ", cells, ", wanted 1 to ", kMaxGridCells, ", or 0 for ", kMaxGridCells);
  }
  return WrongWeights(name, ": got ", cells, ", wanted 0 without ", names.weights_grid_mode);
}

// `what`, such as "head": each within the model's `count` of them, and none twice.
absl::Status CheckEachOnce(std::span<const int64_t> places, int64_t count, const char* name,
                           const char* what) {
  if (std::ssize(places) > count) {
    return WrongWeights(name, ": got ", places.size(), ", wanted at most the model's ", count);
  }
  std::vector<bool> seen(count, false);
  for (size_t i = 0; i < places.size(); ++i) {
    const int64_t place = places[i];
    if (place < 0 || place >= count) {
      return WrongWeights(name, "[", i, "]: got ", place, ", wanted 0 to ", count - 1);
    }
    if (seen[place]) {
      return WrongWeights(name, "[", i, "]: got ", place, " again, wanted each ", what, " once");
    }
    seen[place] = true;
  }
  return absl::OkStatus();
}

// The last one, the one that is asked for, or those: then with as many heads reported of each, where heads
// are reported at all.
absl::StatusOr<std::vector<int64_t>> ChooseLayers(const WeightsFields& asked, const ModelConfig& config,
                                                  const FieldNames& names) {
  if (asked.layers.empty()) {
    const int64_t layer = asked.layer.value_or(config.num_layers - 1);
    if (layer >= 0 && layer < config.num_layers) return std::vector<int64_t>{layer};
    return WrongWeights(names.weights_layer, ": got ", layer, ", wanted 0 to ", config.num_layers - 1);
  }
  if (asked.layer) {
    return WrongWeights(names.weights_layer, ": got ", *asked.layer, " beside ", names.weights_layers,
                        ", wanted one of them");
  }
  HEADLIGHT_RETURN_IF_ERROR(CheckEachOnce(asked.layers, config.num_layers, names.weights_layers, "layer"));
  const int64_t first_heads = config.LayerBlock(asked.layers[0]).attention.num_heads;
  const bool reports_all_heads = asked.heads.empty() && asked.mode != Mode::kMean;
  for (size_t i = 0; reports_all_heads && i < asked.layers.size(); ++i) {
    const int64_t heads = config.LayerBlock(asked.layers[i]).attention.num_heads;
    if (heads == first_heads) continue;
    return WrongWeights(names.weights_layers, "[", i, "]: got ", asked.layers[i], " with ", heads,
                        " heads beside ", asked.layers[0], " with ", first_heads, ", wanted as many, or ",
                        names.weights_heads);
  }
  return std::vector<int64_t>(asked.layers.begin(), asked.layers.end());
}

absl::Status CheckQueries(int64_t begin, int64_t end, const FieldNames& names) {
  if ((begin == 0 && end == 0) || (begin >= 0 && begin < end)) return absl::OkStatus();
  return WrongWeights(names.weights_queries, ": got [", begin, ", ", end,
                      "), wanted a range that is not empty and does not begin below 0, or both 0");
}

}  // namespace

absl::StatusOr<WeightsRequest> CheckWeights(const WeightsFields& asked, const ModelConfig& config,
                                            const FieldNames& names) {
  WeightsRequest request;
  request.mode = asked.mode;
  HEADLIGHT_RETURN_IF_ERROR(CheckTopK(asked.top_k, request.mode, names));
  HEADLIGHT_RETURN_IF_ERROR(CheckGridSide(asked.grid_rows, request.mode, names.weights_grid_rows, names));
  HEADLIGHT_RETURN_IF_ERROR(CheckGridSide(asked.grid_cols, request.mode, names.weights_grid_cols, names));
  if (request.mode == Mode::kNone) {
    if (!asked.heads.empty()) {
      return WrongWeights(names.weights_heads, ": got ", asked.heads.size(), " without a mode, wanted none");
    }
    if (asked.query_begin != 0 || asked.query_end != 0) {
      return WrongWeights(names.weights_queries, ": got [", asked.query_begin, ", ", asked.query_end,
                          ") without a mode, wanted both 0");
    }
    if (asked.layer) {
      return WrongWeights(names.weights_layer, ": got ", *asked.layer, " without a mode, wanted none");
    }
    if (!asked.layers.empty()) {
      return WrongWeights(names.weights_layers, ": got ", asked.layers.size(),
                          " without a mode, wanted none");
    }
    return request;
  }
  HEADLIGHT_ASSIGN_OR_RETURN(request.layers, ChooseLayers(asked, config, names));
  request.lists_layers = !asked.layers.empty();
  for (const int64_t layer : request.layers) {
    HEADLIGHT_RETURN_IF_ERROR(CheckEachOnce(asked.heads, config.LayerBlock(layer).attention.num_heads,
                                            names.weights_heads, "head"));
  }
  HEADLIGHT_RETURN_IF_ERROR(CheckQueries(asked.query_begin, asked.query_end, names));
  request.heads.assign(asked.heads.begin(), asked.heads.end());
  request.query_begin = asked.query_begin;
  request.query_end = asked.query_end;
  request.top_k = asked.top_k;
  if (request.mode == Mode::kGrid) {
    request.grid_rows = asked.grid_rows == 0 ? kMaxGridCells : asked.grid_rows;
    request.grid_cols = asked.grid_cols == 0 ? kMaxGridCells : asked.grid_cols;
  }
  return request;
}

absl::StatusOr<WeightsShapes> PlanWeights(const AttentionConfig& config, int64_t batch, int64_t q_len,
                                          int64_t kv_len, const FieldNames& names, WeightsRequest& request) {
  WeightsShapes shapes;
  if (request.mode == Mode::kNone) return shapes;
  if (request.query_end > q_len) {
    return WrongWeights(names.weights_query_end, ": got ", request.query_end, ", wanted at most the q_len ",
                        q_len, " of the longest sequence");
  }
  const int64_t heads = request.heads.empty() ? config.num_heads : static_cast<int64_t>(request.heads.size());
  request.num_maps = request.mode == Mode::kMean ? 1 : heads;
  request.num_queries = request.query_end == 0 ? q_len : request.query_end - request.query_begin;
  request.kv_len = kv_len + config.num_appended_keys();
  switch (request.mode) {
    case Mode::kNone:
      break;
    case Mode::kFull:
      shapes.weights = {batch, heads, request.num_queries, request.kv_len};
      break;
    case Mode::kMean:
      shapes.weights = {batch, request.num_queries, request.kv_len};
      break;
    case Mode::kTopK:
      shapes.weights = shapes.keys = {batch, heads, request.num_queries, request.top_k};
      break;
    case Mode::kSummary:
      shapes.weights = {batch, heads, kNumHeadStatistics};
      shapes.received_mass = {batch, heads, request.kv_len};
      break;
    case Mode::kGrid:
      request.grid_rows = std::min(request.grid_rows, request.num_queries);
      request.grid_cols = std::min(request.grid_cols, request.kv_len);
      shapes.weights = {batch, heads, request.grid_rows, request.grid_cols};
      break;
  }
  for (Shape* const shape : {&shapes.weights, &shapes.keys, &shapes.received_mass}) {
    if (request.lists_layers && !shape->empty())
      shape->insert(shape->begin() + 1, std::ssize(request.layers));
  }
  return shapes;
}

}  // namespace headlight
