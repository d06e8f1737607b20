// SPDX-License-Identifier: Apache-2.0
#include "client/cli/one_sequence.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace headlight::client {
namespace {

Shape WithoutLast(Shape shape) {
  if (!shape.empty()) shape.pop_back();
  return shape;
}

absl::Status WrongLengths(const char* field, const Shape& leading, const std::vector<int64_t>& lens) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": got lengths ", ToString(lens),
                                                 " of sequences in leading dimensions ", ToString(leading)));
}

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
  int64_t left = leading[0];  // tokens, in the ragged form
  for (const int64_t len : lens) {
    if (len < 1 || len > (dense ? leading[1] : left)) return WrongLengths(field, leading, lens);
    if (!dense) left -= len;
  }
  return dense || left == 0 ? absl::StatusOr<std::vector<int64_t>>(lens) : WrongLengths(field, leading, lens);
}

// Makes `shape`, which has `trailing` dimensions behind the leading ones, that of one sequence. Returns where
// its rows begin. `lens` are those of a request with as many sequences.
absl::StatusOr<int64_t> TakeRows(const char* field, size_t trailing, const std::vector<int64_t>& lens,
                                 int64_t sequence, Shape& shape) {
  const Shape leading(shape.begin(), shape.end() - static_cast<int64_t>(std::min(trailing, shape.size())));
  const absl::StatusOr<std::vector<int64_t>> of_each = LengthsOf(field, leading, lens);
  if (!of_each.ok()) return of_each.status();
  if (sequence >= static_cast<int64_t>(of_each->size())) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, ": got ", of_each->size(), " sequences, wanted more than ", sequence));
  }
  const auto own = of_each->begin() + sequence;
  shape.erase(shape.begin(), shape.begin() + static_cast<int64_t>(leading.size()));
  shape.insert(shape.begin(), {1, *own});
  return leading.size() == 2 ? sequence * leading[1] : std::accumulate(of_each->begin(), own, int64_t{0});
}

absl::Status Take(const char* field, const std::vector<int64_t>& lens, int64_t sequence,
                  std::optional<TensorView>& tensor) {
  if (!tensor) return absl::OkStatus();
  const absl::StatusOr<int64_t> first_row = TakeRows(field, 1, lens, sequence, tensor->shape);
  if (!first_row.ok()) return first_row.status();
  const auto width = static_cast<size_t>(tensor->shape.back());
  tensor->values = tensor->values.subspan(static_cast<size_t>(*first_row) * width,
                                          static_cast<size_t>(tensor->shape[1]) * width);
  return absl::OkStatus();
}

absl::Status Take(const char* field, const std::vector<int64_t>& lens, int64_t sequence,
                  std::optional<IdsView>& ids) {
  if (!ids) return absl::OkStatus();
  const absl::StatusOr<int64_t> first = TakeRows(field, 0, lens, sequence, ids->shape);
  if (!first.ok()) return first.status();
  std::visit(
      [&](auto& values) {
        values = values.subspan(static_cast<size_t>(*first), static_cast<size_t>(ids->shape[1]));
      },
      ids->values);
  return absl::OkStatus();
}

// The top left corner that the sequence reads.
absl::Status TakeMask(const SequenceExtent& extent, int64_t sequence, std::optional<MaskView>& view,
                      Mask& mask) {
  if (!view) return absl::OkStatus();
  const Shape& shape = view->shape;
  if (shape.size() != 4 || (shape[0] != 1 && shape[0] != extent.num_sequences) || shape[2] < extent.q_len ||
      shape[3] < extent.kv_len) {
    return absl::InvalidArgumentError(absl::StrCat("mask: got ", ToString(shape), ", wanted [",
                                                   extent.num_sequences,
                                                   " or 1, num_heads or 1, q_len, kv_len] with at least ",
                                                   extent.q_len, " queries and ", extent.kv_len, " keys"));
  }
  const int64_t first_map = shape[0] == 1 ? 0 : sequence * shape[1];
  std::visit(
      [&](const auto& values) {
        std::vector<std::decay_t<decltype(values[0])>> part;
        part.reserve(static_cast<size_t>(shape[1] * extent.q_len * extent.kv_len));
        for (int64_t map = first_map; map < first_map + shape[1]; ++map) {
          for (int64_t query = 0; query < extent.q_len; ++query) {
            const auto row = values.begin() + (map * shape[2] + query) * shape[3];
            part.insert(part.end(), row, row + extent.kv_len);
          }
        }
        mask.values = std::move(part);
      },
      view->values);
  mask.shape = {1, shape[1], extent.q_len, extent.kv_len};
  view = mask.View();
  return absl::OkStatus();
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

absl::StatusOr<AttendCall> CallOfSequence(const AttendCall& call, int64_t sequence, Mask& mask) {
  const absl::StatusOr<SequenceExtent> extent = ExtentOf(call, sequence);
  if (!extent.ok()) return extent.status();
  AttendCall lone = call;
  if (extent->num_sequences == 1) return lone;
  lone.seq_lens.clear();
  lone.kv_seq_lens.clear();
  lone.query_end = std::min(call.query_end, extent->q_len);  // may be that of a longer one
  absl::Status status = Take("query", call.seq_lens, sequence, lone.query);
  if (status.ok()) status = Take("token_ids", call.seq_lens, sequence, lone.token_ids);
  if (status.ok()) status = Take("token_types", call.seq_lens, sequence, lone.token_types);
  if (status.ok()) status = Take("key", call.kv_seq_lens, sequence, lone.key);
  if (status.ok()) status = Take("value", call.kv_seq_lens, sequence, lone.value);
  if (status.ok()) status = TakeMask(*extent, sequence, lone.mask, mask);
  if (!status.ok()) return status;
  return lone;
}

}  // namespace headlight::client
