// SPDX-License-Identifier: Apache-2.0
//
// Against plain loops in double.
#include "core/attention/tiled/softmax.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>
#include <string>
#include <type_traits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/core/testing/effort.h"

namespace headlight {
namespace {

constexpr double kMinusInf = -std::numeric_limits<double>::infinity();
constexpr float kNotComputed = -7.0f;
constexpr int64_t kHeadCols = 32;  // of acc

float AsNumber(float value) { return value; }
float AsNumber(Bf16 value) { return ToFloat(value); }

// The state of some rows, and the memory that it points to.
struct OwnedState {
  OwnedState(int64_t rows, bool exact)
      : reference(rows, kNotComputed),
        sum(rows * kLanes, kNotComputed),
        exponent_sum(rows * kLanes, kNotComputed),
        acc(rows * kHeadCols, kNotComputed),
        state{reference.data(),
              sum.data(),
              {acc.data(), rows, kHeadCols, kHeadCols},
              exponent_sum.data(),
              exact} {
    MatchSimdToOneDnn();
    BeginSoftmax(state, rows);
  }
  OwnedState(const OwnedState&) = delete;

  static double Total(const std::vector<float>& partial, int64_t row) {
    double total = 0;
    for (int64_t lane = 0; lane < kLanes; ++lane) total += static_cast<double>(partial[row * kLanes + lane]);
    return total;
  }

  std::vector<float> reference, sum, exponent_sum, acc;
  SoftmaxState state;
};

TEST(BeginSoftmaxTest, HasSeenNothing) {
  const OwnedState begun(3, false);
  EXPECT_EQ(begun.reference, std::vector<float>(3, -std::numeric_limits<float>::infinity()));
  EXPECT_EQ(begun.sum, std::vector<float>(3 * kLanes, 0.0f));
  EXPECT_EQ(begun.exponent_sum, std::vector<float>(3 * kLanes, 0.0f));
  EXPECT_EQ(begun.acc, std::vector<float>(3 * kHeadCols, 0.0f));
}

// What the rules make of one score: in units of log2, how far it may be off, and what it is before biases by
// position and mask, -inf where forbidden.
struct PlainScore {
  double score = 0;
  double error = 0;
  double before_bias = 0;
};

PlainScore ScorePlainly(const ScoreRules& rules, double raw, int64_t query, int64_t key) {
  constexpr double kUnit = 0x1p-24;
  PlainScore plain;
  plain.score = rules.softcap == 0.0f ? raw : rules.softcap * std::tanh(raw);
  // The tanh is off by 2^-21 at most, the product rounds.
  if (rules.softcap != 0.0f) plain.error = rules.softcap * (0x1p-21 + kUnit);
  plain.before_bias = plain.score;
  if (key >= rules.kv_len) return plain;  // an appended one
  const KeyRange visible = VisibleKeys(rules.visibility, query, rules.q_len, rules.kv_len);
  bool allowed = key >= visible.begin && key < visible.end;
  double magnitude = std::abs(plain.score);
  const int64_t place = rules.head * rules.mask.head_stride + query * rules.mask.query_stride + key;
  if (!rules.mask.empty() && rules.mask.dtype == DType::kBool) {
    allowed = allowed && static_cast<const char*>(rules.mask.data)[place] != 0;
  } else if (!rules.mask.empty()) {
    float term;
    std::memcpy(&term, static_cast<const char*>(rules.mask.data) + place * sizeof(float), sizeof(term));
    allowed = allowed && term != static_cast<float>(kMinusInf);
    const double scaled = static_cast<double>(term) * std::numbers::log2e;
    plain.score += scaled;
    magnitude += std::abs(scaled);
  }
  const double distance = static_cast<double>(std::abs(key - (query + rules.kv_len - rules.q_len)));
  plain.score -= rules.alibi_slope * distance;
  magnitude += rules.alibi_slope * distance;
  // Two products and two sums, and log2(e) itself.
  plain.error += 5 * kUnit * magnitude;
  if (!allowed) plain.score = plain.before_bias = kMinusInf;
  return plain;
}

struct SoftmaxCase {
  std::string name;
  ScoreRules rules;
  bool additive = false;
  bool boolean = false;
};

std::vector<SoftmaxCase> SoftmaxCases() {
  const ScoreRules plain = {.head = 1, .q_len = 150, .kv_len = 190, .num_keys = 190};
  std::vector<SoftmaxCase> cases(9, {"plain", plain});
  cases[1].name = "causal";
  cases[1].rules.visibility.causal = true;
  cases[2].name = "window";
  cases[2].rules.visibility = {.window_left = 70, .window_right = 3};
  cases[3].name = "alibi";
  cases[3].rules.alibi_slope = 0.3f;
  cases[4].name = "softcap";
  cases[4].rules.softcap = 20.0f;
  cases[5] = {"boolean", plain, false, true};
  cases[6] = {"additive", plain, true, false};
  cases[7].name = "appended";
  cases[7].rules.num_keys = 192;
  cases[8] = {"everything", plain, true, false};
  cases[8].rules.visibility = {.causal = true, .window_left = 100};
  cases[8].rules.alibi_slope = 0.3f;
  cases[8].rules.softcap = 20.0f;
  cases[8].rules.num_keys = 191;
  return cases;
}

// A mask for two heads at an odd address: a third of the keys forbidden, and all the first 70 in some rows.
std::vector<char> MaskFor(testing::Rng& rng, SoftmaxCase& c) {
  const int64_t elements = 2 * c.rules.q_len * c.rules.kv_len;
  std::vector<char> bytes(1 + elements * sizeof(float));
  for (int64_t i = 0; i < elements; ++i) {
    const bool forbidden = testing::OneIn(rng, 3) || (i / c.rules.kv_len % 4 == 1 && i % c.rules.kv_len < 70);
    if (c.additive) {
      const float term = forbidden ? -std::numeric_limits<float>::infinity()
                                   : static_cast<float>(testing::UniformInt(rng, -20, 20)) / 8.0f;
      std::memcpy(bytes.data() + 1 + i * sizeof(float), &term, sizeof(term));
    } else {
      bytes[1 + i] = forbidden ? 0 : static_cast<char>(testing::UniformInt(rng, 1, 100));
    }
  }
  if (c.additive || c.boolean) {
    c.rules.mask = {bytes.data() + 1, c.additive ? DType::kF32 : DType::kBool, c.rules.q_len * c.rules.kv_len,
                    c.rules.kv_len};
  }
  return bytes;
}

template <typename T>
class SoftmaxTileTest : public ::testing::Test {};
using SoftmaxOperands = ::testing::Types<float, Bf16>;
TYPED_TEST_SUITE(SoftmaxTileTest, SoftmaxOperands);

// Scores are whole multiples of 1/8, so that a difference of two is exact where nothing was done to them.
TYPED_TEST(SoftmaxTileTest, IsThePlainSoftmaxTileByTile) {
  using T = TypeParam;
  constexpr double kExpError = std::is_same_v<T, float> ? 0x1p-22 : 0x1p-13;
  constexpr double kRounding = std::is_same_v<T, float> ? 0.0 : 0x1p-8;
  constexpr double kUnit = 0x1p-24;
  testing::Rng rng = testing::MakeRng(0);
  const std::vector<int64_t> queries = {0, 1, 2, 13, 80, 101, 148, 149};
  const int64_t rows = std::ssize(queries);
  for (SoftmaxCase& c : SoftmaxCases()) {
    const std::vector<char> mask = MaskFor(rng, c);
    for (const bool exact : {false, true}) {
      OwnedState owned(rows, exact);
      std::vector<double> plain_reference(rows, kMinusInf), reference_error(rows, 0.0);
      // All e and e x so far, relative to the reference of now.
      std::vector<std::vector<PlainScore>> seen(rows);
      const int64_t cuts[] = {0, 128, c.rules.num_keys};
      for (int tile = 0; tile < 2; ++tile) {
        const int64_t first_key = cuts[tile], keys = cuts[tile + 1] - first_key;
        SCOPED_TRACE(absl::StrCat(c.name, exact ? ", exact" : ", fast", ", keys from ", first_key));
        const int64_t padded = RoundUp(keys, kGranule<T>), stride = padded + 7;
        std::vector<float> scores(rows * stride, 99.0f);
        std::vector<T> probabilities(rows * stride);
        std::vector<std::vector<PlainScore>> plain(rows);
        for (int64_t row = 0; row < rows; ++row) {
          const double unit = c.rules.softcap == 0.0f ? 0.125 : 0.03125;
          for (int64_t key = 0; key < keys; ++key) {
            const double raw = unit * static_cast<double>(testing::UniformInt(rng, -64, 64));
            scores[row * stride + key] = static_cast<float>(raw);
            plain[row].push_back(ScorePlainly(c.rules, raw, queries[row], first_key + key));
          }
          // The first panel with an allowed key fixes the fast path's reference; the exact one's follows all.
          const auto raise = [&](double score, double error) {
            plain_reference[row] = std::max(plain_reference[row], score);
            reference_error[row] = std::max(reference_error[row], error);
          };
          for (int64_t panel = 0; panel < keys; panel += kReferenceKeys) {
            if (!exact && plain_reference[row] != kMinusInf) break;
            for (int64_t key = panel; key < std::min(panel + kReferenceKeys, keys); ++key) {
              raise(exact ? plain[row][key].score : plain[row][key].before_bias, plain[row][key].error);
            }
          }
          seen[row].insert(seen[row].end(), plain[row].begin(), plain[row].end());
        }
        SoftmaxTile(
            ScoreTile<T>{
                {scores.data(), rows, keys, stride}, probabilities.data(), stride, queries.data(), first_key},
            c.rules, owned.state);
        for (int64_t row = 0; row < rows; ++row) {
          SCOPED_TRACE(absl::StrCat("query ", queries[row]));
          if (plain_reference[row] == kMinusInf) {
            ASSERT_EQ(owned.reference[row], static_cast<float>(kMinusInf));
          } else {
            ASSERT_NEAR(owned.reference[row], plain_reference[row], reference_error[row] + 1e-30);
          }
          const double reference = owned.reference[row];
          for (int64_t key = 0; key < padded; ++key) {
            const float got = AsNumber(probabilities[row * stride + key]);
            if (key >= keys || plain[row][key].score == kMinusInf) {
              ASSERT_EQ(got, 0.0f) << "key " << first_key + key;
              continue;
            }
            const double wanted = std::exp2(plain[row][key].score - reference);
            const double x_error =
                plain[row][key].error + kUnit * std::abs(plain[row][key].score - reference);
            ASSERT_NEAR(got, wanted, wanted * (kExpError + kRounding + x_error)) << "key " << first_key + key;
          }
          double sum = 0, sum_error = 0, exponents = 0, exponents_error = 0;
          for (const PlainScore& score : seen[row]) {
            if (score.score == kMinusInf) continue;
            const double x = score.score - reference, e = std::exp2(x);
            // Twice the exponential's error: a raised reference multiplies by one more of them.
            const double x_error = score.error + kUnit * std::abs(x);
            const double relative =
                2 * kExpError + x_error + kUnit * static_cast<double>(std::ssize(seen[row]));
            sum += e;
            sum_error += e * relative;
            exponents += e * x;
            exponents_error += e * (std::abs(x) + 20.0) * relative + e * x_error;
          }
          ASSERT_NEAR(OwnedState::Total(owned.sum, row), sum, sum_error);
          ASSERT_NEAR(OwnedState::Total(owned.exponent_sum, row), exponents, exponents_error);
        }
      }
    }
  }
}

TYPED_TEST(SoftmaxTileTest, WhatWasSummedFollowsARisingMaximum) {
  using T = TypeParam;
  OwnedState owned(2, true);
  const int64_t queries[] = {0, 1};
  const ScoreRules rules = {.q_len = 2, .kv_len = 128, .num_keys = 128};
  std::vector<float> scores(2 * 64, 1.0f);
  std::vector<T> probabilities(2 * 64);
  SoftmaxTile(ScoreTile<T>{{scores.data(), 2, 64, 64}, probabilities.data(), 64, queries, 0}, rules,
              owned.state);
  std::fill(owned.acc.begin(), owned.acc.end(), 24.0f);
  std::fill(scores.begin(), scores.begin() + 64, 4.0f);  // row 0 rises by 3
  std::fill(scores.begin() + 64, scores.end(), -1.0f);   // row 1 does not
  SoftmaxTile(ScoreTile<T>{{scores.data(), 2, 64, 64}, probabilities.data(), 64, queries, 64}, rules,
              owned.state);
  EXPECT_EQ(owned.reference, (std::vector<float>{4.0f, 1.0f}));
  for (int64_t col = 0; col < kHeadCols; ++col) {
    EXPECT_EQ(owned.acc[col], 3.0f);
    EXPECT_EQ(owned.acc[kHeadCols + col], 24.0f);
  }
  // 64 of 2^-3 and 64 of 2^0; then 64 of 2^0 and 64 of 2^-2. Each power twice as far off as the polynomial.
  const double relative = sizeof(T) == 4 ? 0x1p-21 : 0x1p-12;
  EXPECT_NEAR(OwnedState::Total(owned.sum, 0), 72.0, 72.0 * relative);
  EXPECT_NEAR(OwnedState::Total(owned.exponent_sum, 0), -24.0, 24.0 * relative);
  EXPECT_NEAR(OwnedState::Total(owned.sum, 1), 80.0, 80.0 * relative);
  EXPECT_NEAR(OwnedState::Total(owned.exponent_sum, 1), -32.0, 32.0 * relative);
}

// Masks of -FLT_MAX in all keys of a row mean equal weights, not none.
TYPED_TEST(SoftmaxTileTest, AFiniteMaskForbidsNothing) {
  using T = TypeParam;
  OwnedState owned(1, true);
  const int64_t query = 0;
  const std::vector<float> mask(40, std::numeric_limits<float>::lowest());
  const ScoreRules rules = {
      .mask = {mask.data(), DType::kF32, 0, 40}, .q_len = 1, .kv_len = 40, .num_keys = 40};
  std::vector<float> scores(64);
  for (int64_t key = 0; key < 40; ++key) scores[key] = static_cast<float>(key);
  std::vector<T> probabilities(64);
  SoftmaxTile(ScoreTile<T>{{scores.data(), 1, 40, 64}, probabilities.data(), 64, &query, 0}, rules,
              owned.state);
  // 2^0, as the polynomial has it.
  for (int64_t key = 0; key < 40; ++key) {
    EXPECT_NEAR(AsNumber(probabilities[key]), 1.0, sizeof(T) == 4 ? 0x1p-22 : 0x1p-8 + 0x1p-13);
    EXPECT_EQ(AsNumber(probabilities[key]), AsNumber(probabilities[0]));
  }
}

TYPED_TEST(SoftmaxTileTest, ARowThatSeesNothingAddsNothing) {
  using T = TypeParam;
  for (const bool exact : {false, true}) {
    OwnedState owned(1, exact);
    const int64_t query = 0;
    const ScoreRules rules = {
        .visibility = {.window_right = 0}, .q_len = 9, .kv_len = 3, .num_keys = 3};  // stands before all keys
    std::vector<float> scores(32, 5.0f);
    std::vector<T> probabilities(32);
    SoftmaxTile(ScoreTile<T>{{scores.data(), 1, 3, 32}, probabilities.data(), 32, &query, 0}, rules,
                owned.state);
    for (const T& probability : probabilities) {
      EXPECT_EQ(AsNumber(probability), 0.0f);
    }
    EXPECT_EQ(owned.reference[0], -std::numeric_limits<float>::infinity());
    EXPECT_EQ(OwnedState::Total(owned.sum, 0), 0.0);
    EXPECT_EQ(OwnedState::Total(owned.exponent_sum, 0), 0.0);
  }
}

TYPED_TEST(SoftmaxTileTest, ExponentsChangeNothingElse) {
  using T = TypeParam;
  testing::Rng rng = testing::MakeRng(1);
  const int64_t query = 0;
  const ScoreRules rules = {.q_len = 1, .kv_len = 100, .num_keys = 100};
  std::vector<float> scores(128);
  for (float& score : scores) score = static_cast<float>(testing::UniformInt(rng, -1000, 1000)) / 77.0f;
  OwnedState with(1, false), without(1, false);
  without.state.exponent_sum = nullptr;
  std::vector<T> first(128), second(128);
  std::vector<float> copy = scores;
  SoftmaxTile(ScoreTile<T>{{scores.data(), 1, 100, 128}, first.data(), 128, &query, 0}, rules, with.state);
  SoftmaxTile(ScoreTile<T>{{copy.data(), 1, 100, 128}, second.data(), 128, &query, 0}, rules, without.state);
  EXPECT_EQ(with.sum, without.sum);
  EXPECT_EQ(with.reference, without.reference);
  EXPECT_EQ(std::memcmp(first.data(), second.data(), 128 * sizeof(T)), 0);
}

// Rows as the fast path may leave them.
struct FinishedRow {
  const char* name;
  float sum;
  float reference;
  float acc;
  bool is_unsafe;
};

const float kF32Inf = std::numeric_limits<float>::infinity();
const float kF32Nan = std::numeric_limits<float>::quiet_NaN();
const FinishedRow kFinishedRows[] = {
    {"ordinary", 3.0f, 1.0f, 2.0f, false},
    {"saw nothing", 0.0f, -kF32Inf, 0.0f, false},
    {"almost too large", std::nextafter(0x1p60f, 0.0f), 1.0f, 2.0f, false},
    {"too large", 0x1p60f, 1.0f, 2.0f, true},
    {"infinite", kF32Inf, 1.0f, 2.0f, true},
    {"almost too small", std::nextafter(0x1p-60f, 1.0f), 1.0f, 2.0f, false},
    {"too small", 0x1p-60f, 1.0f, 2.0f, true},
    {"lost all terms", 0.0f, 1.0f, 0.0f, true},
    {"NaN", kF32Nan, 1.0f, 2.0f, true},
    {"infinite values", 3.0f, 1.0f, kF32Inf, true},
    {"values of NaN", 3.0f, 1.0f, kF32Nan, true},
};
constexpr int64_t kNumFinished = std::size(kFinishedRows);

void FillFinished(OwnedState& owned) {
  for (int64_t row = 0; row < kNumFinished; ++row) {
    owned.reference[row] = kFinishedRows[row].reference;
    owned.sum[row * kLanes + row % kLanes] = kFinishedRows[row].sum;
    owned.acc[row * kHeadCols + (row * 5) % kHeadCols] = kFinishedRows[row].acc;
  }
}

TEST(FinishSumsTest, ListsTheRowsThatTheFastPathMayHaveLost) {
  // Every number of rows, so that the last ones stand beside any number of others.
  for (int64_t rows = 1; rows <= kNumFinished; ++rows) {
    OwnedState owned(kNumFinished, false);
    FillFinished(owned);
    std::vector<float> sums(rows + 1, kNotComputed), inverses(rows + 1, kNotComputed);
    std::vector<int64_t> is_unsafe(kNumFinished), wanted;
    is_unsafe.resize(FinishSums(owned.state, rows, sums.data(), inverses.data(), is_unsafe.data()));
    for (int64_t row = 0; row < rows; ++row) {
      if (kFinishedRows[row].is_unsafe) wanted.push_back(row);
    }
    EXPECT_EQ(is_unsafe, wanted) << rows << " rows";
    EXPECT_EQ(sums.back(), kNotComputed);
    EXPECT_EQ(inverses.back(), kNotComputed);
  }
}

TEST(FinishSumsTest, GivesSumsAndTheirInverses) {
  OwnedState owned(kNumFinished, false);
  FillFinished(owned);
  std::vector<float> sums(kNumFinished), inverses(kNumFinished);
  std::vector<int64_t> is_unsafe(kNumFinished);
  FinishSums(owned.state, kNumFinished, sums.data(), inverses.data(), is_unsafe.data());
  for (int64_t row = 0; row < kNumFinished; ++row) {
    const float sum = kFinishedRows[row].sum;
    if (std::isnan(sum)) {
      EXPECT_TRUE(std::isnan(sums[row]));
      continue;
    }
    EXPECT_EQ(sums[row], sum) << kFinishedRows[row].name;
    EXPECT_EQ(inverses[row], sum == 0.0f ? 0.0f : 1.0f / sum) << kFinishedRows[row].name;
  }
}

TEST(FinishSumsTest, OnTheExactPathAllRowsAreSafe) {
  OwnedState owned(kNumFinished, true);
  FillFinished(owned);
  std::vector<float> sums(kNumFinished), inverses(kNumFinished);
  std::vector<int64_t> is_unsafe(kNumFinished);
  EXPECT_EQ(FinishSums(owned.state, kNumFinished, sums.data(), inverses.data(), is_unsafe.data()), 0);
  EXPECT_EQ(sums[0], 3.0f);
}

TEST(SumRowsTest, AddsTheLanesOfEachRow) {
  MatchSimdToOneDnn();
  for (int64_t rows = 1; rows <= 9; ++rows) {
    std::vector<float> partial(rows * kLanes), out(rows + 1, kNotComputed);
    for (size_t i = 0; i < partial.size(); ++i) partial[i] = static_cast<float>(i);
    SumRows(partial.data(), rows, out.data());
    for (int64_t row = 0; row < rows; ++row) {
      EXPECT_EQ(out[row], static_cast<float>(kLanes * kLanes * row + kLanes * (kLanes - 1) / 2)) << row;
    }
    EXPECT_EQ(out[rows], kNotComputed);
  }
}

TEST(NormaliseTest, MultipliesByTheInversesAndTouchesNothingBeyond) {
  constexpr int64_t kRows = 7;
  for (int64_t cols = 1; cols <= kHeadCols; ++cols) {
    OwnedState owned(kRows, false);
    for (size_t i = 0; i < owned.acc.size(); ++i) owned.acc[i] = static_cast<float>(i % 100);
    const std::vector<float> inverses = {1.0f, 0.5f, 2.0f, 0.0f, 0.25f, 4.0f, 1.0f};
    const int64_t stride = kHeadCols + 9;
    std::vector<float> f32(kRows * stride, kNotComputed);
    std::vector<Bf16> bf16(kRows * stride, ToBf16(kNotComputed));
    Normalise(owned.state, inverses.data(), BasicMatrixView<float>{f32.data(), kRows, cols, stride});
    Normalise(owned.state, inverses.data(), BasicMatrixView<Bf16>{bf16.data(), kRows, cols, stride});
    for (int64_t row = 0; row < kRows; ++row) {
      for (int64_t col = 0; col < stride; ++col) {
        const float wanted = col < cols ? owned.acc[row * kHeadCols + col] * inverses[row] : kNotComputed;
        ASSERT_EQ(f32[row * stride + col], wanted) << row << ", " << col;
        ASSERT_EQ(bf16[row * stride + col].bits, ToBf16(wanted).bits) << row << ", " << col;
      }
    }
  }
}

}  // namespace
}  // namespace headlight
