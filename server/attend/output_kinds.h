// SPDX-License-Identifier: Apache-2.0
//
// attention.proto's names of outputs, which have ours' numbers and one more in front.
#ifndef HEADLIGHT_SERVER_ATTEND_OUTPUT_KINDS_H_
#define HEADLIGHT_SERVER_ATTEND_OUTPUT_KINDS_H_

#include <optional>

#include "core/model/heads/head_config.h"
#include "headlight/v1/attention.pb.h"

namespace headlight {

constexpr v1::OutputKind ToProto(OutputKind kind) {
  return static_cast<v1::OutputKind>(static_cast<int>(kind) + 1);
}
static_assert(ToProto(OutputKind::kHiddenStates) == v1::OUTPUT_KIND_HIDDEN_STATES);
static_assert(ToProto(OutputKind::kPooled) == v1::OUTPUT_KIND_POOLED);
static_assert(ToProto(OutputKind::kScores) == v1::OUTPUT_KIND_SCORES);
static_assert(ToProto(OutputKind::kTokenScores) == v1::OUTPUT_KIND_TOKEN_SCORES);
static_assert(ToProto(OutputKind::kTokenLogits) == v1::OUTPUT_KIND_TOKEN_LOGITS);
static_assert(ToProto(OutputKind::kSparse) == v1::OUTPUT_KIND_SPARSE);
static_assert(ToProto(OutputKind::kTokenVectors) == v1::OUTPUT_KIND_TOKEN_VECTORS);

// Nothing if it is none that the proto knows.
inline std::optional<OutputKind> FromProto(v1::OutputKind proto) {
  for (const OutputKind kind : kAllOutputKinds) {
    if (ToProto(kind) == proto) return kind;
  }
  return std::nullopt;
}

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ATTEND_OUTPUT_KINDS_H_
