// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/tensor_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/core/checkpoint/formats/format_folder.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::AllOf;
using testing::CountedFrom;
using ::testing::ElementsAre;
using testing::FormatFolder;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::IsOk;
using testing::StatusIs;
using testing::TransposedFrom;

Shards CheckpointOf(const FormatFolder& folder) {
  absl::StatusOr<Shards> checkpoint = folder.Checkpoint();
  EXPECT_THAT(checkpoint, IsOk());
  return *std::move(checkpoint);
}

TEST(CheckPlanTest, ListsAllThatDoesNotFitInOneMessage) {
  FormatFolder folder;
  folder.Add("a", {2, 3});
  folder.Add("b", {3, 2});
  folder.Add("surplus", {1});
  const Shards checkpoint = CheckpointOf(folder);
  std::vector<float> to;
  TensorPlan plan;
  plan.wanted = {{.names = {"a"}, .shape = {2, 3}, .parts = {{&to}}},
                 {.names = {"b"}, .shape = {2, 3}, .parts = {{&to}}},
                 {.names = {"c", "d", "e"}, .shape = {4}, .parts = {{&to}}}};
  EXPECT_THAT(CheckPlan(plan, checkpoint),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("3 tensors do not fit:"),
                             HasSubstr("\n  misshapen: b, expected [2, 3], found [3, 2]"),
                             HasSubstr("\n  missing: c (or d, e), expected [4]"),
                             HasSubstr("\n  surplus: surplus, found [1] F32"))));
}

TEST(CheckPlanTest, AnyOfItsNamesWillDoAndWhatIsOptionalMayBeAbsent) {
  FormatFolder folder;
  folder.Add("new", {2});
  const Shards checkpoint = CheckpointOf(folder);
  std::vector<float> to, none;
  TensorPlan plan;
  plan.wanted = {{.names = {"old", "new"}, .shape = {2}, .parts = {{&to}}},
                 {.names = {"bias"}, .shape = {2}, .parts = {{&none}}, .optional = true}};
  EXPECT_THAT(CheckPlan(plan, checkpoint), IsOk());
  EXPECT_EQ(NumPlannedElements(plan, checkpoint), 2);
  EXPECT_THAT(IgnoredTensors(plan, checkpoint), IsEmpty());
  EXPECT_THAT(LoadTensors(plan.wanted, checkpoint), IsOk());
  EXPECT_EQ(to, CountedFrom(0, 2));
  EXPECT_TRUE(none.empty());
}

TEST(CheckPlanTest, AnOptionalTensorThatIsThereMustFit) {
  FormatFolder folder;
  folder.Add("bias", {3});
  std::vector<float> to;
  TensorPlan plan;
  plan.wanted = {{.names = {"bias"}, .shape = {2}, .parts = {{&to}}, .optional = true}};
  EXPECT_THAT(
      CheckPlan(plan, CheckpointOf(folder)),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("misshapen: bias, expected [2], found [3]")));
}

TEST(CheckPlanTest, NamesAreIgnoredByTheirEndsOrOutsideThePrefix) {
  FormatFolder folder;
  for (const char* name : {"model.w", "model.head.w", "model.x.ids", "other", "model"}) folder.Add(name, {1});
  const Shards checkpoint = CheckpointOf(folder);
  std::vector<float> to;
  TensorPlan plan;
  plan.wanted = {{.names = {"model.w"}, .shape = {1}, .parts = {{&to}}}};
  plan.prefix = "model.";
  EXPECT_THAT(CheckPlan(plan, checkpoint),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("2 tensors do not fit")));
  plan.ignored_prefixes = {"model.head."};
  plan.ignored_suffixes = {".ids"};
  EXPECT_THAT(CheckPlan(plan, checkpoint), IsOk());
  EXPECT_THAT(IgnoredTensors(plan, checkpoint), ElementsAre("model", "model.head.w", "model.x.ids", "other"));
}

TEST(CheckPlanTest, EnoughIsEnough) {
  FormatFolder folder;
  for (int i = 0; i < 500; ++i) folder.Add(absl::StrCat("t", i), {1});
  const absl::Status status = CheckPlan({}, CheckpointOf(folder));
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument,
                               AllOf(HasSubstr("500 tensors do not fit"), HasSubstr("and 100 more"))));
}

TEST(LoadTensorsTest, DividesOutputsOfEitherOrientation) {
  FormatFolder folder;
  folder.Add("in_out", {3, 8}, 100);
  folder.Add("out_in", {8, 3}, 200);
  folder.Add("bias", {8}, 300);
  const Shards checkpoint = CheckpointOf(folder);
  std::vector<float> a, b, c, d, e, f;
  const std::vector<WantedTensor> wanted = {
      {.names = {"in_out"}, .shape = {3, 8}, .parts = {{&a, 0, 5}, {&b, 5, 3}}},
      {.names = {"out_in"},
       .shape = {8, 3},
       .parts = {{&c, 0, 5}, {&d, 5, 3}},
       .orientation = Orientation::kOutIn},
      {.names = {"bias"}, .shape = {8}, .parts = {{&e, 0, 5}, {&f, 5, 3}}}};
  ASSERT_THAT(LoadTensors(wanted, checkpoint), IsOk());
  for (int64_t row = 0; row < 3; ++row) {
    for (int64_t col = 0; col < 5; ++col)
      EXPECT_EQ(a[row * 5 + col], 100 + static_cast<float>(row * 8 + col));
    for (int64_t col = 0; col < 3; ++col)
      EXPECT_EQ(b[row * 3 + col], 105 + static_cast<float>(row * 8 + col));
  }
  EXPECT_EQ(c, TransposedFrom(200, 3, 5));
  EXPECT_EQ(d, TransposedFrom(215, 3, 3));
  EXPECT_EQ(e, CountedFrom(300, 5));
  EXPECT_EQ(f, CountedFrom(305, 3));
}

TEST(LoadTensorsTest, FusedHeadsComeApart) {
  FormatFolder folder;
  folder.Add("qkv", {12, 1}, 100);  // two heads of 3 times 2
  folder.Add("bias", {12}, 200);
  const Shards checkpoint = CheckpointOf(folder);
  std::vector<float> q, k, v, bq, bk, bv;
  const std::vector<WantedTensor> wanted = {
      {.names = {"qkv"},
       .shape = {12, 1},
       .parts = {{&q, 0, 2, 6}, {&k, 2, 2, 6}, {&v, 4, 2, 6}},
       .orientation = Orientation::kOutIn},
      {.names = {"bias"}, .shape = {12}, .parts = {{&bq, 0, 2, 6}, {&bk, 2, 2, 6}, {&bv, 4, 2, 6}}}};
  ASSERT_THAT(LoadTensors(wanted, checkpoint), IsOk());
  EXPECT_THAT(q, ElementsAre(100, 101, 106, 107));
  EXPECT_THAT(k, ElementsAre(102, 103, 108, 109));
  EXPECT_THAT(v, ElementsAre(104, 105, 110, 111));
  EXPECT_THAT(bq, ElementsAre(200, 201, 206, 207));
  EXPECT_THAT(bk, ElementsAre(202, 203, 208, 209));
  EXPECT_THAT(bv, ElementsAre(204, 205, 210, 211));
}

TEST(LoadTensorsTest, WhatIsAddedIsAddedToEveryNumber) {
  FormatFolder folder;
  folder.Add("gain", {3}, -1);
  std::vector<float> gain;
  const std::vector<WantedTensor> wanted = {
      {.names = {"gain"}, .shape = {3}, .parts = {{&gain}}, .added = 1.0f}};
  ASSERT_THAT(LoadTensors(wanted, CheckpointOf(folder)), IsOk());
  EXPECT_THAT(gain, ElementsAre(0, 1, 2));
}

TEST(LoadTensorsTest, VectorsThatAreLargeEnoughKeepTheirMemory) {
  FormatFolder folder;
  folder.Add("w", {4, 3}, 1);
  const Shards checkpoint = CheckpointOf(folder);
  std::vector<float> to(100, -7.0f);
  const float* const before = to.data();
  const std::vector<WantedTensor> wanted = {
      {.names = {"w"}, .shape = {4, 3}, .parts = {{&to}}, .orientation = Orientation::kOutIn}};
  ASSERT_THAT(LoadTensors(wanted, checkpoint), IsOk());
  EXPECT_EQ(to, TransposedFrom(1, 3, 4));
  EXPECT_EQ(to.data(), before);
}

TEST(LoadTensorsTest, NumbersThatAreNotFiniteAreRefusedByTheirPlace) {
  FormatFolder folder;
  folder.Add("w", {2, 3}, std::nanf(""));
  std::vector<float> to;
  const std::vector<WantedTensor> wanted = {{.names = {"w"}, .shape = {2, 3}, .parts = {{&to}}}};
  EXPECT_THAT(
      LoadTensors(wanted, CheckpointOf(folder)),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("w[0, 0]: got nan, wanted finite numbers")));
}

TEST(LoadTableTest, IsTheTensorAsItIs) {
  FormatFolder folder;
  folder.Add("table", {5, 3}, 40);
  const Shards checkpoint = CheckpointOf(folder);
  const WantedTensor wanted = {.names = {"old", "table"}, .shape = {5, 3}};
  EXPECT_EQ(TableDType(wanted, checkpoint), DType::kF32);
  const absl::StatusOr<EmbeddingTable> table = LoadTable(wanted, checkpoint);
  ASSERT_THAT(table, IsOk());
  EXPECT_EQ(table->elements(), 15);
  std::vector<float> row(3);
  table->ReadRow(4, 3, row.data());
  EXPECT_EQ(row, CountedFrom(52, 3));
}

}  // namespace
}  // namespace headlight
