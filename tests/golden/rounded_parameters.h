// SPDX-License-Identifier: Apache-2.0
//
// The models whose answers narrow parameters are held to: those whose parameters were rounded before.
#ifndef HEADLIGHT_TESTS_GOLDEN_ROUNDED_PARAMETERS_H_
#define HEADLIGHT_TESTS_GOLDEN_ROUNDED_PARAMETERS_H_

#include "core/attention/config.h"
#include "core/attention/parameters.h"
#include "core/model/config.h"
#include "core/model/parameters.h"
#include "core/product/precision.h"

namespace headlight::testing {

// Rounds the matrices of projections and of feed-forward networks to bf16, or column by column to whole
// multiples of the largest magnitude over 127. `config` is resolved.
void RoundParameters(Precision held, const AttentionConfig& config, AttentionParameters& parameters);
void RoundParameters(Precision held, const ModelConfig& config, ModelParameters& parameters);

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_GOLDEN_ROUNDED_PARAMETERS_H_
