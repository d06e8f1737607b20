// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/health_board.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace headlight {
namespace {

using ::testing::ElementsAre;

class BoardListener final : public HealthWatcher {
 public:
  void Tell(Health health) override { heard.push_back(health); }
  std::vector<Health> heard;
};

TEST(HealthBoardTest, WatchersHearTheStateAndEveryChange) {
  HealthBoard board;
  BoardListener listener;
  board.Watch("a", listener);
  board.Set("a", true);
  board.Set("a", true);
  board.Set("b", true);
  board.Set("a", false);
  board.Forget("a", listener);
  board.Set("a", true);
  EXPECT_THAT(listener.heard, ElementsAre(Health::kUnknown, Health::kServing, Health::kNotServing));
  EXPECT_EQ(board.Get("a"), Health::kServing);
  EXPECT_EQ(board.Get("c"), Health::kUnknown);
}

TEST(HealthBoardTest, NothingServesOnceItIsClosed) {
  HealthBoard board;
  board.Set("a", true);
  BoardListener listener;
  board.Watch("a", listener);
  board.Close();
  board.Set("a", true);
  board.Set("b", true);
  EXPECT_THAT(listener.heard, ElementsAre(Health::kServing, Health::kNotServing));
  EXPECT_EQ(board.Get("b"), Health::kNotServing);
}

TEST(HealthBoardTest, WatchersComeAndGoWhileStatesChange) {
  HealthBoard board;
  std::thread changes([&] {
    for (int i = 0; i < 2000; ++i) board.Set("a", i % 2 == 0);
  });
  for (int i = 0; i < 500; ++i) {
    BoardListener listener;
    board.Watch("a", listener);
    board.Forget("a", listener);
    EXPECT_FALSE(listener.heard.empty());
  }
  changes.join();
  EXPECT_EQ(board.Get("a"), Health::kNotServing);
}

}  // namespace
}  // namespace headlight
