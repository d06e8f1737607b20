// SPDX-License-Identifier: Apache-2.0
#include "client/rpc/asked_layers.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace headlight::client {
namespace {

// Dimensions of weights, that of the layers among them.
size_t RankWithLayers(v1::WeightsMode mode) {
  return mode == v1::WEIGHTS_MODE_MEAN || mode == v1::WEIGHTS_MODE_SUMMARY ? 4 : 5;
}

}  // namespace

AttendCallback WithLayersChecked(v1::WeightsMode mode, int64_t num_layers, AttendCallback callback) {
  if (num_layers == 0) return callback;
  return [rank = RankWithLayers(mode), num_layers,
          callback = std::move(callback)](absl::StatusOr<AttendReply> reply) {
    if (!reply.ok() || !reply->weights) return callback(std::move(reply));
    const Shape& got = reply->weights->shape;
    if (got.size() == rank && got[1] == num_layers) return callback(std::move(reply));
    callback(absl::UnimplementedError(absl::StrCat(
        "weights.layers: got weights ", ToString(got), ", wanted ", num_layers,
        num_layers == 1 ? " layer" : " layers",
        " as their second dimension: the server is older than this field and did not look at it; "
        "ask for one `layer` at a time")));
  };
}

}  // namespace headlight::client
