// SPDX-License-Identifier: Apache-2.0
//
// What `headlight heatmap` draws: which part of a reply's weights is the sequence's, and how its tokens are
// called.
#ifndef HEADLIGHT_CLIENT_CLI_HEATMAP_MAPS_H_
#define HEADLIGHT_CLIENT_CLI_HEATMAP_MAPS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/attend_call.h"
#include "client/cli/flags.h"

namespace headlight::client {

// "all" or layers counted from 0, each once, as in 0,3,5; empty for all.
absl::StatusOr<std::vector<int64_t>> ParseLayers(const std::string& text);

// `layers`, or all layers of the model if empty. INVALID_ARGUMENT if the model has no such layer.
absl::StatusOr<std::vector<int64_t>> LayersOf(const std::vector<int64_t>& layers, const v1::Model& model);

// The lines of a text file, each a token; a carriage return at the end of a line does not count.
absl::StatusOr<std::vector<std::string>> ReadTokens(const std::string& path);

// A name for each of `len` places: the tokens, or numbers where there are none. INVALID_ARGUMENT, naming
// `flag`, if there are others than `len` tokens.
absl::StatusOr<std::vector<std::string>> Labels(const char* flag, const std::vector<std::string>& tokens,
                                                int64_t len);

// Appends [heads, queries, keys] out of a reply's weights [1, heads, queries, kv_len], which may have more
// queries and keys than the sequence. INTERNAL if they have fewer, or other dimensions.
absl::Status AppendMaps(const AttendReply& reply, const Shape& wanted, std::vector<float>& weights);

// Cells of labels that follow each other: GRID's of attention.proto. A cell of several is called by the places
// of its first and last, counted from `first_place`.
std::vector<std::string> CellLabels(const std::vector<std::string>& labels, int64_t first_place,
                                    int64_t cells);

// Appends [layers, heads, rows, cols] out of a reply's weights [1, layers, heads, rows, cols], as AppendMaps.
absl::Status AppendGrids(const AttendReply& reply, const Shape& wanted, std::vector<float>& weights);

// Appends statistic number `statistic` of each head, out of a reply's weights [1, heads, 6]. INTERNAL as
// above.
absl::Status AppendStatistic(const AttendReply& reply, int64_t num_heads, int64_t statistic,
                             std::vector<float>& values);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_CLI_HEATMAP_MAPS_H_
