// SPDX-License-Identifier: Apache-2.0
//
// The projections are plain here: keys are the key input and values twice the value input, so that panels
// hold numbers that the test knows.
#include "core/attention/tiled/packed_keys.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/product/arithmetic.h"

namespace headlight {
namespace {

constexpr int64_t kPackedDim = 20;  // of the input and of the head, padded in the panels
constexpr float kPackedNan = std::numeric_limits<float>::quiet_NaN();

float PackedNumber(float operand) { return operand; }
float PackedNumber(Bf16 operand) { return ToFloat(operand); }

template <typename T>
class KeyPackerTest : public ::testing::Test {
 protected:
  static constexpr Precision kPackedPrecision = std::is_same_v<T, float> ? Precision::kF32 : Precision::kBf16;

  void SetUp() override {
    for (const ProductKind& kind : ProductKinds()) {
      absl::StatusOr<Arithmetic> arithmetic = ChooseArithmetic(kPackedPrecision, kPackedDim, kind.name);
      if (arithmetic.ok() && arithmetic->precision == kPackedPrecision) arithmetics_.push_back(*arithmetic);
    }
    if (arithmetics_.empty()) GTEST_SKIP() << "no kernel computes in " << Name(kPackedPrecision);
    config_.precision = kPackedPrecision;
    std::vector<float> unit(kPackedDim * kPackedDim, 0.0f), twice = unit;
    for (int64_t i = 0; i < kPackedDim; ++i) {
      unit[i * kPackedDim + i] = 1.0f;
      twice[i * kPackedDim + i] = 2.0f;
    }
    parameters_.wq = parameters_.wk = parameters_.wo = unit;
    parameters_.wv = twice;
  }

  // Packs the batch, of which every number is small and whole, and looks at the panels of each sequence.
  template <typename Look>
  void Pack(const Arithmetic& arithmetic, const std::vector<int64_t>& kv_lens, std::vector<float>& values,
            const Look& look) {
    std::vector<int64_t> cu_lens = {0};
    for (const int64_t len : kv_lens) cu_lens.push_back(cu_lens.back() + len);
    const int64_t tokens = cu_lens.back();
    std::vector<float> keys(tokens * kPackedDim);
    for (size_t i = 0; i < keys.size(); ++i) keys[i] = static_cast<float>(i % 101) - 50.0f;
    const std::vector<SequenceOptions> options(kv_lens.size());
    const MatrixView key = {keys.data(), tokens, kPackedDim, kPackedDim};
    const MatrixView value = {values.data(), tokens, kPackedDim, kPackedDim};
    std::vector<float> output(keys.size());
    const AttentionBatch batch = {.query = key,
                                  .key = key,
                                  .value = value,
                                  .cu_q_lens = cu_lens,
                                  .cu_kv_lens = cu_lens,
                                  .sequences = options,
                                  .output = {output.data(), tokens, kPackedDim, kPackedDim}};
    const PackedLayer<T> layer(arithmetic, config_, parameters_);
    ComputeArena arena(1);
    TiledWorkspace workspace(1);
    workspace.arena = &arena;
    workspace.plan.Build(batch, config_, kGranule<T>, 1);
    ASSERT_TRUE(workspace.Reserve(layer.Sizes(), batch));
    workspace.query_operands.Convert(0, tokens);
    workspace.value_operands.Convert(0, tokens);
    workspace.key = workspace.query_operands.view();
    workspace.value = workspace.value_operands.view();
    for (const SequenceGroup& group : workspace.plan.groups) {
      const GroupInUse in_use(workspace);
      const KeyPacker<T> packer(layer, batch, workspace, group, in_use.memory());
      layer.provider.BeginWork();
      for (int64_t chunk = group.first_key_chunk; chunk < group.end_key_chunk; ++chunk) {
        ASSERT_TRUE(packer.Pack(workspace.plan.key_chunks[chunk], 0, workspace.workers[0]));
      }
      for (int64_t s = group.first_sequence; s < group.end_sequence; ++s) {
        SCOPED_TRACE(absl::StrCat(arithmetic.kind->name, ", sequence ", s, " of ", kv_lens[s], " keys"));
        const auto of_sequence = [&](const std::vector<float>& rows, int64_t row, int64_t col) {
          return rows[(cu_lens[s] + row) * kPackedDim + col];
        };
        ASSERT_NO_FATAL_FAILURE(look(
            layer, packer.PanelsOf(s, 0), kv_lens[s],
            [&](int64_t row, int64_t col) { return of_sequence(keys, row, col); },
            [&](int64_t row, int64_t col) { return of_sequence(values, row, col); }));
      }
    }
  }

  static std::vector<float> WholeValues(int64_t tokens) {
    std::vector<float> values(tokens * kPackedDim);
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 61) - 30.0f;
    return values;
  }

  AttentionConfig config_ = AttentionConfig{.embed_dim = kPackedDim, .num_heads = 1}.Resolved();
  AttentionParameters parameters_;
  std::vector<Arithmetic> arithmetics_;
};
using PackedOperands = ::testing::Types<float, Bf16>;
TYPED_TEST_SUITE(KeyPackerTest, PackedOperands);

TYPED_TEST(KeyPackerTest, PanelsHoldKeysInColumnsAndValuesInRowsWithZerosAround) {
  using T = TypeParam;
  const std::vector<int64_t> kv_lens = {1, 64, 70, 3, 130, 600, 15};  // in groups of several and of one
  for (const Arithmetic& arithmetic : this->arithmetics_) {
    std::vector<float> values = this->WholeValues(1 + 64 + 70 + 3 + 130 + 600 + 15);
    this->Pack(arithmetic, kv_lens, values,
               [&](const PackedLayer<T>& layer, const KeyPanels<T>& panels, int64_t kv_len, const auto& key,
                   const auto& value) {
                 ASSERT_EQ(std::ssize(panels.keys), (kv_len + kPanelCols - 1) / kPanelCols);
                 ASSERT_EQ(panels.values.size(), panels.keys.size());
                 ASSERT_EQ(panels.appended_keys, nullptr);
                 for (int64_t p = 0; p < std::ssize(panels.keys); ++p) {
                   ASSERT_EQ(panels.not_finite[p], 0u);
                   const int64_t width = std::min(kPanelCols, RoundUp(kv_len, kGranule<T>) - p * kPanelCols);
                   for (int64_t k = 0; k < width; ++k) {
                     const int64_t row = p * kPanelCols + k;
                     for (int64_t d = 0; d < layer.padded_head_dim; ++d) {
                       const bool inside = row < kv_len && d < kPackedDim;
                       ASSERT_EQ(PackedNumber(panels.keys[p][OperandPlace(T{}, d, k, width)]),
                                 inside ? key(row, d) : 0.0f)
                           << "key " << row << ", dimension " << d;
                       ASSERT_EQ(
                           PackedNumber(panels.values[p][OperandPlace(T{}, k, d, layer.padded_head_dim)]),
                           inside ? 2.0f * value(row, d) : 0.0f)
                           << "value " << row << ", dimension " << d;
                     }
                   }
                 }
               });
  }
}

TYPED_TEST(KeyPackerTest, ValuesThatAreNotFiniteAreZerosAndNamed) {
  using T = TypeParam;
  for (const Arithmetic& arithmetic : this->arithmetics_) {
    std::vector<float> values = this->WholeValues(70 + 5);
    values[3 * kPackedDim + 7] = kPackedNan;
    values[66 * kPackedDim] = std::numeric_limits<float>::infinity();
    values[(70 + 4) * kPackedDim + 19] = -std::numeric_limits<float>::infinity();
    this->Pack(arithmetic, {70, 5}, values,
               [&](const PackedLayer<T>& layer, const KeyPanels<T>& panels, int64_t kv_len, const auto&,
                   const auto& value) {
                 const std::vector<uint64_t> named(panels.not_finite.begin(), panels.not_finite.end());
                 ASSERT_EQ(named, kv_len == 70 ? (std::vector<uint64_t>{1 << 3, 1 << 2})
                                               : (std::vector<uint64_t>{1 << 4}));
                 for (int64_t row = 0; row < kv_len; ++row) {
                   const int64_t p = row / kPanelCols, k = row % kPanelCols;
                   const bool is_named = (named[p] >> k & 1) != 0;
                   for (int64_t d = 0; d < kPackedDim; ++d) {
                     ASSERT_EQ(PackedNumber(panels.values[p][OperandPlace(T{}, k, d, layer.padded_head_dim)]),
                               is_named ? 0.0f : 2.0f * value(row, d));
                   }
                 }
               });
  }
}

TYPED_TEST(KeyPackerTest, AppendedKeysAreAPanelOfTheirOwn) {
  using T = TypeParam;
  this->config_.add_bias_kv = this->config_.add_zero_attn = true;
  this->parameters_.bias_k.resize(kPackedDim);
  this->parameters_.bias_v.resize(kPackedDim);
  for (int64_t d = 0; d < kPackedDim; ++d) {
    this->parameters_.bias_k[d] = static_cast<float>(d + 1);
    this->parameters_.bias_v[d] = static_cast<float>(-d - 1);
  }
  for (const Arithmetic& arithmetic : this->arithmetics_) {
    std::vector<float> values = this->WholeValues(9);
    this->Pack(
        arithmetic, {9}, values,
        [&](const PackedLayer<T>& layer, const KeyPanels<T>& panels, int64_t, const auto&, const auto&) {
          ASSERT_EQ(panels.keys.size(), 1u) << "appended keys are not among the sequence's own";
          for (int64_t k = 0; k < kGranule<T>; ++k) {
            for (int64_t d = 0; d < layer.padded_head_dim; ++d) {
              const float learned = k == 0 && d < kPackedDim ? static_cast<float>(d + 1) : 0.0f;
              ASSERT_EQ(PackedNumber(panels.appended_keys[OperandPlace(T{}, d, k, kGranule<T>)]), learned);
              ASSERT_EQ(PackedNumber(panels.appended_values[OperandPlace(T{}, k, d, layer.padded_head_dim)]),
                        -learned);
            }
          }
        });
  }
}

TEST(ForEachPartTest, CutsRowsWhereSequencesEnd) {
  const std::vector<int64_t> cu_lens = {0, 3, 10, 11};
  std::vector<std::vector<int64_t>> parts;
  ForEachPart(cu_lens, 2, 9, [&](int64_t row, int64_t rows, int64_t sequence, int64_t first) {
    parts.push_back({row, rows, sequence, first});
  });
  EXPECT_EQ(parts, (std::vector<std::vector<int64_t>>{{0, 1, 0, 2}, {1, 7, 1, 0}, {8, 1, 2, 0}}));
}

}  // namespace
}  // namespace headlight
