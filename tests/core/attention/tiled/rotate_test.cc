// SPDX-License-Identifier: Apache-2.0
//
// Numbers, cosines and sines are small and whole here, so that every rotation is exact.
#include "core/attention/tiled/rotate.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "core/simd/targets.h"

namespace headlight {
namespace {

constexpr float kUnrotated = -77.0f;  // between and behind the rows

// Rows `cols` wide, `stride` apart.
struct RotatedRows {
  RotatedRows(int64_t rows, int64_t cols, int64_t stride) : rows(rows), cols(cols), stride(stride) {
    MatchSimdToOneDnn();
    numbers.assign(rows * stride, kUnrotated);
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t col = 0; col < cols; ++col)
        At(row, col) = static_cast<float>((row * 7 + col * 5) % 17 - 8);
    }
  }
  float& At(int64_t row, int64_t col) { return numbers[row * stride + col]; }
  MutableMatrixView view() { return {numbers.data(), rows, cols, stride}; }

  int64_t rows, cols, stride;
  std::vector<float> numbers;
};

struct WholeAngles {
  WholeAngles(int64_t rows, int64_t num_pairs, bool interleaved)
      : cos(rows * num_pairs),
        sin(rows * num_pairs),
        rotation{cos.data(), sin.data(), num_pairs, interleaved} {
    for (size_t i = 0; i < cos.size(); ++i) {
      cos[i] = static_cast<float>(i % 5) - 2.0f;
      sin[i] = static_cast<float>(i % 3) + 1.0f;
    }
  }
  std::vector<float> cos, sin;
  Rotation rotation;
};

// What FinishRows must make of `in`, pair by pair.
RotatedRows RotatedPlainly(RotatedRows in, const Rotation& rotation) {
  for (int64_t row = 0; row < in.rows; ++row) {
    for (int64_t pair = 0; pair < rotation.num_pairs; ++pair) {
      float& first = in.At(row, rotation.interleaved ? 2 * pair : pair);
      float& second = in.At(row, rotation.interleaved ? 2 * pair + 1 : pair + rotation.num_pairs);
      const float c = rotation.cos[row * rotation.num_pairs + pair];
      const float s = rotation.sin[row * rotation.num_pairs + pair];
      const float a = first, b = second;
      first = a * c - b * s;
      second = a * s + b * c;
    }
  }
  return in;
}

class FinishRowsTest : public ::testing::TestWithParam<bool> {};  // interleaved or not

INSTANTIATE_TEST_SUITE_P(Pairs, FinishRowsTest, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "interleaved" : "halves"; });

TEST_P(FinishRowsTest, TurnsTheLeadingDimensionsInPlace) {
  for (const int64_t num_pairs : {1, 7, 16, 20, 32}) {
    const WholeAngles angles(5, num_pairs, GetParam());
    RotatedRows rows(5, 64, 64 + 3);
    const RotatedRows wanted = RotatedPlainly(rows, angles.rotation);
    FinishRows(rows.view(), {}, angles.rotation, rows.view());
    EXPECT_EQ(rows.numbers, wanted.numbers) << num_pairs << " pairs";
  }
}

TEST_P(FinishRowsTest, WritesElsewhereWhatItLeavesInPlace) {
  const WholeAngles angles(3, 9, GetParam());
  RotatedRows rows(3, 32, 35);
  const RotatedRows wanted = RotatedPlainly(rows, angles.rotation);
  std::vector<float> out(3 * 40, kUnrotated);
  FinishRows(rows.view(), {}, angles.rotation, {out.data(), 3, 32, 40});
  EXPECT_EQ(rows.numbers, wanted.numbers);
  for (int64_t row = 0; row < 3; ++row) {
    for (int64_t col = 0; col < 40; ++col) {
      EXPECT_EQ(out[row * 40 + col], col < 32 ? rows.At(row, col) : kUnrotated) << row << ", " << col;
    }
  }
}

TEST_P(FinishRowsTest, RoundsToBf16AfterTurning) {
  const WholeAngles angles(3, 9, GetParam());
  RotatedRows rows(3, 32, 35);
  RotatedRows wanted = RotatedPlainly(rows, angles.rotation);
  std::vector<Bf16> out(3 * 40, ToBf16(kUnrotated));
  FinishRows(rows.view(), {}, angles.rotation, BasicMatrixView<Bf16>{out.data(), 3, 32, 40});
  for (int64_t row = 0; row < 3; ++row) {
    for (int64_t col = 0; col < 40; ++col) {
      EXPECT_EQ(ToFloat(out[row * 40 + col]), col < 32 ? wanted.At(row, col) : kUnrotated);
    }
  }
}

TEST(FinishRowsWithoutARotationTest, CopiesAndRoundsToNearestEven) {
  RotatedRows rows(2, 16, 16);
  rows.numbers[0] = 1.0f + 0x1p-8f;      // between two, of which the lower one is even
  rows.numbers[1] = 1.0f + 3 * 0x1p-8f;  // between two, of which the upper one is
  rows.numbers[2] = 1.0f + 0x1.01p-8f;   // above the middle
  rows.numbers[3] = -std::numeric_limits<float>::infinity();
  const RotatedRows before = rows;
  std::vector<float> copy(32);
  std::vector<Bf16> rounded(32);
  FinishRows(rows.view(), {}, {}, {copy.data(), 2, 16, 16});
  FinishRows(rows.view(), {}, {}, BasicMatrixView<Bf16>{rounded.data(), 2, 16, 16});
  EXPECT_EQ(copy, before.numbers);
  EXPECT_EQ(rows.numbers, before.numbers);
  for (size_t i = 0; i < 32; ++i) EXPECT_EQ(rounded[i].bits, ToBf16(before.numbers[i]).bits) << i;
  EXPECT_EQ(ToFloat(rounded[0]), 1.0f);
  EXPECT_EQ(ToFloat(rounded[1]), 1.0f + 0x1p-6f);
}

TEST(ClearRowsNotFiniteTest, ClearsAndNamesThoseRowsAlone) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const float sick : {std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity}) {
    for (int64_t col = 0; col < 48; ++col) {
      RotatedRows rows(64, 48, 50);
      RotatedRows wanted = rows;
      for (const int64_t row : {0, 1, 31, 40, 63}) {
        rows.At(row, (col + row) % 48) = sick;
        for (int64_t i = 0; i < 48; ++i) wanted.At(row, i) = 0.0f;
      }
      const uint64_t cleared = ClearRowsNotFinite(rows.view());
      ASSERT_EQ(cleared, uint64_t{1} << 0 | uint64_t{1} << 1 | uint64_t{1} << 31 | uint64_t{1} << 40 |
                             uint64_t{1} << 63);
      ASSERT_EQ(rows.numbers, wanted.numbers);
    }
  }
}

TEST(ClearRowsNotFiniteTest, TheLargestNumbersAreFiniteAndWhatLiesBetweenRowsDoesNotCount) {
  RotatedRows rows(3, 16, 20);
  rows.At(1, 3) = std::numeric_limits<float>::max();
  rows.At(1, 4) = -std::numeric_limits<float>::max();
  rows.At(2, 0) = std::numeric_limits<float>::denorm_min();
  rows.numbers[17] = std::numeric_limits<float>::infinity();
  const RotatedRows before = rows;
  EXPECT_EQ(ClearRowsNotFinite(rows.view()), 0u);
  EXPECT_EQ(rows.numbers, before.numbers);
}

}  // namespace
}  // namespace headlight
