// SPDX-License-Identifier: Apache-2.0
#include "core/attention/tiled/fused_scores.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/attention/tiled/softmax.h"
#include "core/product/gemm.h"
#include "core/tensor/buffer.h"
#include "tests/core/testing/effort.h"

namespace headlight {
namespace {

template <typename T>
constexpr bool kIsHalf = std::is_same_v<T, Bf16>;

template <typename T>
T OperandOf(float value) {
  if constexpr (kIsHalf<T>) {
    return ToBf16(value);
  } else {
    return value;
  }
}

template <typename T>
bool SameBytes(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

template <typename T>
class ScoreAndExpTest : public ::testing::Test {
 protected:
  void SetUp() override {
    MatchSimdToOneDnn();
    const absl::Status available = kVectorProvider.Available(kIsHalf<T> ? Precision::kBf16 : Precision::kF32);
    if (!available.ok()) GTEST_SKIP() << available;
  }
};
using FusedOperands = ::testing::Types<float, Bf16>;
TYPED_TEST_SUITE(ScoreAndExpTest, FusedOperands);

// Products of multiples of 1/8 up to 1 and their sums are exact in any order, so both see the same scores.
TYPED_TEST(ScoreAndExpTest, HasTheBitsOfSoftmaxTileOnTheSameScores) {
  using T = TypeParam;
  constexpr int64_t kKeys = kReferenceKeys;
  testing::Rng rng = testing::MakeRng(0);
  for (const int64_t granules : {1, 2, 3, 4, 5, 6, 7, 8, 9}) {
    const int64_t head_dim = granules * kGranule<T>;
    for (const int64_t panels : {1, 2, 5}) {
      for (const int64_t rows : {1, 3, 4, 5, 11}) {
        for (const bool with_exponents : {false, true}) {
          SCOPED_TRACE(absl::StrCat("head_dim ", head_dim, ", ", panels, " panels, ", rows, " rows"));
          const int64_t padded_rows = RoundUp(rows, kFusedRows), stride = panels * kKeys;
          const auto eighth = [&] { return static_cast<float>(testing::UniformInt(rng, -8, 8)) / 8.0f; };
          std::vector<float> queries(padded_rows * head_dim), keys(stride * head_dim);
          for (float& x : queries) x = eighth();
          for (float& x : keys) x = eighth();

          std::vector<T> query_operands(queries.size());
          for (size_t i = 0; i < queries.size(); ++i) query_operands[i] = OperandOf<T>(queries[i]);
          const Buffer key_memory = Buffer::Allocate(std::ssize(keys) * int64_t{sizeof(T)});
          std::vector<T*> key_panels(panels);
          for (int64_t panel = 0; panel < panels; ++panel) {
            key_panels[panel] = key_memory.As<T>() + panel * kKeys * head_dim;
            for (int64_t key = 0; key < kKeys; ++key) {
              for (int64_t d = 0; d < head_dim; ++d) {
                const int64_t place = kIsHalf<T> ? (d / 2 * kKeys + key) * 2 + d % 2 : d * kKeys + key;
                key_panels[panel][place] = OperandOf<T>(keys[(panel * kKeys + key) * head_dim + d]);
              }
            }
          }

          // Half of the rows have seen keys before.
          constexpr float kUnseen = -std::numeric_limits<float>::infinity();
          std::vector<float> reference(padded_rows, kUnseen), sum(padded_rows * kLanes, 0.0f);
          for (int64_t row = 0; row < padded_rows; row += 2) {
            reference[row] = 1.5f;
            for (int64_t lane = 0; lane < kLanes; ++lane) sum[row * kLanes + lane] = 0.375f;
          }
          std::vector<float> exponent_sum = sum;
          std::vector<T> probabilities(padded_rows * stride);
          std::vector<float> fused_reference = reference, fused_sum = sum, fused_exponents = exponent_sum;
          ScoreAndExp(FusedScores<T>{query_operands.data(), key_panels.data(), rows, head_dim, panels,
                                     probabilities.data(), stride, fused_reference.data(), fused_sum.data(),
                                     with_exponents ? fused_exponents.data() : nullptr});

          std::vector<float> scores(rows * stride), acc(rows * kLanes);
          std::vector<int64_t> query_numbers(rows);
          for (int64_t row = 0; row < rows; ++row) {
            query_numbers[row] = row;
            for (int64_t key = 0; key < stride; ++key) {
              float score = 0.0f;
              for (int64_t d = 0; d < head_dim; ++d)
                score += queries[row * head_dim + d] * keys[key * head_dim + d];
              scores[row * stride + key] = score;
            }
          }
          std::vector<T> wanted(rows * stride);
          SoftmaxTile(
              ScoreTile<T>{
                  {scores.data(), rows, stride, stride}, wanted.data(), stride, query_numbers.data(), 0},
              {.q_len = rows, .kv_len = stride, .num_keys = stride},
              {.reference = reference.data(),
               .sum = sum.data(),
               .acc = {acc.data(), rows, kLanes, kLanes},
               .exponent_sum = with_exponents ? exponent_sum.data() : nullptr});

          // The rows that fill up the last group are worked on too, and nobody looks at them.
          for (auto* of_rows : {&reference, &fused_reference}) of_rows->resize(rows);
          for (auto* of_rows : {&sum, &fused_sum, &exponent_sum, &fused_exponents})
            of_rows->resize(rows * kLanes);
          probabilities.resize(rows * stride);
          ASSERT_EQ(fused_reference, reference);
          ASSERT_TRUE(SameBytes(probabilities, wanted));
          ASSERT_TRUE(SameBytes(fused_sum, sum));
          ASSERT_TRUE(SameBytes(fused_exponents, exponent_sum));
        }
      }
    }
  }
}

}  // namespace
}  // namespace headlight
