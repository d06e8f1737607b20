// SPDX-License-Identifier: Apache-2.0
//
// The largest weights of rows of any length against a stable sort. That kernels ask for the right rows is in
// map_writer_test.cc.
#include "core/attention/maps/map_top_k.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "tests/core/testing/effort.h"
#include "tests/core/testing/test_tiles.h"

namespace headlight {
namespace {

using testing::MakeRng;
using testing::Rng;
using testing::TestTiles;
using testing::UniformInt;

constexpr float kUntouched = -7.0f;

// What SelectTopK promises for a row, by a stable sort of all its weights.
std::vector<int32_t> LargestKeys(const TestTiles& tiles, int64_t row, int64_t k) {
  std::vector<int32_t> keys;
  for (int64_t key = tiles.get().first_key; key < tiles.get().end_key; ++key) {
    if (tiles.Weight(row, key) > 0.0f) keys.push_back(static_cast<int32_t>(key));
  }
  std::stable_sort(keys.begin(), keys.end(),
                   [&](int32_t a, int32_t b) { return tiles.Weight(row, a) > tiles.Weight(row, b); });
  keys.resize(k, -1);
  return keys;
}

void ExpectLargest(const TestTiles& tiles, int64_t rows, int64_t k) {
  const int64_t stride = k + 3;
  std::vector<float> weights(rows * stride, kUntouched);
  std::vector<int32_t> keys(rows * stride, static_cast<int32_t>(kUntouched));
  const int64_t first_row = rows / 3;
  SelectTopK(tiles.get(), first_row, rows, {k, weights.data(), keys.data(), stride});
  for (int64_t row = first_row; row < rows; ++row) {
    const std::vector<int32_t> expected = LargestKeys(tiles, row, k);
    for (int64_t i = 0; i < stride; ++i) {
      const int64_t at = (row - first_row) * stride + i;
      const bool is_rank = i < k;
      const int32_t key = is_rank ? expected[i] : static_cast<int32_t>(kUntouched);
      ASSERT_EQ(keys[at], key) << "row " << row << " of " << rows << ", the " << i << "th of " << k;
      ASSERT_EQ(weights[at], !is_rank ? kUntouched : key < 0 ? 0.0f : tiles.Weight(row, key));
    }
  }
}

TEST(WeightTopKTest, SelectsAsAStableSortDoes) {
  Rng rng = MakeRng(0);
  std::vector<int64_t> lengths(150);
  std::iota(lengths.begin(), lengths.end(), 1);
  lengths.insert(lengths.end(), {511, 512, 513, 576, 1100, 4096, 4111, 5000});
  for (const int64_t length : lengths) {
    const int64_t first_key = 64 * UniformInt(rng, 0, 3);
    for (const int64_t most : {0, 1, 6, 1000, 1000000}) {  // fewer values make more of them equal
      const int64_t rows = UniformInt(rng, 1, 12);
      const TestTiles tiles(rng, rows, first_key, first_key + length, 0, most);
      for (const int64_t k : {1, 5, 8, 9, 32, 33}) {
        SCOPED_TRACE(::testing::Message() << length << " keys from " << first_key << ", values to " << most);
        ASSERT_NO_FATAL_FAILURE(ExpectLargest(tiles, rows, k));
      }
    }
  }
}

// 512 groups of 64 keys and one more: what is kept of a row has an end.
TEST(WeightTopKTest, SelectsFromRowsLongerThanItsNotes) {
  Rng rng = MakeRng(1);
  for (const int64_t length : {32767, 32768, 32769, 40000}) {
    for (const int64_t most : {1, 1000000}) {
      const TestTiles tiles(rng, 3, 0, length, 0, most);
      ASSERT_NO_FATAL_FAILURE(ExpectLargest(tiles, 3, 8)) << length << " keys, values to " << most;
    }
  }
}

TEST(WeightTopKTest, LeavesOutWhatIsNoNumber) {
  Rng rng = MakeRng(2);
  for (const int64_t length : {40, 700}) {
    TestTiles tiles(rng, 9, 0, length, 1, 100);
    for (int64_t key = 3; key < length; key += 7) tiles.Set(4, key, NAN);
    ASSERT_NO_FATAL_FAILURE(ExpectLargest(tiles, 9, 8)) << length << " keys";
  }
}

}  // namespace
}  // namespace headlight
