// SPDX-License-Identifier: Apache-2.0
//
// The statistics of --weights summary, for people and for scripts.
#ifndef HEADLIGHT_CLIENT_CLI_SUMMARY_H_
#define HEADLIGHT_CLIENT_CLI_SUMMARY_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "client/tensor.h"

namespace headlight::client {

// Both take the reply's weights, [batch, heads, 6], and the heads that were asked for (empty: all). A reply
// of another shape has no rows.

// One object for each sequence and head, in the reply's order; keys: sequence, head and the statistics by
// name.
nlohmann::ordered_json SummaryJson(const Tensor& weights, const std::vector<int64_t>& heads);

// The same as a table; of many rows the first ones and how many there are.
std::string SummaryTable(const Tensor& weights, const std::vector<int64_t>& heads);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_CLI_SUMMARY_H_
