// SPDX-License-Identifier: Apache-2.0
#include "core/model/pooling.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace headlight {
namespace {

// Three sequences of 1, 4 and 2 tokens, 70 columns wide: more than are summed at once.
class PoolSequencesTest : public ::testing::Test {
 protected:
  static constexpr int64_t kCols = 70;
  static constexpr int64_t kStride = 75;

  PoolSequencesTest() : hidden_(7 * kStride, 1e9f) {
    for (int64_t row = 0; row < 7; ++row) {
      for (int64_t col = 0; col < kCols; ++col) hidden_[row * kStride + col] = Hidden(row, col);
    }
  }
  // Multiples of 4, so that means of 4 are whole.
  static float Hidden(int64_t row, int64_t col) {
    return static_cast<float>(4 * ((row * 31 + col * 7) % 23 - 11));
  }

  std::vector<float> Pool(Pooling pooling, bool normalize) const {
    std::vector<float> out(3 * kCols);
    PoolSequences({hidden_.data(), 7, kCols, kStride}, cu_lens_, pooling, normalize,
                  {out.data(), 3, kCols, kCols});
    return out;
  }

  const std::vector<int64_t> cu_lens_ = {0, 1, 5, 7};
  std::vector<float> hidden_;
};

TEST_F(PoolSequencesTest, ClsIsTheFirstToken) {
  const std::vector<float> out = Pool(Pooling::kCls, false);
  for (int64_t i = 0; i < 3; ++i) {
    for (int64_t col = 0; col < kCols; ++col) EXPECT_EQ(out[i * kCols + col], Hidden(cu_lens_[i], col));
  }
}

TEST_F(PoolSequencesTest, MeanIsOverTheTokensOfTheSequence) {
  const std::vector<float> out = Pool(Pooling::kMean, false);
  for (int64_t i = 0; i < 3; ++i) {
    for (int64_t col = 0; col < kCols; ++col) {
      float sum = 0.0f;
      for (int64_t row = cu_lens_[i]; row < cu_lens_[i + 1]; ++row) sum += Hidden(row, col);
      EXPECT_EQ(out[i * kCols + col], sum / static_cast<float>(cu_lens_[i + 1] - cu_lens_[i]));
    }
  }
}

TEST_F(PoolSequencesTest, NormalizedVectorsHaveLengthOneAndTheSameDirection) {
  for (const Pooling pooling : {Pooling::kCls, Pooling::kMean}) {
    const std::vector<float> plain = Pool(pooling, false), unit = Pool(pooling, true);
    for (int64_t i = 0; i < 3; ++i) {
      double squares = 0;
      for (int64_t col = 0; col < kCols; ++col) squares += std::pow(plain[i * kCols + col], 2.0);
      for (int64_t col = 0; col < kCols; ++col) {
        const double wanted = plain[i * kCols + col] / std::sqrt(squares);
        EXPECT_NEAR(unit[i * kCols + col], wanted, 0x1p-24 * std::abs(wanted) * 1.001);  // one rounding
      }
    }
  }
}

TEST_F(PoolSequencesTest, ARowOfZerosStays) {
  std::fill_n(hidden_.data() + 1 * kStride, kCols, 0.0f);
  const std::vector<float> out = Pool(Pooling::kCls, true);
  for (int64_t col = 0; col < kCols; ++col) EXPECT_EQ(out[kCols + col], 0.0f);
}

TEST_F(PoolSequencesTest, ASequencesVectorDependsOnThatSequenceAlone) {
  const std::vector<float> together = Pool(Pooling::kMean, true);
  for (int64_t i = 0; i < 3; ++i) {
    const std::vector<int64_t> cu_lens = {0, cu_lens_[i + 1] - cu_lens_[i]};
    std::vector<float> alone(kCols);
    PoolSequences({hidden_.data() + cu_lens_[i] * kStride, cu_lens[1], kCols, kStride}, cu_lens,
                  Pooling::kMean, true, {alone.data(), 1, kCols, kCols});
    EXPECT_EQ(alone, std::vector<float>(together.begin() + i * kCols, together.begin() + (i + 1) * kCols));
  }
}

}  // namespace
}  // namespace headlight
