// SPDX-License-Identifier: Apache-2.0
//
// Exponentials to make weights of, without a kernel that computes them.
#ifndef HEADLIGHT_TESTS_CORE_TESTING_TEST_TILES_H_
#define HEADLIGHT_TESTS_CORE_TESTING_TEST_TILES_H_

#include <cstdint>
#include <vector>

#include "core/attention/maps/map_rows.h"
#include "core/simd/targets.h"
#include "tests/core/testing/effort.h"

namespace headlight::testing {

// Exponentials of a few rows, as a block leaves them: whole numbers from `least` to `most`, with factors that
// are powers of two.
class TestTiles {
 public:
  TestTiles(Rng& rng, int64_t rows, int64_t first_key, int64_t end_key, int64_t least = 1,
            int64_t most = 1000)
      : exponentials_((end_key - first_key + 2 * kKeyTile) / kKeyTile * rows * kRowStride, 0.0f) {
    tiles_ = {.exponentials = exponentials_.data(),
              .tile_stride = rows * kRowStride,
              .row_stride = kRowStride,
              .first_key = first_key,
              .end_key = end_key};
    MatchSimdToOneDnn();  // as whoever makes a kernel does
    factors_.resize((tiles_.num_tiles() + 1) * kQueryBlockRows);
    tiles_.factors = factors_.data();
    for (int64_t tile = 0; tile < tiles_.num_tiles(); ++tile) {
      for (int64_t row = 0; row < rows; ++row) {
        factors_[tile * kQueryBlockRows + row] = static_cast<float>(1 << UniformInt(rng, 0, 3));
        float* const e = exponentials_.data() + tile * tiles_.tile_stride + row * kRowStride;
        for (int64_t key = 0; key < tiles_.NumKeys(tile); ++key) {
          e[key] = static_cast<float>(UniformInt(rng, least, most));
        }
      }
    }
  }

  const WeightTiles<float>& get() const { return tiles_; }

  void Set(int64_t row, int64_t key, float exponential) {
    const int64_t tile = tiles_.TileOf(key);
    exponentials_[tile * tiles_.tile_stride + row * kRowStride + key - tiles_.FirstKey(tile)] = exponential;
  }

  float Weight(int64_t row, int64_t key) const {
    if (key < tiles_.first_key || key >= tiles_.end_key) return 0.0f;
    const int64_t tile = tiles_.TileOf(key);
    return tiles_.Row(tile, row)[key - tiles_.FirstKey(tile)] * tiles_.Factor(tile, row);
  }

 private:
  static constexpr int64_t kRowStride = kKeyTile + 32;

  std::vector<float> exponentials_;
  std::vector<float> factors_;
  WeightTiles<float> tiles_;
};

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_CORE_TESTING_TEST_TILES_H_
