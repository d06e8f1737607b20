// SPDX-License-Identifier: Apache-2.0
#include "server/models/built_in_models.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using testing::IsOk;
using testing::StatusIs;

TEST(BuiltInModelsTest, TheDemoModelIsTheDocumentedOne) {
  const auto demo = MakeBuiltInModel("demo");
  ASSERT_THAT(demo, IsOk());
  EXPECT_EQ((*demo)->name, "demo");
  EXPECT_EQ((*demo)->version, "1");
  const AttentionConfig& config = (*demo)->model.config().block.attention;
  EXPECT_EQ(config.embed_dim, 768);
  EXPECT_EQ(config.num_heads, 12);
  EXPECT_EQ(config.num_kv_heads, 12);
  EXPECT_EQ(config.num_appended_keys(), 0);
  EXPECT_FALSE(config.rope || config.alibi || config.window_left || config.window_right);
  EXPECT_EQ(config.logit_softcap, 0.0);
  EXPECT_EQ((*demo)->model.attention().precision(), Precision::kF32);
  EXPECT_EQ((*demo)->precision_error.max_abs, 0.0);
}

TEST(BuiltInModelsTest, TheGqaModelIsTheDocumentedOne) {
  const auto demo = MakeBuiltInModel("demo-gqa");
  ASSERT_THAT(demo, IsOk());
  const AttentionConfig& config = (*demo)->model.config().block.attention;
  EXPECT_EQ(config.embed_dim, 768);
  EXPECT_EQ(config.num_heads, 12);
  EXPECT_EQ(config.num_kv_heads, 4);
  ASSERT_TRUE(config.rope.has_value());
  EXPECT_EQ(config.rope->scaling, RopeConfig::Scaling::kLlama3);
  EXPECT_EQ(config.window_left, 255);
  EXPECT_EQ(config.window_right, std::nullopt);
  EXPECT_EQ(config.logit_softcap, 30.0);
}

TEST(BuiltInModelsTest, TheAlibiModelIsTheDocumentedOne) {
  const auto demo = MakeBuiltInModel("demo-alibi");
  ASSERT_THAT(demo, IsOk());
  const AttentionConfig& config = (*demo)->model.config().block.attention;
  EXPECT_EQ(config.embed_dim, 768);
  EXPECT_EQ(config.num_heads, 12);
  EXPECT_TRUE(config.alibi);
  EXPECT_EQ(config.num_appended_keys(), 2);
}

TEST(BuiltInModelsTest, APrecisionIsServedOrItsAbsenceExplained) {
  for (const Precision precision : {Precision::kBf16, Precision::kInt8}) {
    const auto demo = MakeBuiltInModel("demo", "", precision);
    ASSERT_THAT(demo, IsOk());
    const AttentionLayer& attention = (*demo)->model.attention();
    EXPECT_EQ(attention.config().precision, precision);
    EXPECT_EQ(attention.precision() == precision, attention.precision_note().empty());
    EXPECT_EQ(attention.precision() == Precision::kF32, (*demo)->precision_error.rms == 0.0);
    EXPECT_GT((*demo)->precision_error.cosine, 0.99);
  }
}

TEST(BuiltInModelsTest, NarrowParametersTakeLessAndTheirErrorIsMeasured) {
  const auto wide = MakeBuiltInModel("demo");
  const auto narrow = MakeBuiltInModel("demo", "", Precision::kF32, nullptr, Precision::kInt8);
  ASSERT_THAT(wide, IsOk());
  ASSERT_THAT(narrow, IsOk());
  EXPECT_EQ(PrecisionText((*narrow)->model.attention()), "f32, parameters int8");
  // 2.4 MB instead of 9.4, each in whole huge pages of 2 MiB.
  EXPECT_LT((*narrow)->model.packed_bytes(), (*wide)->model.packed_bytes() / 2);
  EXPECT_GT((*narrow)->precision_error.rms, 0.0);
  EXPECT_GT((*narrow)->precision_error.cosine, 0.998);
  EXPECT_THAT(
      MakeBuiltInModel("demo", "", Precision::kInt8, nullptr, Precision::kBf16),
      StatusIs(absl::StatusCode::kInvalidArgument,
               ::testing::HasSubstr("parameters_precision: got bf16, wanted none with a precision of int8")));
}

TEST(BuiltInModelsTest, TheModelIsNamedWhereItCannotBeMade) {
  EXPECT_THAT(MakeBuiltInModel("demo", "abacus"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       ::testing::StartsWith("model demo: kernel: got 'abacus', wanted one of: ")));
}

TEST(BuiltInModelsTest, AnUnknownBuiltInModelGetsTheNamesThatExist) {
  EXPECT_THAT(MakeBuiltInModel("demo\n"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "there is no built-in model \"demo\\n\", wanted one of demo, demo-gqa, demo-alibi"));
}

}  // namespace
}  // namespace headlight
