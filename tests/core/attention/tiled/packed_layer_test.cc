// SPDX-License-Identifier: Apache-2.0
#include "core/attention/tiled/packed_layer.h"

#include <gtest/gtest.h>

#include <memory>
#include <numbers>
#include <vector>

#include "core/product/arithmetic.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

// Four query heads to two kv heads, 5 wide: padded to 16 in the panels.
class PackedLayerTest : public ::testing::Test {
 protected:
  PackedLayerTest() { parameters_ = RandomParameters(config_, 3); }

  PackedLayer<float> Pack() const {
    const absl::StatusOr<Arithmetic> arithmetic = ChooseArithmetic(Precision::kF32, config_.LargestDepth());
    EXPECT_THAT(arithmetic, testing::IsOk());
    return PackedLayer<float>(*arithmetic, config_, parameters_);
  }

  // Head `head` of a matrix of `heads`, times a factor, with zeros up to the padded width.
  void ExpectHead(const PanelMatrix& packed, const std::vector<float>& matrix, int64_t head, int64_t heads,
                  float factor) const {
    ASSERT_EQ(packed.num_panels(), 1);
    ASSERT_EQ(packed.PanelWidth(0), 16);
    const auto* const panel = reinterpret_cast<const float*>(packed.Panel(0));
    for (int64_t row = 0; row < config_.embed_dim; ++row) {
      for (int64_t col = 0; col < 16; ++col) {
        const float wanted = col < 5 ? matrix[(row * heads + head) * 5 + col] * factor : 0.0f;
        ASSERT_EQ(panel[row * 16 + col], wanted) << "row " << row << ", column " << col;
      }
    }
  }
  void ExpectBias(const float* packed, const std::vector<float>& bias, int64_t head, float factor) const {
    for (int64_t col = 0; col < 16; ++col) {
      EXPECT_EQ(packed[col], col < 5 ? bias[head * 5 + col] * factor : 0.0f) << col;
    }
  }

  AttentionConfig config_ =
      AttentionConfig{.embed_dim = 24, .num_heads = 4, .num_kv_heads = 2, .head_dim = 5, .scale = 0.3}
          .Resolved();
  AttentionParameters parameters_;
};

TEST_F(PackedLayerTest, EachHeadHasItsColumnsAndBiasesByItself) {
  const PackedLayer<float> layer = Pack();
  ASSERT_EQ(layer.padded_head_dim, 16);
  for (int64_t head = 0; head < 2; ++head) {
    ExpectHead(layer.wk[head], parameters_.wk, head, 2, 1.0f);
    ExpectHead(layer.wv[head], parameters_.wv, head, 2, 1.0f);
    ExpectBias(layer.OfHead(layer.bk, head), parameters_.bk, head, 1.0f);
    ExpectBias(layer.OfHead(layer.bv, head), parameters_.bv, head, 1.0f);
  }
  EXPECT_EQ(layer.bo, parameters_.bo);
}

TEST_F(PackedLayerTest, QueriesBringTheScaleInUnitsOfLog2) {
  const auto factor = static_cast<float>(0.3 * std::numbers::log2e);
  const PackedLayer<float> layer = Pack();
  for (int64_t head = 0; head < 4; ++head) {
    ExpectHead(layer.wq[head], parameters_.wq, head, 4, factor);
    ExpectBias(layer.OfHead(layer.bq, head), parameters_.bq, head, factor);
  }
}

TEST_F(PackedLayerTest, WithASoftcapTheyAreWhatItsTanhTakes) {
  config_.logit_softcap = 20.0;
  const auto factor = static_cast<float>(0.3 * (1.0 / 20.0));
  const PackedLayer<float> layer = Pack();
  ExpectHead(layer.wq[1], parameters_.wq, 1, 4, factor);
}

TEST_F(PackedLayerTest, WithoutBiasesThereAreNone) {
  parameters_.bq.clear();
  parameters_.bk.clear();
  parameters_.bv.clear();
  parameters_.bo.clear();
  const PackedLayer<float> layer = Pack();
  EXPECT_EQ(layer.OfHead(layer.bq, 0), nullptr);
  EXPECT_EQ(layer.OfHead(layer.bk, 1), nullptr);
  EXPECT_TRUE(layer.bo.empty());
}

TEST_F(PackedLayerTest, AsksAheadForThePanelThatFollows) {
  const PackedLayer<float> layer = Pack();
  EXPECT_EQ(layer.AfterQueries(0).begin, layer.wq[1].Panel(0));
  EXPECT_EQ(layer.AfterQueries(1).begin, layer.wk[1].Panel(0)) << "the next kv head";
  EXPECT_EQ(layer.AfterQueries(2).begin, layer.wq[3].Panel(0));
  EXPECT_EQ(layer.AfterQueries(3).begin, layer.wo.Panel(0)) << "the output projection";
}

TEST_F(PackedLayerTest, LearnedKeysAreAppendedBeforeTheOneOfZeros) {
  config_.add_bias_kv = config_.add_zero_attn = true;
  parameters_ = RandomParameters(config_, 4);
  const PackedLayer<float> layer = Pack();
  for (int64_t kv_head = 0; kv_head < 2; ++kv_head) {
    const float* const keys = layer.Appended(layer.appended_k, kv_head);
    const float* const values = layer.Appended(layer.appended_v, kv_head);
    for (int64_t key = 0; key < 16; ++key) {
      for (int64_t d = 0; d < 16; ++d) {
        const bool learned = key == 0 && d < 5;
        EXPECT_EQ(keys[OperandPlace(0.0f, d, key, 16)], learned ? parameters_.bias_k[kv_head * 5 + d] : 0.0f);
        EXPECT_EQ(values[OperandPlace(0.0f, key, d, 16)],
                  learned ? parameters_.bias_v[kv_head * 5 + d] : 0.0f);
      }
    }
  }
}

TEST_F(PackedLayerTest, LayersThatAreAlikeShareTheirProducts) {
  const PackedLayer<float> first = Pack();
  parameters_ = RandomParameters(config_, 9);
  const PackedLayer<float> second = Pack();
  EXPECT_EQ(first.score_keys, second.score_keys);
  EXPECT_EQ(first.add_values, second.add_values);
}

TEST(OperandPlaceTest, InterleavesPairsOfRowsForBf16) {
  EXPECT_EQ(OperandPlace(0.0f, 3, 4, 10), 34);
  EXPECT_EQ(OperandPlace(Bf16{}, 0, 4, 10), 8);
  EXPECT_EQ(OperandPlace(Bf16{}, 1, 4, 10), 9);
  EXPECT_EQ(OperandPlace(Bf16{}, 3, 4, 10), 29);
}

}  // namespace
}  // namespace headlight
