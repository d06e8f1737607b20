// SPDX-License-Identifier: Apache-2.0
//
// Results in short, for people and for scripts: of any tensor its range, of --weights summary its statistics,
// of
// --weights top-k its keys.
#ifndef HEADLIGHT_CLIENT_CLI_SUMMARY_H_
#define HEADLIGHT_CLIENT_CLI_SUMMARY_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "client/tensor.h"

namespace headlight::client {

// Over the finite values of a tensor; the three are 0 if there are none.
struct ValueRange {
  double min = 0;
  double mean = 0;
  double max = 0;
  int64_t num_non_finite = 0;
};
ValueRange RangeOf(std::span<const float> values);

// What the rows of a reply's weights are of, as it was asked for.
struct Reported {
  std::vector<int64_t> layers;  // empty: one, and no dimension of the weights
  std::vector<int64_t> heads;   // empty: all
  int64_t query_begin = 0;
};

// Both take the reply's weights, [batch, heads, 6] or [batch, layers, heads, 6]. A reply of another shape has
// no rows.

// One object for each sequence, layer and head, in the reply's order; keys: sequence, layer if several were
// asked for, head and the statistics by name.
nlohmann::ordered_json SummaryJson(const Tensor& weights, const Reported& reported);

// The same as a table; of many rows the first ones and how many there are.
std::string SummaryTable(const Tensor& weights, const Reported& reported);

// Both take the reply's weights and keys, [batch, heads, queries, top_k] or [batch, layers, heads, queries,
// top_k] each. A reply of another shape has no rows; neither has a query without any key.

// One object for each sequence, layer, head and query, in the reply's order; keys: sequence, layer if several
// were asked for, head, query, keys and weights, the last two without the places that are empty.
nlohmann::ordered_json TopKJson(const Tensor& weights, const IntTensor& keys, const Reported& reported);

// The same as a table, of "KEY: WEIGHT"; of many rows the first ones and how many there are, and so for many
// keys of a row.
std::string TopKTable(const Tensor& weights, const IntTensor& keys, const Reported& reported);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_CLI_SUMMARY_H_
