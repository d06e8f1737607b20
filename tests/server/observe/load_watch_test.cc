// SPDX-License-Identifier: Apache-2.0
#include "server/observe/load_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace headlight {
namespace {

class Heard final : public LoadObserver {
 public:
  void ModelLoadBegan(const std::string& model, const std::string&) override {
    words.push_back("began " + model);
  }
  void ModelLoadEnded(const std::string& model, const std::string&, const absl::Status&, double) override {
    words.push_back("ended " + model);
  }
  void ModelServes(const std::string& model, const std::string&, int64_t) override {
    words.push_back("serves " + model);
  }
  void ModelIsGone(const std::string& model) override { words.push_back("gone " + model); }

  std::vector<std::string> words;
};

TEST(LoadWatchTest, KnowsWhatIsLoadingAndWhatFailed) {
  Heard next;
  LoadWatch watch(next);
  watch.ModelLoadBegan("a", "1");
  ASSERT_EQ(watch.loading().count("a"), 1u);
  EXPECT_EQ(watch.loading().at("a").version, "1");
  watch.ModelLoadEnded("a", "1", absl::NotFoundError("/models/a/1: no config.json"), 0.5);
  EXPECT_TRUE(watch.loading().empty());
  EXPECT_THAT(watch.failures().at("a").error, ::testing::HasSubstr("/models/a/1: no config.json"));
  watch.ModelLoadBegan("a", "2");
  watch.ModelLoadEnded("a", "2", absl::OkStatus(), 0.5);
  watch.ModelServes("a", "2", 100);
  EXPECT_TRUE(watch.failures().empty());
  watch.ModelLoadEnded("b", "1", absl::NotFoundError("x"), 0.5);
  watch.ModelIsGone("b");
  EXPECT_TRUE(watch.failures().empty());
  EXPECT_THAT(next.words, ::testing::ElementsAre("began a", "ended a", "began a", "ended a", "serves a",
                                                 "ended b", "gone b"));
}

}  // namespace
}  // namespace headlight
