// SPDX-License-Identifier: Apache-2.0
#include "server/models/precision_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

PrecisionChoice Parsed(const std::string& text) {
  const auto choice = ParsePrecisionChoice(text);
  EXPECT_THAT(choice, IsOk());
  return choice.ok() ? *choice : PrecisionChoice();
}

TEST(PrecisionChoiceTest, TheModelsOwnWinsOverItsConfigAndThatOverTheRest) {
  const PrecisionChoice choice = Parsed("bf16,bert=int8");
  EXPECT_EQ(choice.Of("bert"), Precision::kInt8);
  EXPECT_EQ(choice.Of("bert", Precision::kF32), Precision::kInt8);
  EXPECT_EQ(choice.Of("gpt2", Precision::kF32), Precision::kF32);
  EXPECT_EQ(choice.Of("gpt2"), Precision::kBf16);
}

TEST(PrecisionChoiceTest, WhatAConfigOverrulesIsKnown) {
  const PrecisionChoice choice = Parsed("bf16,bert=int8");
  EXPECT_EQ(choice.Overruled("gpt", Precision::kF32), Precision::kBf16);
  EXPECT_EQ(choice.Overruled("gpt", Precision::kBf16), std::nullopt);
  EXPECT_EQ(choice.Overruled("gpt", std::nullopt), std::nullopt);
  EXPECT_EQ(choice.Overruled("bert", Precision::kF32), std::nullopt);
  EXPECT_EQ(PrecisionChoice().Overruled("gpt", Precision::kBf16), std::nullopt);
}

TEST(PrecisionChoiceTest, WithoutADefaultItIsF32) {
  EXPECT_EQ(Parsed("bert=int8").Of("gpt2"), Precision::kF32);
}

TEST(PrecisionChoiceTest, TextIsReadAgainAsTheSame) {
  for (const char* text : {"f32", "bf16", "int8,a=f32,b=bf16", "a=int8"}) {
    EXPECT_EQ(Parsed(ToText(Parsed(text))), Parsed(text)) << text;
  }
  EXPECT_EQ(ToText(Parsed("a=int8")), "f32,a=int8");
}

TEST(PrecisionChoiceTest, WrongTextsAreRefusedWithTheirPart) {
  const auto refused = [](const std::string& message) {
    return StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(message));
  };
  EXPECT_THAT(ParsePrecisionChoice(""), refused("got \"\", wanted f32|bf16|int8 or NAME="));
  EXPECT_THAT(ParsePrecisionChoice("f64"), refused("got \"f64\""));
  EXPECT_THAT(ParsePrecisionChoice("f32,bert=f64"), refused("got \"bert=f64\""));
  EXPECT_THAT(ParsePrecisionChoice("f32,=bf16"), refused("got \"=bf16\""));
  EXPECT_THAT(ParsePrecisionChoice("bert=bf16,f32"), refused("in front of the others"));
  EXPECT_THAT(ParsePrecisionChoice("f32,bf16"), refused("in front of the others"));
  EXPECT_THAT(ParsePrecisionChoice("a=f32,a=bf16"), refused("got \"a\" twice"));
}

}  // namespace
}  // namespace headlight
