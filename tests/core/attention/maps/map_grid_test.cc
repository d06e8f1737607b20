// SPDX-License-Identifier: Apache-2.0
//
// Cells of exponentials that are whole numbers, so that sums are exact, against plain loops.
#include "core/attention/maps/map_grid.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>
#include <utility>
#include <vector>

#include "core/simd/targets.h"
#include "tests/core/testing/effort.h"

namespace headlight {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatEq;
using testing::UniformInt;

constexpr float kGarbage = std::numeric_limits<float>::quiet_NaN();
constexpr int64_t kTileStride = 544;

TEST(GridCellsTest, TakeEveryPlaceOnceAsEvenlyAsCanBe) {
  for (int64_t length = 1; length <= 200; ++length) {
    for (const int64_t count : {int64_t{1}, (length + 1) / 2, std::min<int64_t>(length, 64)}) {
      const GridCells cells = {std::min(count, kMaxGridCells), length};
      EXPECT_EQ(cells.Begin(0), 0);
      EXPECT_EQ(cells.End(cells.count - 1), length);
      for (int64_t cell = 0; cell < cells.count; ++cell) {
        EXPECT_GE(cells.Width(cell), length / cells.count);
        EXPECT_LE(cells.Width(cell), length / cells.count + 1);
        EXPECT_EQ(cells.CellOf(cells.Begin(cell)), cell);
        EXPECT_EQ(cells.CellOf(cells.End(cell) - 1), cell);
      }
    }
  }
}

class CellSumsTest : public ::testing::Test {
 protected:
  CellSumsTest() { MatchSimdToOneDnn(); }  // as whoever makes a kernel does

  // Rows of whole numbers, of one tile of keys.
  std::vector<float> RandomRows(int64_t rows, int64_t keys) {
    std::vector<float> exponentials(rows * kTileStride, kGarbage);  // what is behind the keys does not count
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t key = 0; key < keys; ++key) {
        exponentials[row * kTileStride + key] = static_cast<float>(UniformInt(rng_, 0, 100));
      }
    }
    return exponentials;
  }

  testing::Rng rng_ = testing::MakeRng(0);
  std::vector<float> memory_ = std::vector<float>(2 * kQueryBlockRows * kMaxGridCells, kGarbage);
};

TEST_F(CellSumsTest, AreThePlainSums) {
  for (int i = 0; i < 200; ++i) {
    const int64_t rows = UniformInt(rng_, 1, 9);
    const int64_t keys = UniformInt(rng_, 1, 900);
    const GridCells cells = {UniformInt(rng_, 1, std::min(keys, kMaxGridCells)), keys};
    // Keys before `first` are not seen; those from it on in tiles that end at multiples of 512.
    const int64_t first = i % 3 == 0 ? UniformInt(rng_, 0, keys - 1) : 0;
    SCOPED_TRACE(::testing::Message()
                 << rows << " rows, keys [" << first << ", " << keys << ") in " << cells.count << " cells");
    CellSums sums;
    const KeyCells key_cells(cells);
    sums.SetUp(&key_cells, memory_.data());
    sums.Begin(rows);
    const std::vector<float> references(rows, 1.0f);
    std::vector<double> wanted(rows * cells.count, 0.0);
    for (int64_t begin = first; begin < keys; begin = (begin / kKeyTile + 1) * kKeyTile) {
      const int64_t end = std::min(keys, (begin / kKeyTile + 1) * kKeyTile);
      const std::vector<float> e = RandomRows(rows, end - begin);
      sums.Add(RowsOfExponentials<float>{e.data(), kTileStride, rows, begin, end}, references.data());
      for (int64_t row = 0; row < rows; ++row) {
        for (int64_t key = begin; key < end; ++key) {
          wanted[row * cells.count + cells.CellOf(key)] += e[row * kTileStride + key - begin];
        }
      }
    }
    const int64_t first_row = UniformInt(rng_, 0, rows - 1), end_row = UniformInt(rng_, first_row + 1, rows);
    std::vector<float> factors(RoundUp(rows, 4), kGarbage), got(cells.count);
    for (int64_t row = first_row; row < end_row; ++row) factors[row] = static_cast<float>(1 << row % 4);
    sums.SumOver(first_row, end_row, factors.data(), got.data());
    for (int64_t cell = 0; cell < cells.count; ++cell) {
      double sum = 0;
      for (int64_t row = first_row; row < end_row; ++row) {
        sum += wanted[row * cells.count + cell] * (1 << row % 4);
      }
      EXPECT_EQ(got[cell], sum) << "cell " << cell;
    }
  }
}

TEST_F(CellSumsTest, FollowTheReferencesOfTheirRows) {
  const KeyCells cells({2, 4});
  CellSums sums;
  sums.SetUp(&cells, memory_.data());
  sums.Begin(2);
  const std::vector<float> e(2 * kTileStride, 1.0f), ones(4, 1.0f);
  const RowsOfExponentials<float> rows = {e.data(), kTileStride, 2, 0, 4};
  const float minus_infinity = -std::numeric_limits<float>::infinity();
  sums.Add(rows, std::vector<float>{3.0f, 3.0f}.data());
  sums.Add(rows, std::vector<float>{3.0f, 5.0f}.data());
  float of_first[2], of_second[2];
  sums.SumOver(0, 1, ones.data(), of_first);
  sums.SumOver(1, 2, ones.data(), of_second);
  EXPECT_THAT(of_first, ElementsAre(4.0f, 4.0f));
  EXPECT_THAT(of_second, ElementsAre(2.5f, 2.5f));
  CellSums others;
  others.SetUp(&cells, memory_.data() + kQueryBlockRows * kMaxGridCells);
  others.Begin(1);
  const std::vector<float> none(kTileStride, 0.0f);
  others.Add(RowsOfExponentials<float>{none.data(), kTileStride, 1, 0, 2},
             &minus_infinity);  // saw nothing yet
  others.Add(RowsOfExponentials<float>{e.data(), kTileStride, 1, 2, 4}, ones.data());
  sums.Replace(1, others, 0);
  sums.SumOver(0, 2, ones.data(), of_first);
  EXPECT_THAT(of_first, ElementsAre(4.0f, 6.0f));
}

// A row that is not a number is none of the others' business.
TEST_F(CellSumsTest, RowsStayApart) {
  const KeyCells cells({1, 4});
  CellSums sums;
  sums.SetUp(&cells, memory_.data());
  sums.Begin(3);
  std::vector<float> e(3 * kTileStride, 1.0f);
  e[kTileStride] = kGarbage;
  sums.Add(RowsOfExponentials<float>{e.data(), kTileStride, 3, 0, 4}, std::vector<float>(3, 0.0f).data());
  const std::vector<float> ones(4, 1.0f);
  for (int64_t row = 0; row < 3; ++row) {
    float sum;
    sums.SumOver(row, row + 1, ones.data(), &sum);
    EXPECT_EQ(std::isnan(sum), row == 1) << row;
  }
}

// Cells of 113 and 114 queries in blocks of 64: shared by two and by three of them.
TEST(FinishGridTest, AddsUpTheRowsOfCellsThatBlocksShare) {
  const std::vector<QueryBlock> blocks = {{0, 0, 64}, {0, 64, 64}, {0, 128, 64}, {0, 192, 36}};
  float data[4] = {-1.0f, -1.0f, -1.0f, -1.0f};
  WeightsSink sink = {.mode = WeightsSink::Mode::kGrid, .data = data, .query_stride = 2};
  sink.query_begin = 1;
  sink.query_end = 228;
  sink.grid_rows = 2;                  // queries 1 to 113, and 114 to 227
  sink.grid_cols = 2;                  // keys 0, 1 and 2
  constexpr int64_t kFirstQuery = 70;  // of the group
  std::vector<float> parts(GridPlaces(kFirstQuery + 228) * 2 * kMaxGridCells, kGarbage);
  const auto leave = [&](int64_t block, bool began_before, float first, float second) {
    float* const part = GridPart(parts.data(), kFirstQuery + blocks[block].first_query, began_before);
    EXPECT_TRUE(std::isnan(part[0])) << "another block's";
    part[0] = first;
    part[1] = second;
  };
  leave(0, false, 100.0f, 200.0f);
  leave(1, true, 13.0f, 26.0f);
  leave(1, false, 28.0f, 56.0f);
  leave(2, true, 128.0f, 256.0f);
  leave(3, true, 72.0f, 144.0f);
  FinishGrid(sink, /*q_len=*/228, /*num_keys=*/3, blocks, kFirstQuery, parts.data(), data);
  // Sums times the inverse of their number of weights.
  EXPECT_THAT(data, ElementsAre(FloatEq(1.0f), FloatEq(1.0f), FloatEq(2.0f), FloatEq(2.0f)));
}

// Of any sequences side by side.
TEST(GridPartTest, IsOfOneBlockAlone) {
  testing::Rng rng = testing::MakeRng(0);
  for (int i = 0; i < 100; ++i) {
    int64_t queries = 0;
    std::set<const float*> taken;
    std::vector<float> parts;
    std::vector<std::pair<int64_t, bool>> wanted;  // first query and which part
    for (int sequence = 0; sequence < 6; ++sequence) {
      const int64_t length = UniformInt(rng, 1, 300), rows = i % 2 == 0 ? 64 : 128;
      for (int64_t query = 0; query < length; query += rows) {
        if (query > 0) wanted.emplace_back(queries + query, true);
        if (query + rows < length) wanted.emplace_back(queries + query, false);
      }
      queries += length;
    }
    parts.resize(GridPlaces(queries) * 2 * kMaxGridCells);
    for (const auto& [first_query, began_before] : wanted) {
      const float* const part = GridPart(parts.data(), first_query, began_before);
      EXPECT_TRUE(taken.insert(part).second) << "query " << first_query;
      EXPECT_LE(part + kMaxGridCells, parts.data() + parts.size());
    }
  }
}

}  // namespace
}  // namespace headlight
