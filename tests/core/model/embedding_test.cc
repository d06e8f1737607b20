// SPDX-License-Identifier: Apache-2.0
#include "core/model/embedding.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

constexpr int64_t kEmbeddedCols = 19;

// Row r of the table that counts in `unit`s: unit * (r + 1) in all columns, so that a sum tells its rows.
EmbeddingTable TableOf(int64_t rows, float unit) {
  std::vector<float> numbers(rows * kEmbeddedCols);
  for (int64_t i = 0; i < std::ssize(numbers); ++i)
    numbers[i] = unit * static_cast<float>(i / kEmbeddedCols + 1);
  absl::StatusOr<EmbeddingTable> table =
      EmbeddingTable::Copy(DType::kF32, numbers.data(), std::ssize(numbers));
  return *std::move(table);
}

constexpr EmbeddingConfig kAllTables = {
    .vocab_size = 10, .dim = kEmbeddedCols, .num_positions = 6, .num_token_types = 2};

std::unique_ptr<Embedding> EmbeddingOf(const EmbeddingConfig& config) {
  EmbeddingTables tables;
  tables.tokens = TableOf(config.vocab_size, 1.0f);
  if (config.num_positions > 0) tables.positions = TableOf(config.num_positions, 100.0f);
  if (config.num_token_types > 0) tables.token_types = TableOf(config.num_token_types, 10000.0f);
  if (config.norm) {
    tables.norm = {std::vector<float>(kEmbeddedCols, 3.0f), std::vector<float>(kEmbeddedCols, 0.5f)};
  }
  return std::make_unique<Embedding>(config, kEmbeddedCols, 1e-5, std::move(tables));
}

// The first column of each row, all of whose columns are alike.
std::vector<float> Looked(const Embedding& embedding, const std::vector<int32_t>& ids,
                          const std::vector<int32_t>& types, const std::vector<int64_t>& cu_lens,
                          int64_t first_row, int64_t rows) {
  std::vector<int32_t> positions;
  embedding.FindPositions(ids, cu_lens, positions);
  const int64_t stride = kEmbeddedCols + 2;
  std::vector<float> out(rows * stride, -7.0f), firsts;
  embedding.Lookup(ids, types, positions, first_row, {out.data(), rows, kEmbeddedCols, stride});
  for (int64_t row = 0; row < rows; ++row) {
    firsts.push_back(out[row * stride]);
    for (int64_t col = 0; col < stride; ++col) {
      EXPECT_EQ(out[row * stride + col], col < kEmbeddedCols ? firsts.back() : -7.0f) << row << ", " << col;
    }
  }
  return firsts;
}

TEST(EmbeddingTest, AddsTheRowsOfIdPositionAndType) {
  const auto embedding = EmbeddingOf(kAllTables);
  EXPECT_EQ(Looked(*embedding, {9, 0, 4, 4}, {0, 1, 0, 1}, {0, 3, 4}, 0, 4),
            (std::vector<float>{10110, 20201, 10305, 20105}));
  EXPECT_EQ(embedding->size_bytes(),
            TableOf(10, 1).size_bytes() + TableOf(6, 1).size_bytes() + TableOf(2, 1).size_bytes());
}

TEST(EmbeddingTest, WithoutTypesAllAreZero) {
  EXPECT_EQ(Looked(*EmbeddingOf(kAllTables), {9, 0}, {}, {0, 2}, 0, 2), (std::vector<float>{10110, 10201}));
}

TEST(EmbeddingTest, WithoutOtherTablesItIsTheTokens) {
  EXPECT_EQ(Looked(*EmbeddingOf({.vocab_size = 10, .dim = kEmbeddedCols}), {9, 0, 5}, {}, {0, 2, 3}, 0, 3),
            (std::vector<float>{10, 1, 6}));
}

TEST(EmbeddingTest, AScaleIsThatOfTokensAlone) {
  EmbeddingConfig config = kAllTables;
  config.scale = 4.0;
  EXPECT_EQ(Looked(*EmbeddingOf(config), {9, 0}, {}, {0, 2}, 0, 2), (std::vector<float>{10140, 10204}));
}

// From 3 columns to kEmbeddedCols, by a matrix whose rows are 1, 10 and 100, and a bias.
TEST(EmbeddingTest, AProjectionFollowsTablesOfAnotherWidth) {
  const std::vector<float> tokens = {1, 2, 3, 4, 5, 6};
  EmbeddingTables tables;
  absl::StatusOr<EmbeddingTable> table = EmbeddingTable::Copy(DType::kF32, tokens.data(), 6);
  tables.tokens = *std::move(table);
  for (const float row : {1.0f, 10.0f, 100.0f})
    tables.projection.insert(tables.projection.end(), kEmbeddedCols, row);
  tables.projection_bias.assign(kEmbeddedCols, 7000.0f);
  const Embedding embedding({.vocab_size = 2, .dim = 3, .projected = true}, kEmbeddedCols, 1e-5, std::move(tables));
  EXPECT_EQ(Looked(embedding, {1, 0}, {}, {0, 2}, 0, 2), (std::vector<float>{7654, 7321}));
}

TEST(EmbeddingTest, LooksUpAnyRowsOfABatch) {
  EXPECT_EQ(Looked(*EmbeddingOf(kAllTables), {9, 0, 4, 4}, {0, 1, 0, 1}, {0, 3, 4}, 1, 2),
            (std::vector<float>{20201, 10305}));
}

// Rows whose columns are alike have no variance: what is left is the bias.
TEST(EmbeddingTest, ANormComesLast) {
  EmbeddingConfig config = kAllTables;
  config.norm = true;
  EXPECT_EQ(Looked(*EmbeddingOf(config), {9, 3}, {}, {0, 2}, 0, 2), (std::vector<float>{0.5f, 0.5f}));
}

TEST(EmbeddingTest, PositionsBeginAnewInEachSequence) {
  std::vector<int32_t> positions;
  EmbeddingOf(kAllTables)
      ->FindPositions(std::vector<int32_t>(5, 1), std::vector<int64_t>{0, 3, 5}, positions);
  EXPECT_EQ(positions, (std::vector<int32_t>{0, 1, 2, 0, 1}));
}

TEST(EmbeddingTest, PaddingStandsAtItsOwnRowAndDoesNotCount) {
  EmbeddingConfig config = kAllTables;
  config.padding_id = 1;
  config.position_offset = 2;
  std::vector<int32_t> positions;
  EmbeddingOf(config)->FindPositions(std::vector<int32_t>{7, 1, 8, 1, 9, 1, 5}, std::vector<int64_t>{0, 5, 7},
                                     positions);
  EXPECT_EQ(positions, (std::vector<int32_t>{2, 1, 3, 1, 4, 1, 2}));
}

TEST(EmbeddingTest, WithoutAPositionTableThereAreNoPositions) {
  std::vector<int32_t> positions;
  EmbeddingOf({.vocab_size = 10, .dim = kEmbeddedCols})
      ->FindPositions(std::vector<int32_t>(5, 1), std::vector<int64_t>{0, 5}, positions);
  EXPECT_TRUE(positions.empty());
}

TEST(EmbeddingTest, RefusesIdsOutsideOfTheirTablesByTheirPlace) {
  const auto embedding = EmbeddingOf(kAllTables);
  const std::vector<int64_t> cu_lens = {0, 3};
  using Ids = std::vector<int32_t>;
  const auto refused = [&](const Ids& ids, const Ids& types, const std::string& message) {
    EXPECT_THAT(embedding->Validate(ids, types, cu_lens),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(message)));
  };
  EXPECT_THAT(embedding->Validate(Ids{0, 9, 5}, Ids{0, 1, 0}, cu_lens), IsOk());
  EXPECT_THAT(embedding->Validate(Ids{0, 9, 5}, Ids{}, cu_lens), IsOk());
  refused({0, 10, 5}, {}, "token_ids[1]: got 10, wanted 0..9");
  refused({0, 1, -1}, {}, "token_ids[2]: got -1, wanted 0..9");
  refused({0, 1, std::numeric_limits<int32_t>::min()}, {}, "token_ids[2]: got -2147483648");
  refused({0, 1, 2}, {2, 0, 0}, "token_types[0]: got 2, wanted 0..1");
  refused({0, 1, 2}, {0, 0}, "token_types: got 2, wanted 3, one for each token id");
}

TEST(EmbeddingTest, RefusesTypesWhereThereAreNone) {
  EXPECT_THAT(EmbeddingOf({.vocab_size = 10, .dim = kEmbeddedCols})
                  ->Validate(std::vector<int32_t>{1}, std::vector<int32_t>{0}, std::vector<int64_t>{0, 1}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("token_types: got some, wanted none")));
}

TEST(EmbeddingTest, RefusesSequencesLongerThanThePositionTable) {
  EmbeddingConfig config = kAllTables;
  config.position_offset = 2;  // 4 of 6 rows are left
  const auto embedding = EmbeddingOf(config);
  const std::vector<int32_t> ids(9, 1);
  EXPECT_THAT(embedding->Validate(ids, {}, std::vector<int64_t>{0, 4, 8, 9}), IsOk());
  EXPECT_THAT(embedding->Validate(ids, {}, std::vector<int64_t>{0, 4, 9}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("sequences[1]: got 5 tokens, wanted at most 4")));
}

}  // namespace
}  // namespace headlight
