// SPDX-License-Identifier: Apache-2.0
#include "core/model/heads/model_heads.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <span>
#include <vector>

#include "core/model/heads/reference.h"
#include "core/model/model.h"
#include "core/model/pooling.h"
#include "core/model/reference.h"
#include "tests/core/model/test_model.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::SmallEncoder;
using testing::StatusIs;

class NeverInterrupted final : public Interruption {
 public:
  bool MayGoOn() const override { return true; }
};

class Interrupted final : public Interruption {
 public:
  bool MayGoOn() const override { return false; }
};

RowStep DenseStep(int64_t in, int64_t out, RowActivation activation = RowActivation::kIdentity,
                  bool bias = true) {
  return {.in_dim = in, .out_dim = out, .bias = bias, .activation = activation};
}

RowStep NormStep(int64_t width) {
  return {.kind = RowStep::Kind::kLayerNorm, .in_dim = width, .out_dim = width, .eps = 1e-5};
}

RowStep NormalizeStep(int64_t width) {
  return {.kind = RowStep::Kind::kNormalize, .in_dim = width, .out_dim = width, .bias = false};
}

std::vector<float> RandomRows(int64_t count, uint64_t seed = 1) {
  std::mt19937_64 twister(seed);
  std::normal_distribution<float> normal;
  std::vector<float> rows(count);
  for (float& value : rows) value = normal(twister);
  return rows;
}

// A model of 2 layers with a tail of pooled vectors and heads of these kinds.
ModelConfig WithHeads(const std::vector<HeadConfig>& heads) {
  ModelConfig config = SmallEncoder();
  const int64_t width = config.block.attention.embed_dim;
  config.pooling = {Pooling::kCls, Pooling::kMean};
  config.pooled_steps = {DenseStep(2 * width, 70, RowActivation::kTanh), NormalizeStep(70), DenseStep(70, 5)};
  config.normalize_pooled = true;
  config.heads.heads = heads;
  return config.Resolved();
}

HeadConfig MaskedLm(const ModelConfig& of, bool tied) {
  const int64_t width = of.block.attention.embed_dim;
  const int64_t inner = tied ? width : width + 3;
  return {.kind = HeadKind::kLanguageModel,
          .steps = {DenseStep(width, inner, RowActivation::kGeluErf), NormStep(inner)},
          .vocab_size = tied ? of.embedding->vocab_size : 131,
          .tied = tied,
          .silent_ids = {}};
}

void ExpectNear(std::span<const float> got, const std::vector<double>& wanted, double bound = 2e-5) {
  ASSERT_EQ(got.size(), wanted.size());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(static_cast<double>(got[i]), wanted[i], bound * std::max(1.0, std::abs(wanted[i]))) << i;
  }
}

TEST(PackedRowStepsTest, AreTheFormulasOfEachActivation) {
  for (const RowActivation activation :
       {RowActivation::kIdentity, RowActivation::kRelu, RowActivation::kGeluErf, RowActivation::kGeluTanh,
        RowActivation::kSilu, RowActivation::kTanh, RowActivation::kSigmoid}) {
    const std::vector<RowStep> steps = {DenseStep(33, 130, activation), NormStep(130),
                                        DenseStep(130, 1, activation, /*bias=*/false)};
    const std::vector<RowStepParameters> parameters = RandomSteps(steps, 3);
    const auto arithmetic = ChooseArithmetic(Precision::kF32, 130);
    ASSERT_THAT(arithmetic, IsOk());
    const PackedRowSteps packed(steps, 33, parameters, arithmetic->provider());
    const std::vector<float> rows = RandomRows(70 * 33);
    std::vector<float> got(70);
    EXPECT_TRUE(packed.Run({rows.data(), 70, 33, 33}, {got.data(), 70, 1, 1}, NeverInterrupted()));
    ExpectNear(got, ReferenceSteps(steps, parameters, 33, {rows.begin(), rows.end()}));
    EXPECT_FALSE(packed.Run({rows.data(), 70, 33, 33}, {got.data(), 70, 1, 1}, Interrupted()));
  }
}

TEST(PackedRowStepsTest, ARowsBitsDoNotDependOnItsNeighbours) {
  const std::vector<RowStep> steps = {DenseStep(48, 200, RowActivation::kGeluErf), NormalizeStep(200),
                                      DenseStep(200, 3)};
  const auto arithmetic = ChooseArithmetic(Precision::kF32, 200);
  ASSERT_THAT(arithmetic, IsOk());
  const PackedRowSteps packed(steps, 48, RandomSteps(steps, 4), arithmetic->provider());
  const std::vector<float> rows = RandomRows(150 * 48);
  std::vector<float> together(150 * 3), alone(3);
  packed.Run({rows.data(), 150, 48, 48}, {together.data(), 150, 3, 3}, NeverInterrupted());
  for (int64_t row = 0; row < 150; ++row) {
    packed.Run({rows.data() + row * 48, 1, 48, 48}, {alone.data(), 1, 3, 3}, NeverInterrupted());
    EXPECT_TRUE(std::equal(alone.begin(), alone.end(), together.begin() + row * 3)) << row;
  }
}

TEST(PackedRowStepsTest, WithoutStepsRowsStayAsTheyAre) {
  const auto arithmetic = ChooseArithmetic(Precision::kF32, 8);
  ASSERT_THAT(arithmetic, IsOk());
  const PackedRowSteps packed({}, 8, {}, arithmetic->provider());
  const std::vector<float> rows = RandomRows(3 * 8);
  std::vector<float> got(3 * 8);
  EXPECT_TRUE(packed.Run({rows.data(), 3, 8, 8}, {got.data(), 3, 8, 8}, NeverInterrupted()));
  EXPECT_EQ(got, rows);
}

TEST(ModelHeadsTest, EachHeadIsItsFormula) {
  const ModelConfig plain = SmallEncoder();
  const int64_t width = plain.block.attention.embed_dim;
  for (const bool tied : {false, true}) {
    const ModelConfig config =
        WithHeads({{.kind = HeadKind::kScores,
                    .steps = {DenseStep(width, width, RowActivation::kTanh), DenseStep(width, 3)},
                    .silent_ids = {}},
                   MaskedLm(plain, tied)});
    ASSERT_THAT(config.Validate(), IsOk());
    const ModelParameters parameters = RandomModelParameters(config, 11);
    const absl::StatusOr<Model> model = Model::Create(config, parameters);
    ASSERT_THAT(model, IsOk());
    EXPECT_EQ(model->num_parameters(), parameters.NumParameters());
    const std::vector<float> hidden = RandomRows(130 * width);
    const std::vector<double> exact(hidden.begin(), hidden.end());
    const PackedHead& scores = model->heads().For(OutputKind::kScores);
    std::vector<float> got(3);
    scores.steps().Run({hidden.data(), 1, width, width}, {got.data(), 1, 3, 3}, NeverInterrupted());
    ExpectNear(got, ReferenceHead(config.heads.heads[0], parameters.heads[0], width, {}, exact));
    const PackedHead& lm = model->heads().For(OutputKind::kTokenLogits);
    const int64_t inner = lm.steps().out_dim(), vocab = lm.config().vocab_size;
    std::vector<float> rows(130 * inner), logits(130 * vocab), weights(3 * vocab);
    lm.steps().Run({hidden.data(), 130, width, width}, {rows.data(), 130, inner, inner}, NeverInterrupted());
    const MatrixView view = {rows.data(), 130, inner, inner};
    lm.vocab().Logits(view, 0, lm.vocab().num_panels(), {logits.data(), 130, vocab, vocab},
                      NeverInterrupted());
    const std::vector<double> wanted =
        ReferenceHead(config.heads.heads[1], parameters.heads[1], width, parameters.embedding.tokens, exact);
    ExpectNear(logits, wanted, 1e-4);
    const int64_t cu_lens[] = {0, 1, 3, 130};
    lm.vocab().SparseWeights(view, cu_lens, 0, lm.vocab().num_panels(), {weights.data(), 3, vocab, vocab},
                             NeverInterrupted());
    for (int64_t i = 0; i < 3; ++i) {
      const std::vector<double> of_it(wanted.begin() + cu_lens[i] * vocab,
                                      wanted.begin() + cu_lens[i + 1] * vocab);
      ExpectNear(std::span(weights).subspan(i * vocab, vocab), ReferenceSparse(of_it, vocab), 1e-4);
    }
  }
}

TEST(ModelHeadsTest, ScoresAreOfTheRowThatTheHeadNames) {
  const int64_t width = SmallEncoder().block.attention.embed_dim;
  for (const ScoresOf scores_of : {ScoresOf::kFirstToken, ScoresOf::kMean, ScoresOf::kLastToken}) {
    const ModelConfig config = WithHeads({{.kind = HeadKind::kScores,
                                           .steps = {DenseStep(width, 3)},
                                           .scores_of = scores_of,
                                           .silent_ids = {}}});
    const ModelParameters parameters = RandomModelParameters(config, 13);
    const absl::StatusOr<Model> model = Model::Create(config, parameters);
    ASSERT_THAT(model, IsOk());
    const std::vector<float> hidden = RandomRows(5 * width);
    const int64_t cu_lens[] = {0, 5};
    const Pooling pooling = PoolingOf(scores_of);
    std::vector<float> row(width), got(3);
    PoolSequences({hidden.data(), 5, width, width}, cu_lens, {&pooling, 1}, false,
                  {row.data(), 1, width, width});
    model->heads()
        .For(OutputKind::kScores)
        .steps()
        .Run({row.data(), 1, width, width}, {got.data(), 1, 3, 3}, NeverInterrupted());
    ExpectNear(got, ReferenceHead(config.heads.heads[0], parameters.heads[0], width, {},
                                  {hidden.begin(), hidden.end()}));
  }
}

TEST(ModelHeadsTest, LogitsOfACausalModelAreCappedAndTiedToANarrowTable) {
  ModelConfig config = SmallEncoder();
  const int64_t width = config.block.attention.embed_dim;
  config.embedding->dim = 6;
  config.heads.heads = {{.kind = HeadKind::kLanguageModel,
                         .steps = {DenseStep(width, 6)},
                         .vocab_size = config.embedding->vocab_size,
                         .tied = true,
                         .vocab_bias = false,
                         .logit_cap = 0.5,
                         .causal = true,
                         .silent_ids = {}}};
  config = config.Resolved();
  ASSERT_THAT(config.Validate(), IsOk());
  EXPECT_TRUE(config.Gives(OutputKind::kTokenLogits));
  EXPECT_FALSE(config.Gives(OutputKind::kSparse));
  EXPECT_THAT(config.heads.WhyNot(OutputKind::kSparse), HasSubstr("causal"));
  const ModelParameters parameters = RandomModelParameters(config, 14);
  const absl::StatusOr<Model> model = Model::Create(config, parameters);
  ASSERT_THAT(model, IsOk());
  const std::vector<float> hidden = RandomRows(9 * width);
  const PackedHead& head = model->heads().For(OutputKind::kTokenLogits);
  const int64_t vocab = head.config().vocab_size;
  std::vector<float> rows(9 * 6), logits(9 * vocab);
  head.steps().Run({hidden.data(), 9, width, width}, {rows.data(), 9, 6, 6}, NeverInterrupted());
  head.vocab().Logits({rows.data(), 9, 6, 6}, 0, head.vocab().num_panels(), {logits.data(), 9, vocab, vocab},
                      NeverInterrupted());
  ExpectNear(logits, ReferenceHead(config.heads.heads[0], parameters.heads[0], width,
                                   parameters.embedding.tokens, {hidden.begin(), hidden.end()}));
  config.heads.heads[0].logit_cap = -1.0;
  EXPECT_THAT(config.Validate(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("heads[0].logit_cap")));
  config.heads.heads[0].logit_cap = 0.0;
  config.embedding->dim = width;
  EXPECT_THAT(config.Validate(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("heads[0].out_dim")));
}

TEST(ModelHeadsTest, PooledVectorsPassThroughTheSteps) {
  const ModelConfig config = WithHeads({});
  const int64_t width = config.block.attention.embed_dim;
  EXPECT_EQ(config.raw_pooled_dim(), 2 * width);
  EXPECT_EQ(config.pooled_dim(), 5);
  EXPECT_EQ(config.OutputWidth(OutputKind::kPooled), 5);
  const ModelParameters parameters = RandomModelParameters(config, 12);
  const absl::StatusOr<Model> model = Model::Create(config, parameters);
  ASSERT_THAT(model, IsOk());
  const std::vector<float> hidden = RandomRows(9 * width);
  const int64_t cu_lens[] = {0, 4, 9};
  std::vector<float> raw(2 * 2 * width), got(2 * 5);
  PoolSequences({hidden.data(), 9, width, width}, cu_lens, config.pooling, false,
                {raw.data(), 2, 2 * width, 2 * width});
  model->heads().pooled_steps().Run({raw.data(), 2, 2 * width, 2 * width}, {got.data(), 2, 5, 5},
                                    NeverInterrupted());
  NormalizeRows({got.data(), 2, 5, 5});
  ExpectNear(got, ReferencePooled(config, {hidden.begin(), hidden.end()}, cu_lens, parameters.pooled_steps));
}

TEST(ModelHeadsTest, SparseVectorsAreAscendingAndCutToTheHeaviest) {
  const std::vector<float> weights = {0.0f, 3.0f, -1.0f, 2.0f, 3.0f};
  EXPECT_THAT(SparseOfIds(weights, 0),
              ElementsAre(SparseEntry{1, 3.0f}, SparseEntry{3, 2.0f}, SparseEntry{4, 3.0f}));
  EXPECT_THAT(SparseOfIds(weights, 1), ElementsAre(SparseEntry{1, 3.0f}));
  const std::vector<int32_t> ids = {7, 5, 7, 9, 2};
  const std::vector<int32_t> silent = {2, 3};
  const std::vector<float> of_tokens = {1.0f, 0.0f, 4.0f, 2.0f, 8.0f};
  EXPECT_THAT(SparseOfTokens(of_tokens, ids, silent, 0),
              ElementsAre(SparseEntry{7, 4.0f}, SparseEntry{9, 2.0f}));
  EXPECT_THAT(SparseOfTokens(of_tokens, ids, silent, 1), ElementsAre(SparseEntry{7, 4.0f}));
}

TEST(ModelHeadsTest, WhatContradictsTheModelIsNamed) {
  const ModelConfig plain = SmallEncoder();
  const int64_t width = plain.block.attention.embed_dim;
  ModelConfig config = plain;
  config.heads.heads = {{.kind = HeadKind::kScores, .steps = {DenseStep(width + 1, 3)}, .silent_ids = {}}};
  EXPECT_THAT(config.Validate(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("heads[0].steps[0].in_dim")));
  config.heads.heads = {MaskedLm(plain, true), MaskedLm(plain, true)};
  EXPECT_THAT(config.Validate(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("heads[1].kind")));
  config.heads.heads = {};
  config.pooled_steps = {NormalizeStep(width), DenseStep(3, 4)};
  EXPECT_THAT(config.Validate(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("pooled_steps[1].in_dim")));
  ModelConfig fine = WithHeads({MaskedLm(plain, true)});
  ModelParameters parameters = RandomModelParameters(fine, 1);
  parameters.heads[0].vocab_bias.pop_back();
  EXPECT_THAT(parameters.Validate(fine),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("heads.0.vocab_bias")));
  EXPECT_EQ(fine.heads.WhyNot(OutputKind::kScores), "its files have no such head");
  fine.heads.refused = {{OutputKind::kTokenLogits, "because"}};
  EXPECT_EQ(fine.heads.WhyNot(OutputKind::kTokenLogits), "because");
  EXPECT_FALSE(fine.Gives(OutputKind::kTokenLogits));
  EXPECT_TRUE(fine.Gives(OutputKind::kSparse));
}

}  // namespace
}  // namespace headlight
