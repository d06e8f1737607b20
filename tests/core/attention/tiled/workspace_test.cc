// SPDX-License-Identifier: Apache-2.0
#include "core/attention/tiled/workspace.h"

#include <gtest/gtest.h>

#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"

namespace headlight {
namespace {

// Self attention of sequences of some lengths, in memory that is not looked at.
struct RoomFor {
  RoomFor(const AttentionConfig& config, const std::vector<int64_t>& lengths) : options(lengths.size()) {
    for (const int64_t length : lengths) cu_lens.push_back(cu_lens.back() + length);
    rows.resize(cu_lens.back() * config.embed_dim);
    batch.query = batch.key = batch.value = {rows.data(), cu_lens.back(), config.embed_dim, config.embed_dim};
    batch.output = {rows.data(), cu_lens.back(), config.embed_dim, config.embed_dim};
    batch.cu_q_lens = batch.cu_kv_lens = cu_lens;
    batch.sequences = options;
  }

  std::vector<int64_t> cu_lens = {0};
  std::vector<SequenceOptions> options;
  std::vector<float> rows;
  AttentionBatch batch;
};

class TiledWorkspaceTest : public ::testing::Test {
 protected:
  TiledLayer Layer() const {
    return {.config = config_,
            .padded_head_dim = 16,
            .element_bytes = 4,
            .key_granule = 16,
            .gemm_scratch_bytes = 128};
  }
  bool Reserve(TiledWorkspace& workspace, const AttentionBatch& batch) const {
    workspace.plan.Build(batch, config_, 16, static_cast<int>(workspace.workers.size()));
    return workspace.Reserve(Layer(), batch);
  }
  static int64_t GroupsWithMemory(TiledWorkspace& workspace) {
    int64_t count = 0;
    for (GroupMemory& group : workspace.groups) {
      bool has_any = false;
      group.ForEachBuffer([&](Buffer& buffer) { has_any |= buffer.ok(); });
      count += has_any ? 1 : 0;
    }
    return count;
  }
  static int64_t Held(TiledWorkspace& workspace) {
    int64_t bytes = workspace.list_bytes();
    workspace.ForEachBuffer([&](Buffer& buffer) { bytes += buffer.size_bytes(); });
    return bytes;
  }

  AttentionConfig config_ = AttentionConfig{.embed_dim = 32, .num_heads = 2}.Resolved();
};

TEST_F(TiledWorkspaceTest, GroupsHaveMemoryForAsManyThreadsAsThereAreItems) {
  const RoomFor one(config_, {20});  // two heads of one group
  TiledWorkspace workspace(5);
  ASSERT_TRUE(Reserve(workspace, one.batch));
  EXPECT_EQ(GroupsWithMemory(workspace), 2);
  const RoomFor many(config_, {300, 300, 300});
  ASSERT_TRUE(Reserve(workspace, many.batch));
  EXPECT_EQ(GroupsWithMemory(workspace), 5);
}

TEST_F(TiledWorkspaceTest, ThreadsThatWorkOnGroupsDoNotShareTheirMemory) {
  const RoomFor room(config_, {20});
  TiledWorkspace workspace(2);
  ASSERT_TRUE(Reserve(workspace, room.batch));
  std::optional<GroupInUse> first(std::in_place, workspace);
  const GroupInUse second(workspace);
  EXPECT_NE(&first->memory(), &second.memory());
  const GroupMemory* const given_back = &first->memory();
  first.reset();
  EXPECT_EQ(&GroupInUse(workspace).memory(), given_back);
}

TEST_F(TiledWorkspaceTest, QueriesLieAboutInSelfAttentionOnly) {
  RoomFor room(config_, {20, 30});
  TiledWorkspace workspace(1);
  ASSERT_TRUE(Reserve(workspace, room.batch));
  EXPECT_TRUE(workspace.queries_with_keys);
  const std::vector<float> others = room.rows;
  room.batch.key.data = room.batch.value.data = others.data();
  ASSERT_TRUE(Reserve(workspace, room.batch));
  EXPECT_FALSE(workspace.queries_with_keys);
}

TEST_F(TiledWorkspaceTest, ReservesAnglesOnlyWhereTheLayerHasNone) {
  config_.rope = RopeConfig{.rotary_dim = 16};
  ComputeArena arena(1);
  TiledWorkspace workspace(1);
  workspace.arena = &arena;
  RopeTable of_layer;
  ASSERT_TRUE(of_layer.Reserve(*config_.rope, 0, 100, arena));
  const RoomFor shorter(config_, {100, 3});
  ASSERT_TRUE(workspace.ReserveAngles(*config_.rope, of_layer, shorter.batch));
  EXPECT_EQ(workspace.rope.size_bytes(), 0);
  const RoomFor longer(config_, {100, 101});
  ASSERT_TRUE(workspace.ReserveAngles(*config_.rope, of_layer, longer.batch));
  EXPECT_TRUE(workspace.rope.Holds(0, 101));
}

TEST_F(TiledWorkspaceTest, QueriesThatStandBeforeAllKeysHaveAnglesToo) {
  config_.rope = RopeConfig{.rotary_dim = 16};
  ComputeArena arena(1);
  TiledWorkspace workspace(1);
  workspace.arena = &arena;
  RopeTable of_layer;
  ASSERT_TRUE(of_layer.Reserve(*config_.rope, 0, 100, arena));
  RoomFor room(config_, {30});
  const std::vector<int64_t> cu_kv_lens = {0, 7};
  room.batch.cu_kv_lens = cu_kv_lens;
  ASSERT_TRUE(workspace.ReserveAngles(*config_.rope, of_layer, room.batch));
  EXPECT_TRUE(workspace.rope.Holds(-23, 7));
}

TEST_F(TiledWorkspaceTest, HoldsNoMoreThanItsBound) {
  for (const Precision precision : {Precision::kF32, Precision::kInt8}) {
    config_.precision = precision;
    for (const std::vector<int64_t>& lengths :
         {std::vector<int64_t>{1}, {700}, {300, 1, 1, 1}, {20, 30, 600, 5}, std::vector<int64_t>(90, 9)}) {
      for (const auto mode : {WeightsSink::Mode::kNone, WeightsSink::Mode::kFull, WeightsSink::Mode::kGrid}) {
        for (const int threads : {1, 2, 7}) {
          SCOPED_TRACE(absl::StrCat(Name(precision), ", ", lengths.size(), " sequences, the first of ",
                                    lengths[0], ", ", threads, " threads, weights ", static_cast<int>(mode)));
          RoomFor room(config_, lengths);
          for (SequenceOptions* const asking : {&room.options.back(), &room.options.front()}) {
            asking->weights.mode = mode;
            TiledWorkspace workspace(threads);
            ASSERT_TRUE(Reserve(workspace, room.batch));
            EXPECT_LE(Held(workspace), TiledWorkspaceBytes(Layer(), ShapeOf(room.batch), threads, nullptr));
          }
        }
      }
    }
  }
}

// Rows of weights are kept tile by tile; of a grid there are a thread's sums and, for every query block and
// head, what it leaves of two rows of cells.
TEST_F(TiledWorkspaceTest, AGridTakesAFewBytesForEachQuery) {
  constexpr int64_t kQueries = 32'768;
  for (const int threads : {1, 2}) {
    const auto bytes = [&](int64_t longest_kv_with_rows, int64_t longest_with_grid) {
      return TiledWorkspaceBytes(
          Layer(), SelfAttentionShape(kQueries, 1, kQueries, longest_kv_with_rows, longest_with_grid),
          threads, nullptr);
    };
    const int64_t of_sums = (kQueryBlockRows + kExactRows) * kMaxGridCells * int64_t{sizeof(float)};
    const int64_t blocks = kQueries / kSmallQueryBlockRows + 1;
    const int64_t of_parts = blocks * 2 * kMaxGridCells * int64_t{sizeof(float)};
    EXPECT_EQ(bytes(0, kQueries) - bytes(0, 0),
              threads * (Buffer().GrowthFor(of_sums) + Buffer().GrowthFor(of_parts)));
    EXPECT_GT(bytes(kQueries, 0) - bytes(0, 0), 20 * (bytes(0, kQueries) - bytes(0, 0)));
  }
}

// Whatever else is in the batch: a short sequence's weights take what they take of a batch of short ones.
TEST_F(TiledWorkspaceTest, WeightsTakeTheRoomOfTheLongestSequenceThatAsksForThem) {
  for (const auto mode : {WeightsSink::Mode::kFull, WeightsSink::Mode::kGrid}) {
    const auto room_of_weights = [&](const std::vector<int64_t>& lengths) {
      RoomFor room(config_, lengths);
      int64_t held[2], said[2];
      for (const int asks : {0, 1}) {
        if (asks == 1) room.options.front().weights.mode = mode;
        TiledWorkspace workspace(2);
        EXPECT_TRUE(Reserve(workspace, room.batch));
        held[asks] = Held(workspace) - workspace.list_bytes();
        said[asks] = TiledWorkspaceBytes(Layer(), ShapeOf(room.batch), 2, nullptr);
      }
      EXPECT_EQ(said[1] - said[0], held[1] - held[0]);
      return held[1] - held[0];
    };
    const int64_t of_short_ones = room_of_weights({600, 700});
    EXPECT_GT(of_short_ones, 0);
    EXPECT_EQ(room_of_weights({600, 9000}), of_short_ones);
    EXPECT_GT(room_of_weights({9000, 600}), 2 * of_short_ones);
  }
}

TEST_F(TiledWorkspaceTest, WhatIsKeptNeedNotBeTakenAgain) {
  const RoomFor room(config_, {20, 30, 600, 5});
  TiledWorkspace workspace(2);
  ASSERT_TRUE(Reserve(workspace, room.batch));
  const ForwardShape shape = ShapeOf(room.batch);
  const int64_t anew = TiledWorkspaceBytes(Layer(), shape, 2, nullptr);
  const int64_t more = TiledWorkspaceBytes(Layer(), shape, 2, &workspace);
  const int64_t lists = WorkPlan::ListBytes(shape, config_);
  EXPECT_LT(more, anew);
  const int64_t held = Held(workspace);
  ASSERT_TRUE(Reserve(workspace, room.batch));
  EXPECT_LE(Held(workspace) - held, more);
  EXPECT_GE(more, lists) << "which of the lists grow is not known";
}

}  // namespace
}  // namespace headlight
