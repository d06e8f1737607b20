// SPDX-License-Identifier: Apache-2.0
#include "core/model/embedding.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/product/row_product.h"

namespace headlight {
namespace {

absl::Status CheckIds(const std::string& name, std::span<const int32_t> ids, int64_t table_rows) {
  const auto outside =
      std::find_if(ids.begin(), ids.end(), [&](int32_t id) { return id < 0 || int64_t{id} >= table_rows; });
  if (outside == ids.end()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, "[", outside - ids.begin(), "]: got ", *outside, ", wanted 0..", table_rows - 1));
}

}  // namespace

Embedding::Embedding(const EmbeddingConfig& config, int64_t embed_dim, double norm_eps,
                     EmbeddingTables tables)
    : config_(config), embed_dim_(embed_dim), tables_(std::move(tables)) {
  if (!tables_.projection.empty()) tables_.projection_bias.resize(embed_dim_, 0.0f);
  if (config_.norm) norm_ = RowNorm(NormKind::kLayerNorm, norm_eps, tables_.norm);
}

int64_t Embedding::size_bytes() const {
  return tables_.tokens.size_bytes() + tables_.positions.size_bytes() + tables_.token_types.size_bytes() +
         static_cast<int64_t>(tables_.projection.size() * sizeof(float));
}

absl::Status Embedding::Validate(std::span<const int32_t> token_ids, std::span<const int32_t> token_types,
                                 std::span<const int64_t> cu_lens) const {
  HEADLIGHT_RETURN_IF_ERROR(CheckIds("token_ids", token_ids, config_.vocab_size));
  if (!token_types.empty()) {
    if (config_.num_token_types == 0) {
      return absl::InvalidArgumentError("token_types: got some, wanted none: the model has no token types");
    }
    if (token_types.size() != token_ids.size()) {
      return absl::InvalidArgumentError(absl::StrCat("token_types: got ", token_types.size(), ", wanted ",
                                                     token_ids.size(), ", one for each token id"));
    }
    HEADLIGHT_RETURN_IF_ERROR(CheckIds("token_types", token_types, config_.num_token_types));
  }
  for (int64_t i = 0; i + 1 < std::ssize(cu_lens); ++i) {
    const int64_t len = cu_lens[i + 1] - cu_lens[i];
    if (len <= config_.max_seq_len()) continue;
    return absl::InvalidArgumentError(absl::StrCat("sequences[", i, "]: got ", len,
                                                   " tokens, wanted at most ", config_.max_seq_len(),
                                                   ", where the model's positions end"));
  }
  return absl::OkStatus();
}

void Embedding::FindPositions(std::span<const int32_t> token_ids, std::span<const int64_t> cu_lens,
                              std::vector<int32_t>& positions) const {
  if (config_.num_positions == 0) return;
  if (positions.capacity() < token_ids.size()) std::vector<int32_t>().swap(positions);  // lest it double
  positions.resize(token_ids.size());
  for (int64_t i = 0; i + 1 < std::ssize(cu_lens); ++i) {
    auto next = static_cast<int32_t>(config_.position_offset);
    for (int64_t row = cu_lens[i]; row < cu_lens[i + 1]; ++row) {
      const bool padding = config_.padding_id && token_ids[row] == *config_.padding_id;
      positions[row] = padding ? static_cast<int32_t>(*config_.padding_id) : next++;
    }
  }
}

void Embedding::Lookup(std::span<const int32_t> token_ids, std::span<const int32_t> token_types,
                       std::span<const int32_t> positions, int64_t first_row, MutableMatrixView out) const {
  const int64_t dim = config_.dim;
  const auto scale = static_cast<float>(config_.scale);
  float narrow[EmbeddingConfig::kMaxDim];
  for (int64_t r = 0; r < out.rows; ++r) {
    const int64_t token = first_row + r;
    float* const row = config_.projected ? narrow : out.Row(r);
    tables_.tokens.ReadRow(token_ids[token], dim, row);
    for (int64_t i = 0; scale != 1.0f && i < dim; ++i) row[i] *= scale;
    if (config_.num_positions != 0) tables_.positions.AddRow(positions[token], dim, row);
    if (config_.num_token_types != 0) {
      tables_.token_types.AddRow(token_types.empty() ? 0 : token_types[token], dim, row);
    }
    if (config_.norm) AddAndNorm(norm_, {.x = {row, 1, dim, dim}}, {}, {row, 1, dim, dim});
    if (row != narrow) continue;
    ProjectRow(row, {tables_.projection.data(), dim, embed_dim_, embed_dim_}, tables_.projection_bias.data(),
               out.Row(r));
  }
}

}  // namespace headlight
