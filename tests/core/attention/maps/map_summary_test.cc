// SPDX-License-Identifier: Apache-2.0
//
// Statistics of exponentials that are whole numbers, against plain loops in double.
#include "core/attention/maps/map_summary.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <numbers>
#include <vector>

#include "tests/core/testing/effort.h"
#include "tests/core/testing/test_tiles.h"

namespace headlight {
namespace {

using testing::TestTiles;
using testing::UniformInt;

constexpr double kSummaryUnit = 0x1p-24;

// Sums of `rows` rows, l of each and E = sum of e log2 e, as a softmax with reference 0 would have them.
struct RowSums {
  RowSums(const TestTiles& tiles, int64_t rows) : sums(rows, 0.0f), exponent_sums(rows, 0.0f) {
    for (int64_t row = 0; row < rows; ++row) {
      double sum = 0, exponents = 0;
      for (int64_t key = tiles.get().first_key; key < tiles.get().end_key; ++key) {
        const double weight = tiles.Weight(row, key);
        sum += weight;
        if (weight > 0) exponents += weight * std::log2(weight);
      }
      sums[row] = static_cast<float>(sum);
      exponent_sums[row] = static_cast<float>(exponents);
    }
  }
  std::vector<float> sums, exponent_sums;
};

struct SummaryCase {
  int64_t rows, first_row, end_row, first_position, kv_len, first_key, end_key;
};

TEST(MapSummaryTest, IsThePlainSumOverRowsAndKeys) {
  testing::Rng rng = testing::MakeRng(0);
  std::vector<SummaryCase> cases = {{1, 0, 1, 0, 1, 0, 1},         {5, 0, 5, 10, 40, 0, 40},
                                    {7, 2, 6, 0, 70, 0, 70},       {9, 0, 9, -4, 33, 0, 33},
                                    {6, 0, 6, 600, 700, 512, 700}, {4, 1, 4, 30, 600, 0, 602}};
  for (int64_t keys = 1; keys <= 40; ++keys) {
    cases.push_back(
        {6, UniformInt(rng, 0, 2), UniformInt(rng, 3, 6), UniformInt(rng, -3, keys + 3), keys, 0, keys});
  }
  for (const SummaryCase& c : cases) {
    SCOPED_TRACE(::testing::Message()
                 << "rows [" << c.first_row << ", " << c.end_row << "), keys [" << c.first_key << ", "
                 << c.end_key << "), own " << c.kv_len << ", first position " << c.first_position);
    const TestTiles tiles(rng, c.rows, c.first_key, c.end_key);
    const RowSums of_rows(tiles, c.rows);
    SummarySums got;
    got.statistics[kDistanceTokens] = 3.0;  // what was there is added to
    std::vector<float> received(std::max(c.kv_len, c.end_key) + 1, 2.0f);
    AddToSummary(tiles.get(),
                 {c.first_row, c.end_row, c.first_position, c.kv_len, of_rows.sums.data(),
                  of_rows.exponent_sums.data()},
                 got, received.data());

    double wanted[kNumHeadStatistics] = {}, entropy_error = 0;
    std::vector<double> received_wanted(received.size(), 2.0);
    for (int64_t row = c.first_row; row < c.end_row; ++row) {
      const int64_t position = c.first_position + row;
      double max = 0, squares = 0;
      for (int64_t key = c.first_key; key < c.end_key; ++key) {
        const double weight = tiles.Weight(row, key);
        received_wanted[key] += weight;
        max = std::max(max, weight);
        squares += weight * weight;
        if (key < c.kv_len) wanted[kDistanceTokens] += weight * static_cast<double>(std::abs(key - position));
        if (key == 0) wanted[kFirstTokenMass] += weight;
        if (key == position && key < c.kv_len) wanted[kSelfMass] += weight;
      }
      const double sum = of_rows.sums[row], mean_exponent = of_rows.exponent_sums[row] / sum;
      wanted[kEntropyNats] += std::max(0.0, std::log2(sum) - mean_exponent) * std::numbers::ln2;
      // The logarithm is off by 3.3e-7; it, the quotient and their difference are rounded.
      entropy_error += 3.3e-7 + 4 * kSummaryUnit * (std::log2(sum) + mean_exponent + 1);
      wanted[kMaxWeight] += max;
      wanted[kEffectiveSupport] += 1.0 / squares;
    }
    // Sums of so many terms above 0 in f32, distances of an AddSide among them as differences of two of them:
    // a position is at most four rows from that of the first.
    const double terms = static_cast<double>((c.end_row - c.first_row) * (c.end_key - c.first_key) + 8);
    const double relative = terms * kSummaryUnit;
    double mass = 0;
    for (const double weight : received_wanted) mass += weight;
    EXPECT_NEAR(got.statistics[kEntropyNats], wanted[kEntropyNats], entropy_error + relative);
    EXPECT_NEAR(got.statistics[kDistanceTokens], wanted[kDistanceTokens] + 3.0,
                relative * (wanted[kDistanceTokens] + 8 * mass));
    EXPECT_NEAR(got.statistics[kMaxWeight], wanted[kMaxWeight], relative * wanted[kMaxWeight]);
    EXPECT_NEAR(got.statistics[kEffectiveSupport], wanted[kEffectiveSupport],
                relative * wanted[kEffectiveSupport]);
    EXPECT_NEAR(got.statistics[kSelfMass], wanted[kSelfMass], relative * wanted[kSelfMass]);
    EXPECT_NEAR(got.statistics[kFirstTokenMass], wanted[kFirstTokenMass], relative * wanted[kFirstTokenMass]);
    EXPECT_EQ(got.num_queries, c.end_row - c.first_row);
    for (size_t key = 0; key < received.size(); ++key) {
      EXPECT_EQ(received[key], received_wanted[key]) << "key " << key;  // whole numbers
    }
  }
}

TEST(MapSummaryTest, RowsThatSawNothingDoNotCount) {
  testing::Rng rng = testing::MakeRng(1);
  TestTiles tiles(rng, 3, 0, 20);
  for (int64_t key = 0; key < 20; ++key) tiles.Set(1, key, 0.0f);
  RowSums of_rows(tiles, 3);
  SummarySums all, without;
  std::vector<float> received(20, 0.0f), received_without(20, 0.0f);
  const auto add = [&](int64_t first_row, int64_t end_row, SummarySums& sums, std::vector<float>& mass) {
    AddToSummary(tiles.get(), {first_row, end_row, 0, 20, of_rows.sums.data(), of_rows.exponent_sums.data()},
                 sums, mass.data());
  };
  add(0, 3, all, received);
  add(0, 1, without, received_without);
  add(2, 3, without, received_without);
  EXPECT_EQ(all.num_queries, 2);
  EXPECT_EQ(received, received_without);
  for (int statistic = 0; statistic < kNumHeadStatistics; ++statistic) {
    EXPECT_NEAR(all.statistics[statistic], without.statistics[statistic],
                64 * kSummaryUnit * (std::abs(without.statistics[statistic]) + 1))
        << statistic;
  }
}

}  // namespace
}  // namespace headlight
