// SPDX-License-Identifier: Apache-2.0
#include "server/oip/repository_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/server/attend_fixtures.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::ElementsAre;
using testing::IsOk;
using testing::MakeTestModel;

// "NAME/VERSION STATE REASON" of each.
std::vector<std::string> Index(const ModelView& view, const RepositoryFacts& facts,
                               const std::string& not_serving = "", bool ready_only = false) {
  inference::RepositoryIndexResponse response;
  DescribeRepository(
      view, facts, [&](const std::string& model) { return model != not_serving; }, ready_only, response);
  std::vector<std::string> lines;
  for (const auto& model : response.models()) {
    lines.push_back(model.name() + "/" + model.version() + " " + model.state() + " " + model.reason());
  }
  return lines;
}

RepositoryFacts FactsOfAll() {
  RepositoryFacts facts;
  facts.on_disk = {{"a", "10"}, {"b", "1"}, {"c", "2"}, {"d", "4"}};
  facts.loading["a"].version = "10";
  facts.loading["d"].version = "4";
  return facts;
}

TEST(RepositoryIndexTest, ListsVersionsInEveryState) {
  ModelRegistry registry;
  ASSERT_THAT(registry.Add(MakeTestModel("a", testing::SmallConfig(), "9").loaded), IsOk());
  ASSERT_THAT(registry.Add(MakeTestModel("b").loaded), IsOk());
  registry.SetLoadError("c", "no weights");
  EXPECT_THAT(Index(registry, {}), ElementsAre("a/9 READY ", "b/1 READY ", "c/ UNAVAILABLE no weights"));
  EXPECT_THAT(Index(registry, FactsOfAll()), ElementsAre("a/9 READY ", "a/10 LOADING ", "b/1 READY ",
                                                         "c/2 UNAVAILABLE no weights", "d/4 LOADING "));
}

TEST(RepositoryIndexTest, AModelThatHealthSaysDoesNotServeIsNotReady) {
  ModelRegistry registry;
  ASSERT_THAT(registry.Add(MakeTestModel("a").loaded), IsOk());
  ASSERT_THAT(registry.Add(MakeTestModel("b").loaded), IsOk());
  EXPECT_THAT(Index(registry, {}, /*not_serving=*/"b"),
              ElementsAre("a/1 READY ", "b/1 UNAVAILABLE it is loaded and not serving, as its health says"));
  EXPECT_THAT(Index(registry, {}, /*not_serving=*/"b", /*ready_only=*/true), ElementsAre("a/1 READY "));
}

TEST(RepositoryIndexTest, WhatMayNotBeSeenIsInNoState) {
  ModelRegistry registry;
  ASSERT_THAT(registry.Add(MakeTestModel("a", testing::SmallConfig(), "9").loaded), IsOk());
  ASSERT_THAT(registry.Add(MakeTestModel("b").loaded), IsOk());
  registry.SetLoadError("c", "no weights");
  const ModelRights rights({"b"});
  EXPECT_THAT(Index(ModelView(registry, rights), FactsOfAll()), ElementsAre("b/1 READY "));
}

}  // namespace
}  // namespace headlight
