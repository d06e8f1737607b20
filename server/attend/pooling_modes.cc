// SPDX-License-Identifier: Apache-2.0
#include "server/attend/pooling_modes.h"

#include <utility>

namespace headlight {
namespace {

constexpr std::pair<Pooling, v1::PoolingMode> kModes[] = {
    {Pooling::kCls, v1::POOLING_MODE_CLS},
    {Pooling::kMean, v1::POOLING_MODE_MEAN},
    {Pooling::kMax, v1::POOLING_MODE_MAX},
    {Pooling::kMeanSqrtLen, v1::POOLING_MODE_MEAN_SQRT_LEN},
    {Pooling::kWeightedMean, v1::POOLING_MODE_WEIGHTED_MEAN},
    {Pooling::kLast, v1::POOLING_MODE_LAST}};

}  // namespace

v1::PoolingMode ToProto(Pooling pooling) {
  for (const auto& [known, mode] : kModes) {
    if (known == pooling) return mode;
  }
  return v1::POOLING_MODE_UNSPECIFIED;
}

std::optional<Pooling> FromProto(v1::PoolingMode mode) {
  for (const auto& [pooling, known] : kModes) {
    if (known == mode) return pooling;
  }
  return std::nullopt;
}

}  // namespace headlight
