// SPDX-License-Identifier: Apache-2.0
#include "core/model/embedding_table.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "core/base/uniform_source.h"
#include "core/tensor/convert.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using testing::IsOk;
using testing::StatusIs;

// Wider than what is converted at once, and no multiple of anything.
constexpr int64_t kRows = 3;
constexpr int64_t kCols = 1237;

class EmbeddingTableTest : public ::testing::TestWithParam<DType> {};

TEST_P(EmbeddingTableTest, RowsHaveTheBitsOfTheTableConvertedAsAWhole) {
  UniformSource source(/*seed=*/5);
  const std::vector<float> drawn = source.Draw(kRows * kCols, 1.0f);
  std::vector<std::byte> stored(drawn.size() * SizeOf(GetParam()));
  ConvertFromF32(drawn.data(), kRows * kCols, GetParam(), stored.data());
  std::vector<float> whole(drawn.size());
  ConvertToF32(GetParam(), stored.data(), kRows * kCols, whole.data());

  const auto table = EmbeddingTable::Copy(GetParam(), stored.data(), kRows * kCols);
  ASSERT_THAT(table, IsOk());
  EXPECT_EQ(table->elements(), kRows * kCols);
  EXPECT_EQ(table->dtype(), GetParam());
  EXPECT_EQ(table->size_bytes(), Buffer::RoundedBytes(kRows * kCols * SizeOf(GetParam())));
  std::vector<float> row(kCols);
  table->ReadRow(1, kCols, row.data());
  for (int64_t i = 0; i < kCols; ++i) ASSERT_EQ(row[i], whole[kCols + i]) << i;
  table->AddRow(2, kCols, row.data());
  for (int64_t i = 0; i < kCols; ++i) ASSERT_EQ(row[i], whole[kCols + i] + whole[2 * kCols + i]) << i;
}

INSTANTIATE_TEST_SUITE_P(DTypes, EmbeddingTableTest,
                         ::testing::Values(DType::kF32, DType::kF16, DType::kBf16),
                         [](const auto& info) { return Name(info.param); });

TEST(NoEmbeddingTableTest, TakesNothing) {
  const auto table = EmbeddingTable::Copy(DType::kF32, nullptr, 0);
  ASSERT_THAT(table, IsOk());
  EXPECT_EQ(table->size_bytes(), 0);
}

TEST(MadeEmbeddingTableTest, IsMadeInStretchesFromItsBeginningToItsEnd) {
  constexpr int64_t kElements = 150'001;  // two stretches and what is left
  int64_t next = 0;
  const auto table =
      EmbeddingTable::Make(DType::kF32, kElements, [&](int64_t first, int64_t count, std::byte* to) {
        EXPECT_EQ(first, next);
        next += count;
        for (int64_t i = 0; i < count; ++i) {
          const auto number = static_cast<float>(first + i);
          std::memcpy(to + i * sizeof(number), &number, sizeof(number));
        }
        return absl::OkStatus();
      });
  ASSERT_THAT(table, IsOk());
  EXPECT_EQ(next, kElements);
  for (const int64_t place : {int64_t{0}, int64_t{65'535}, int64_t{65'536}, kElements - 1}) {
    float number = 0;
    table->ReadRow(place, 1, &number);
    EXPECT_EQ(number, static_cast<float>(place));
  }
}

TEST(MadeEmbeddingTableTest, WhatFillsItMayFail) {
  int calls = 0;
  const auto table = EmbeddingTable::Make(DType::kF16, 200'000, [&](int64_t, int64_t, std::byte*) {
    ++calls;
    return absl::DataLossError("the file ends here");
  });
  EXPECT_THAT(table, StatusIs(absl::StatusCode::kDataLoss, "the file ends here"));
  EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace headlight
