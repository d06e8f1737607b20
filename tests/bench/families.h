// SPDX-License-Identifier: Apache-2.0
//
// Whole models with the shapes of published ones, by family. Their numbers are random.
#ifndef HEADLIGHT_TESTS_BENCH_FAMILIES_H_
#define HEADLIGHT_TESTS_BENCH_FAMILIES_H_

#include <map>
#include <string>

#include "core/model/config.h"

namespace headlight::bench {

// By name, such as "bert-base"; resolved.
const std::map<std::string, ModelConfig>& Families();

}  // namespace headlight::bench

#endif  // HEADLIGHT_TESTS_BENCH_FAMILIES_H_
