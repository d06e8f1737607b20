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

// Lengths of the sequences of a tensor whose leading dimensions are [batch, len] or [tokens].
absl::StatusOr<std::vector<int64_t>> LengthsOf(const char* field, const Shape& leading,
                                               const std::vector<int64_t>& lens) {
  const bool dense = leading.size() == 2;
  if (!dense && leading.size() != 1) {
    return absl::InvalidArgumentError(absl::StrCat(field, ": got leading dimensions ", ToString(leading),
                                                   ", wanted [batch, seq_len] or [tokens]"));
  }
  if (lens.empty())
    return dense ? std::vector<int64_t>(static_cast<size_t>(leading[0]), leading[1]) : leading;
  if (dense && static_cast<int64_t>(lens.size()) != leading[0]) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, ": got ", lens.size(), " lengths for ", leading[0], " sequences"));
  }
  return lens;
}

Shape WithoutLast(Shape shape) {
  if (!shape.empty()) shape.pop_back();
  return shape;
}

absl::Status OtherShape(const Shape& got, const Shape& wanted) {
  return absl::InternalError(
      absl::StrCat("the server's reply has weights ", ToString(got), ", wanted at least ", ToString(wanted)));
}

}  // namespace

absl::StatusOr<SequenceExtent> ExtentOf(const AttendCall& call, int64_t sequence) {
  const Shape query = call.token_ids ? call.token_ids->shape
                      : call.query   ? WithoutLast(call.query->shape)
                                     : Shape{};
  const auto q_lens = LengthsOf(call.token_ids ? "token_ids" : "query", query, call.seq_lens);
  if (!q_lens.ok()) return q_lens.status();
  const int64_t num_sequences = static_cast<int64_t>(q_lens->size());
  if (sequence >= num_sequences) {
    return absl::InvalidArgumentError(absl::StrCat("--sequence: got ", sequence, ", wanted less than ",
                                                   num_sequences, ", the number of sequences"));
  }
  const size_t place = static_cast<size_t>(sequence);
  SequenceExtent extent{
      .num_sequences = num_sequences, .q_len = (*q_lens)[place], .kv_len = (*q_lens)[place]};
  if (!call.key) return extent;
  const auto kv_lens = LengthsOf("key", WithoutLast(call.key->shape), call.kv_seq_lens);
  if (!kv_lens.ok()) return kv_lens.status();
  if (kv_lens->size() != q_lens->size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("key: got ", kv_lens->size(), " sequences, wanted ", num_sequences, " as in the query"));
  }
  extent.kv_len = (*kv_lens)[place];
  extent.self_attention = false;
  return extent;
}

absl::StatusOr<std::vector<int64_t>> ParseLayers(const std::string& text) {
  if (text == "all") return std::vector<int64_t>();
  absl::StatusOr<std::vector<int64_t>> layers = ParseHeads(text);
  if (layers.ok()) return layers;
  return absl::InvalidArgumentError(
      absl::StrCat("got '", text, "', wanted all, or layers counted from 0, as in 0,3,5"));
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

absl::Status AppendMaps(const AttendReply& reply, int64_t sequence, const Shape& wanted,
                        std::vector<float>& weights) {
  const Shape got = reply.weights ? reply.weights->shape : Shape{};
  if (got.size() != 4 || got[0] <= sequence || got[1] != wanted[0] || got[2] < wanted[1] ||
      got[3] < wanted[2]) {
    return OtherShape(got, {sequence + 1, wanted[0], wanted[1], wanted[2]});
  }
  const float* const first = reply.weights->values.data() + sequence * got[1] * got[2] * got[3];
  for (int64_t head = 0; head < wanted[0]; ++head) {
    for (int64_t query = 0; query < wanted[1]; ++query) {
      const float* const row = first + (head * got[2] + query) * got[3];
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

absl::Status AppendGrids(const AttendReply& reply, int64_t sequence, const Shape& wanted,
                         std::vector<float>& weights) {
  const Shape got = reply.weights ? reply.weights->shape : Shape{};
  if (got.size() != 5 || got[0] <= sequence || got[1] != wanted[0] || got[2] != wanted[1] ||
      got[3] < wanted[2] || got[4] < wanted[3]) {
    return OtherShape(got, {sequence + 1, wanted[0], wanted[1], wanted[2], wanted[3]});
  }
  const int64_t num_maps = got[1] * got[2];
  const float* const first = reply.weights->values.data() + sequence * num_maps * got[3] * got[4];
  for (int64_t map = 0; map < num_maps; ++map) {
    for (int64_t row = 0; row < wanted[2]; ++row) {
      const float* const cells = first + (map * got[3] + row) * got[4];
      weights.insert(weights.end(), cells, cells + wanted[3]);
    }
  }
  return absl::OkStatus();
}

absl::Status AppendStatistic(const AttendReply& reply, int64_t sequence, int64_t num_heads, int64_t statistic,
                             std::vector<float>& values) {
  const Shape got = reply.weights ? reply.weights->shape : Shape{};
  if (got.size() != 3 || got[0] <= sequence || got[1] != num_heads || got[2] != kStatisticsPerHead) {
    return OtherShape(got, {sequence + 1, num_heads, kStatisticsPerHead});
  }
  for (int64_t head = 0; head < num_heads; ++head) {
    values.push_back(
        reply.weights
            ->values[static_cast<size_t>((sequence * num_heads + head) * kStatisticsPerHead + statistic)]);
  }
  return absl::OkStatus();
}

}  // namespace headlight::client
