// SPDX-License-Identifier: Apache-2.0
#include "core/model/pooling.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <optional>
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
    return Pool(std::vector{pooling}, normalize, kCols);
  }
  std::vector<float> Pool(const std::vector<Pooling>& poolings, bool normalize, int64_t dim) const {
    std::vector<float> out(3 * dim);
    PoolSequences({hidden_.data(), 7, kCols, kStride}, cu_lens_, poolings, normalize,
                  {out.data(), 3, dim, dim});
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

TEST_F(PoolSequencesTest, LastIsTheLastTokenAndMaxTheLargestOfEachColumn) {
  const std::vector<float> last = Pool(Pooling::kLast, false), max = Pool(Pooling::kMax, false);
  for (int64_t i = 0; i < 3; ++i) {
    for (int64_t col = 0; col < kCols; ++col) {
      EXPECT_EQ(last[i * kCols + col], Hidden(cu_lens_[i + 1] - 1, col));
      float largest = Hidden(cu_lens_[i], col);
      for (int64_t row = cu_lens_[i]; row < cu_lens_[i + 1]; ++row)
        largest = std::max(largest, Hidden(row, col));
      EXPECT_EQ(max[i * kCols + col], largest);
    }
  }
}

TEST_F(PoolSequencesTest, NoNumberIsLargerThanNaN) {
  hidden_[2 * kStride] = NAN;
  EXPECT_TRUE(std::isnan(Pool(Pooling::kMax, false)[kCols]));
}

TEST_F(PoolSequencesTest, SumsAreDividedByTheRootOfTheLengthOrByTheirWeights) {
  const std::vector<float> root = Pool(Pooling::kMeanSqrtLen, false);
  const std::vector<float> weighted = Pool(Pooling::kWeightedMean, false);
  for (int64_t i = 0; i < 3; ++i) {
    const double n = static_cast<double>(cu_lens_[i + 1] - cu_lens_[i]);
    for (int64_t col = 0; col < kCols; ++col) {
      double sum = 0, weighted_sum = 0;
      for (int64_t row = cu_lens_[i]; row < cu_lens_[i + 1]; ++row) {
        sum += Hidden(row, col);
        weighted_sum += static_cast<double>(row - cu_lens_[i] + 1) * Hidden(row, col);
      }
      EXPECT_EQ(root[i * kCols + col], static_cast<float>(sum / std::sqrt(n)));
      EXPECT_EQ(weighted[i * kCols + col], static_cast<float>(weighted_sum / (n * (n + 1) / 2)));
    }
  }
}

TEST_F(PoolSequencesTest, SeveralStandSideBySideAndAreNormalizedAsOne) {
  const std::vector<Pooling> both = {Pooling::kLast, Pooling::kMean};
  const std::vector<float> plain = Pool(both, false, 2 * kCols);
  const std::vector<float> last = Pool(Pooling::kLast, false), mean = Pool(Pooling::kMean, false);
  for (int64_t col = 0; col < kCols; ++col) {
    EXPECT_EQ(plain[2 * kCols + col], last[kCols + col]);
    EXPECT_EQ(plain[3 * kCols + col], mean[kCols + col]);
  }
  const std::vector<float> unit = Pool(both, true, 2 * kCols);
  double squares = 0;
  for (int64_t col = 0; col < 2 * kCols; ++col) squares += std::pow(unit[col], 2.0);
  EXPECT_NEAR(squares, 1.0, 0x1p-22);
}

// What Matryoshka models are asked for: fewer numbers, and the norm is that of those.
TEST_F(PoolSequencesTest, TheFirstNumbersAreKept) {
  const std::vector<Pooling> both = {Pooling::kLast, Pooling::kMean};
  for (const int64_t dim : {int64_t{1}, kCols - 3, kCols, kCols + 5}) {
    const std::vector<float> cut = Pool(both, false, dim), whole = Pool(both, false, 2 * kCols);
    for (int64_t col = 0; col < dim; ++col) EXPECT_EQ(cut[dim + col], whole[2 * kCols + col]);
    const std::vector<float> unit = Pool(both, true, dim);
    double squares = 0;
    for (int64_t col = 0; col < dim; ++col) squares += std::pow(unit[dim + col], 2.0);
    EXPECT_NEAR(squares, 1.0, 0x1p-22);
  }
}

TEST(PoolingNamesTest, AreReadBack) {
  for (const Pooling pooling : {Pooling::kCls, Pooling::kMean, Pooling::kMax, Pooling::kMeanSqrtLen,
                                Pooling::kWeightedMean, Pooling::kLast}) {
    EXPECT_EQ(PoolingNamed(Name(pooling)), pooling);
  }
  EXPECT_EQ(PoolingNamed("median"), std::nullopt);
  EXPECT_EQ(Names({}), "none");
  EXPECT_EQ(Names({{Pooling::kMean, Pooling::kLast}}), "mean,last");
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
                  {{Pooling::kMean}}, true, {alone.data(), 1, kCols, kCols});
    EXPECT_EQ(alone, std::vector<float>(together.begin() + i * kCols, together.begin() + (i + 1) * kCols));
  }
}

}  // namespace
}  // namespace headlight
