// SPDX-License-Identifier: Apache-2.0
#include "server/models/model_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/server/attend_fixtures.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::ElementsAre;
using testing::IsOk;
using ::testing::Key;
using testing::StatusIs;

class ModelViewTest : public ::testing::Test {
 protected:
  ModelViewTest() {
    for (const char* name : {"a-one", "a-two", "b"}) {
      EXPECT_THAT(registry_.Add(testing::MakeTestModel(name).loaded), IsOk());
    }
    registry_.SetLoadError("a-broken", "its file is short");
    registry_.SetLoadError("b", "its new version is broken");
  }

  ModelRegistry registry_;
  const ModelRights rights_{{"a-*", "c"}};
  const ModelView view_{registry_, rights_};
};

TEST_F(ModelViewTest, WhatMayBeSeenIsFound) {
  EXPECT_THAT(view_.Find("a-one", ""), IsOk());
  EXPECT_THAT(view_.Find("a-broken", ""), StatusIs(absl::StatusCode::kUnavailable, ::testing::_));
  EXPECT_THAT(view_.Find("a-one", "9"),
              StatusIs(absl::StatusCode::kNotFound, ::testing::HasSubstr("there is 1")));
}

TEST_F(ModelViewTest, WhatMayNotBeSeenIsAsIfItWereNotThere) {
  EXPECT_THAT(view_.Find("b", ""),
              StatusIs(absl::StatusCode::kNotFound, "model: no model \"b\"; there is a-one, a-two"));
  EXPECT_THAT(view_.Find("x", ""),
              StatusIs(absl::StatusCode::kNotFound, "model: no model \"x\"; there is a-one, a-two"));
  EXPECT_EQ(view_.Find("b", "9").status(), view_.Find("b", "").status());
  EXPECT_EQ(view_.NoModel("b"), view_.Find("b", "").status());
  EXPECT_THAT(view_.Find("c", ""),  // may be seen, and is not there
              StatusIs(absl::StatusCode::kNotFound, "model: no model \"c\"; there is a-one, a-two"));
}

TEST_F(ModelViewTest, ListsWhatMayBeSeen) {
  std::vector<std::string> names;
  for (const auto& model : view_.List()) names.push_back(model->name);
  EXPECT_THAT(names, ElementsAre("a-one", "a-two"));
  EXPECT_THAT(view_.LoadErrors(), ElementsAre(Key("a-broken")));
}

TEST_F(ModelViewTest, NothingMayBeSeenWithoutRights) {
  const ModelView none(registry_, ModelRights::None());
  EXPECT_THAT(none.Find("b", ""),
              StatusIs(absl::StatusCode::kNotFound, "model: no model \"b\"; there is none"));
  EXPECT_TRUE(none.List().empty());
}

TEST(ModelRightsTest, AStarStandsForEveryEnding) {
  const ModelRights rights({"one", "two*"});
  EXPECT_TRUE(rights.MaySee("one"));
  EXPECT_FALSE(rights.MaySee("one1"));
  EXPECT_FALSE(rights.MaySee("on"));
  EXPECT_TRUE(rights.MaySee("two"));
  EXPECT_TRUE(rights.MaySee("two-b"));
  EXPECT_FALSE(rights.MaySee("tw"));
  EXPECT_FALSE(rights.MaySeeAll());
  EXPECT_TRUE(ModelRights({"*"}).MaySee(""));
}

TEST(ModelRightsTest, AStarIsAtTheEndOnly) {
  EXPECT_THAT(ModelRights::CheckPattern("a*"), IsOk());
  EXPECT_THAT(ModelRights::CheckPattern("*"), IsOk());
  EXPECT_THAT(ModelRights::CheckPattern(""), StatusIs(absl::StatusCode::kInvalidArgument, ::testing::_));
  EXPECT_THAT(ModelRights::CheckPattern("a*b"), StatusIs(absl::StatusCode::kInvalidArgument, ::testing::_));
  EXPECT_THAT(ModelRights::CheckPattern("a**"), StatusIs(absl::StatusCode::kInvalidArgument, ::testing::_));
}

}  // namespace
}  // namespace headlight
