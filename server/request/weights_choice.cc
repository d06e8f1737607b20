// SPDX-License-Identifier: Apache-2.0
#include "server/request/weights_choice.h"

#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace headlight {
namespace {

using Mode = WeightsSink::Mode;

template <typename... Parts>
absl::Status WrongWeights(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat("weights.", parts...));
}

absl::StatusOr<Mode> ModeOf(v1::WeightsMode mode) {
  switch (mode) {
    case v1::WEIGHTS_MODE_UNSPECIFIED:
    case v1::WEIGHTS_MODE_NONE:
      return Mode::kNone;
    case v1::WEIGHTS_MODE_FULL:
      return Mode::kFull;
    case v1::WEIGHTS_MODE_MEAN:
      return Mode::kMean;
    case v1::WEIGHTS_MODE_TOP_K:
      return Mode::kTopK;
    case v1::WEIGHTS_MODE_SUMMARY:
      return Mode::kSummary;
    default:
      return WrongWeights("mode: got ", static_cast<int>(mode),
                          ", which is no WeightsMode; wanted NONE, FULL, MEAN, TOP_K or SUMMARY");
  }
}

absl::Status CheckTopK(int64_t top_k, Mode mode) {
  if (mode == Mode::kTopK ? top_k >= 1 && top_k <= kMaxTopK : top_k == 0) return absl::OkStatus();
  if (mode == Mode::kTopK) return WrongWeights("top_k: got ", top_k, ", wanted 1 to ", kMaxTopK);
  return WrongWeights("top_k: got ", top_k, ", wanted 0 without WEIGHTS_MODE_TOP_K");
}

absl::Status CheckHeads(const google::protobuf::RepeatedField<int64_t>& heads, int64_t num_heads) {
  if (heads.size() > num_heads) {
    return WrongWeights("heads: got ", heads.size(), ", wanted at most the model's ", num_heads);
  }
  std::vector<bool> seen(num_heads, false);
  for (int i = 0; i < heads.size(); ++i) {
    const int64_t head = heads[i];
    if (head < 0 || head >= num_heads) {
      return WrongWeights("heads[", i, "]: got ", head, ", wanted 0 to ", num_heads - 1);
    }
    if (seen[head]) return WrongWeights("heads[", i, "]: got ", head, " again, wanted each head once");
    seen[head] = true;
  }
  return absl::OkStatus();
}

absl::Status CheckQueries(int64_t begin, int64_t end) {
  if ((begin == 0 && end == 0) || (begin >= 0 && begin < end)) return absl::OkStatus();
  return WrongWeights("query_begin and weights.query_end: got [", begin, ", ", end,
                      "), wanted a range that is not empty and does not begin below 0, or both 0");
}

}  // namespace

absl::StatusOr<WeightsRequest> CheckWeightsOptions(const v1::WeightsOptions& options,
                                                   const ModelConfig& config) {
  WeightsRequest request;
  HEADLIGHT_ASSIGN_OR_RETURN(request.mode, ModeOf(options.mode()));
  HEADLIGHT_RETURN_IF_ERROR(CheckTopK(options.top_k(), request.mode));
  if (request.mode == Mode::kNone) {
    if (options.heads_size() > 0) {
      return WrongWeights("heads: got ", options.heads_size(), " without a mode, wanted none");
    }
    if (options.query_begin() != 0 || options.query_end() != 0) {
      return WrongWeights("query_begin and weights.query_end: got [", options.query_begin(), ", ",
                          options.query_end(), ") without a mode, wanted both 0");
    }
    if (options.has_layer()) {
      return WrongWeights("layer: got ", options.layer(), " without a mode, wanted none");
    }
    return request;
  }
  HEADLIGHT_RETURN_IF_ERROR(CheckHeads(options.heads(), config.block.attention.num_heads));
  HEADLIGHT_RETURN_IF_ERROR(CheckQueries(options.query_begin(), options.query_end()));
  request.heads.assign(options.heads().begin(), options.heads().end());
  request.query_begin = options.query_begin();
  request.query_end = options.query_end();
  request.top_k = options.top_k();
  request.layer = options.has_layer() ? options.layer() : config.num_layers - 1;
  if (request.layer < 0 || request.layer >= config.num_layers) {
    return WrongWeights("layer: got ", request.layer, ", wanted 0 to ", config.num_layers - 1);
  }
  return request;
}

absl::StatusOr<WeightsShapes> PlanWeights(const AttentionConfig& config, int64_t batch, int64_t q_len,
                                          int64_t kv_len, WeightsRequest& request) {
  WeightsShapes shapes;
  if (request.mode == Mode::kNone) return shapes;
  if (request.query_end > q_len) {
    return WrongWeights("query_end: got ", request.query_end, ", wanted at most the q_len ", q_len,
                        " of the longest sequence");
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
  }
  return shapes;
}

}  // namespace headlight
