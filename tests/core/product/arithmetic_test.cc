// SPDX-License-Identifier: Apache-2.0
#include "core/product/arithmetic.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "core/product/operands.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

constexpr int64_t kShallow = 64;

TEST(ChooseArithmeticTest, RefusesUnknownNamesAndListsTheKinds) {
  const absl::StatusOr<Arithmetic> arithmetic = ChooseArithmetic(Precision::kF32, kShallow, "abacus");
  EXPECT_THAT(arithmetic, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("got 'abacus'")));
  for (const ProductKind& kind : ProductKinds()) {
    EXPECT_THAT(std::string(arithmetic.status().message()), HasSubstr(kind.name));
  }
}

TEST(ChooseArithmeticTest, ANamedKindIsTakenOrSaysWhyNot) {
  for (const ProductKind& kind : ProductKinds()) {
    const absl::StatusOr<Arithmetic> arithmetic = ChooseArithmetic(Precision::kF32, kShallow, kind.name);
    const absl::Status accepted = kind.Accepts(Precision::kF32);
    if (!accepted.ok()) {
      EXPECT_THAT(arithmetic,
                  StatusIs(absl::StatusCode::kUnimplemented, HasSubstr(std::string(accepted.message()))));
      continue;
    }
    ASSERT_THAT(arithmetic, IsOk());
    EXPECT_STREQ(arithmetic->kind->name, kind.name);
    EXPECT_EQ(&arithmetic->provider(), &kind.provider);
    EXPECT_EQ(arithmetic->precision, Precision::kF32);
    EXPECT_EQ(arithmetic->operands, Precision::kF32);
    EXPECT_EQ(arithmetic->note, "");
  }
}

TEST(ChooseArithmeticTest, WithoutANameTheFirstKindThatPaysIsTaken) {
  for (const Precision precision : {Precision::kF32, Precision::kBf16, Precision::kInt8}) {
    SCOPED_TRACE(Name(precision));
    const absl::StatusOr<Arithmetic> arithmetic = ChooseArithmetic(precision, kShallow);
    ASSERT_THAT(arithmetic, IsOk());
    const ProductKind* wanted = nullptr;
    for (const ProductKind& kind : ProductKinds()) {
      if (wanted == nullptr && kind.Accepts(precision).ok() && kind.Pays(precision).ok()) wanted = &kind;
    }
    if (wanted == nullptr) {
      EXPECT_EQ(arithmetic->precision, Precision::kF32);
      EXPECT_THAT(arithmetic->note, HasSubstr("computed in f32: "));
    } else {
      EXPECT_STREQ(arithmetic->kind->name, wanted->name);
      EXPECT_EQ(arithmetic->precision, precision);
      EXPECT_EQ(arithmetic->note, "");
    }
  }
}

TEST(ChooseArithmeticTest, ANamedKindWithoutThePrecisionComputesInF32AndSaysSo) {
  const absl::StatusOr<Arithmetic> arithmetic = ChooseArithmetic(Precision::kBf16, kShallow, "matmul");
  ASSERT_THAT(arithmetic, IsOk());
  EXPECT_STREQ(arithmetic->kind->name, "matmul");
  EXPECT_EQ(arithmetic->precision, Precision::kF32);
  EXPECT_EQ(arithmetic->operands, Precision::kF32);
  EXPECT_THAT(arithmetic->note, HasSubstr("computed in f32: no kernel takes this layer in bf16 (matmul: "));
}

TEST(ChooseArithmeticTest, Int8TooDeepForItsSumsComputesInF32AndSaysSo) {
  const absl::StatusOr<Arithmetic> arithmetic = ChooseArithmetic(Precision::kInt8, kMaxInt8Depth + 1);
  ASSERT_THAT(arithmetic, IsOk());
  EXPECT_EQ(arithmetic->precision, Precision::kF32);
  EXPECT_EQ(arithmetic->operands, Precision::kF32);
  EXPECT_THAT(arithmetic->note, HasSubstr("a depth of 65537 may overflow, 65536 is the most that cannot"));
}

TEST(ChooseArithmeticTest, TheDeepestInt8SumFits) {
  static_assert(kMaxInt8Depth * 255 * 127 <= INT32_MAX);
  const absl::StatusOr<Arithmetic> arithmetic = ChooseArithmetic(Precision::kInt8, kMaxInt8Depth);
  ASSERT_THAT(arithmetic, IsOk());
  EXPECT_THAT(arithmetic->note, ::testing::Not(HasSubstr("overflow")));
}

TEST(ChooseArithmeticTest, OtherPrecisionsAreAsDeepAsTheyLike) {
  const absl::StatusOr<Arithmetic> arithmetic = ChooseArithmetic(Precision::kF32, kMaxInt8Depth + 1);
  ASSERT_THAT(arithmetic, IsOk());
  EXPECT_EQ(arithmetic->note, "");
}

TEST(ChooseArithmeticTest, ParametersAreHeldInTheNarrowerOfTwoPrecisions) {
  for (const Precision precision : {Precision::kF32, Precision::kBf16, Precision::kInt8}) {
    for (const Precision parameters : {Precision::kF32, Precision::kBf16, Precision::kInt8}) {
      const absl::StatusOr<Arithmetic> arithmetic = ChooseArithmetic(precision, kShallow, "", parameters);
      ASSERT_THAT(arithmetic, IsOk());
      EXPECT_EQ(BytesPerWeight(arithmetic->parameters),
                std::min(BytesPerWeight(arithmetic->precision), BytesPerWeight(parameters)));
    }
  }
}

TEST(ChooseArithmeticTest, AttentionItselfIsNeverInInt8) {
  for (const ProductKind& kind : ProductKinds()) {
    for (const Precision precision : {Precision::kF32, Precision::kBf16, Precision::kInt8}) {
      const absl::StatusOr<Arithmetic> arithmetic = ChooseArithmetic(precision, kShallow, kind.name);
      if (!arithmetic.ok()) continue;
      if (arithmetic->precision == Precision::kInt8) {
        EXPECT_NE(arithmetic->operands, Precision::kInt8) << kind.name;
      } else {
        EXPECT_EQ(arithmetic->operands, arithmetic->precision) << kind.name;
      }
    }
  }
}

}  // namespace
}  // namespace headlight
