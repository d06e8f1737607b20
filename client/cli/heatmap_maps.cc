// SPDX-License-Identifier: Apache-2.0
#include "client/cli/heatmap_maps.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <numeric>

#include "absl/strings/str_cat.h"

namespace headlight::client {
namespace {

constexpr int64_t kStatisticsPerHead = 6;

absl::Status OtherShape(const Shape& got, const Shape& wanted) {
  return absl::InternalError(
      absl::StrCat("the server's reply has weights ", ToString(got), ", wanted at least ", ToString(wanted)));
}

}  // namespace

absl::StatusOr<std::vector<int64_t>> ParseLayers(const std::string& text) {
  if (text == "all") return std::vector<int64_t>();
  return ParseEachOnce("all, or layers", text);
}

absl::StatusOr<std::vector<int64_t>> LayersOf(const std::vector<int64_t>& layers, const v1::Model& model) {
  const int64_t num_layers = model.num_layers();
  for (int64_t layer : layers) {
    if (layer < num_layers) continue;
    return absl::InvalidArgumentError(absl::StrCat("--layers: got ", layer, ", wanted less than ", num_layers,
                                                   ", the layers of ", model.name()));
  }
  if (!layers.empty()) return layers;
  std::vector<int64_t> all(static_cast<size_t>(num_layers));
  std::iota(all.begin(), all.end(), int64_t{0});
  return all;
}

absl::StatusOr<std::vector<std::string>> ReadTokens(const std::string& path) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat(path, ": ", std::strerror(errno)));
  std::vector<std::string> tokens;
  for (std::string line; std::getline(file, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    tokens.push_back(line);
  }
  if (!file.eof()) return absl::InvalidArgumentError(absl::StrCat(path, ": cannot be read to its end"));
  if (tokens.empty()) return absl::InvalidArgumentError(absl::StrCat(path, ": got no lines, wanted tokens"));
  return tokens;
}

absl::StatusOr<std::vector<std::string>> Labels(const char* flag, const std::vector<std::string>& tokens,
                                                int64_t len) {
  if (!tokens.empty() && static_cast<int64_t>(tokens.size()) != len) {
    return absl::InvalidArgumentError(absl::StrCat(flag, ": got ", tokens.size(), " lines, wanted ", len,
                                                   ", one for each token of the sequence"));
  }
  if (!tokens.empty()) return tokens;
  std::vector<std::string> numbers;
  for (int64_t i = 0; i < len; ++i) numbers.push_back(absl::StrCat(i));
  return numbers;
}

absl::Status AppendMaps(const AttendReply& reply, const Shape& wanted, std::vector<float>& weights) {
  const Shape got = reply.weights ? reply.weights->shape : Shape{};
  if (got.size() != 4 || got[0] < 1 || got[1] != wanted[0] || got[2] < wanted[1] || got[3] < wanted[2]) {
    return OtherShape(got, {1, wanted[0], wanted[1], wanted[2]});
  }
  for (int64_t head = 0; head < wanted[0]; ++head) {
    for (int64_t query = 0; query < wanted[1]; ++query) {
      const float* const row = reply.weights->values.data() + (head * got[2] + query) * got[3];
      weights.insert(weights.end(), row, row + wanted[2]);
    }
  }
  return absl::OkStatus();
}

std::vector<std::string> CellLabels(const std::vector<std::string>& labels, int64_t first_place,
                                    int64_t cells) {
  const int64_t length = static_cast<int64_t>(labels.size());
  std::vector<std::string> names;
  for (int64_t cell = 0; cell < cells; ++cell) {
    const int64_t begin = cell * length / cells, last = (cell + 1) * length / cells - 1;
    names.push_back(begin == last ? labels[static_cast<size_t>(begin)]
                                  : absl::StrCat(first_place + begin, "-", first_place + last));
  }
  return names;
}

absl::Status AppendGrids(const AttendReply& reply, const Shape& wanted, std::vector<float>& weights) {
  const Shape got = reply.weights ? reply.weights->shape : Shape{};
  if (got.size() != 5 || got[0] < 1 || got[1] != wanted[0] || got[2] != wanted[1] || got[3] < wanted[2] ||
      got[4] < wanted[3]) {
    return OtherShape(got, {1, wanted[0], wanted[1], wanted[2], wanted[3]});
  }
  const int64_t num_maps = got[1] * got[2];
  for (int64_t map = 0; map < num_maps; ++map) {
    for (int64_t row = 0; row < wanted[2]; ++row) {
      const float* const cells = reply.weights->values.data() + (map * got[3] + row) * got[4];
      weights.insert(weights.end(), cells, cells + wanted[3]);
    }
  }
  return absl::OkStatus();
}

absl::Status AppendStatistic(const AttendReply& reply, int64_t num_heads, int64_t statistic,
                             std::vector<float>& values) {
  const Shape got = reply.weights ? reply.weights->shape : Shape{};
  if (got.size() != 3 || got[0] < 1 || got[1] != num_heads || got[2] != kStatisticsPerHead) {
    return OtherShape(got, {1, num_heads, kStatisticsPerHead});
  }
  for (int64_t head = 0; head < num_heads; ++head) {
    values.push_back(reply.weights->values[static_cast<size_t>(head * kStatisticsPerHead + statistic)]);
  }
  return absl::OkStatus();
}

}  // namespace headlight::client
