// SPDX-License-Identifier: Apache-2.0
#include "core/attention/tiled/work_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/product/parameter_panels.h"
#include "core/simd/targets.h"
#include "tests/core/testing/effort.h"

namespace headlight {
namespace {

using Mode = WeightsSink::Mode;

constexpr int64_t kPlanGranule = 16;

// A batch of which only the lengths and what sequences ask for are there.
struct PlannedBatch {
  explicit PlannedBatch(const std::vector<std::pair<int64_t, int64_t>>& lengths) : options(lengths.size()) {
    for (const auto& [q_len, kv_len] : lengths) {
      cu_q_lens.push_back(cu_q_lens.back() + q_len);
      cu_kv_lens.push_back(cu_kv_lens.back() + kv_len);
    }
  }
  AttentionBatch batch() const {
    return {.cu_q_lens = cu_q_lens, .cu_kv_lens = cu_kv_lens, .sequences = options};
  }
  WorkPlan Plan(const AttentionConfig& config, int num_threads = 1) const {
    WorkPlan plan;
    plan.Build(batch(), config, kPlanGranule, num_threads);
    return plan;
  }

  std::vector<int64_t> cu_q_lens = {0}, cu_kv_lens = {0};
  std::vector<SequenceOptions> options;
};

const AttentionConfig kPlannedLayer =
    AttentionConfig{.embed_dim = 48, .num_heads = 6, .num_kv_heads = 3}.Resolved();

// Some long sequences, some short ones; some with bounds or wishes.
PlannedBatch RandomPlannedBatch(testing::Rng& rng) {
  std::vector<std::pair<int64_t, int64_t>> lengths;
  for (int64_t left = testing::UniformInt(rng, 1, 12); left > 0; --left) {
    const int64_t longest = testing::OneIn(rng, 4) ? 1500 : 200;
    const int64_t q_len = testing::UniformInt(rng, 1, longest);
    lengths.emplace_back(q_len, testing::OneIn(rng, 2) ? q_len : testing::UniformInt(rng, 1, longest));
  }
  PlannedBatch planned(lengths);
  constexpr Mode kModes[] = {Mode::kNone, Mode::kNone, Mode::kNone,    Mode::kFull,
                             Mode::kMean, Mode::kTopK, Mode::kSummary, Mode::kGrid};
  for (SequenceOptions& options : planned.options) {
    options.visibility.causal = testing::OneIn(rng, 3);
    if (testing::OneIn(rng, 4)) options.visibility.window_left = 5;
    options.weights.mode = kModes[testing::UniformInt(rng, 0, 7)];
  }
  return planned;
}

template <typename Body>
void ForEachRandomPlan(const Body& body) {
  for (int i = 0; i < testing::Repetitions(200); ++i) {
    HEADLIGHT_TRACE_REPETITION(i);
    testing::Rng rng = testing::MakeRng(i);
    const PlannedBatch planned = RandomPlannedBatch(rng);
    const WorkPlan plan = planned.Plan(kPlannedLayer);
    ASSERT_NO_FATAL_FAILURE(body(planned.batch(), plan));
  }
}

TEST(WorkPlanTest, GroupsTakeAllSequencesInOrderAndAsManyAsFit) {
  ForEachRandomPlan([](const AttentionBatch& batch, const WorkPlan& plan) {
    const auto rows = [&](int64_t first, int64_t end) {
      return std::max(batch.cu_q_lens[end] - batch.cu_q_lens[first],
                      batch.cu_kv_lens[end] - batch.cu_kv_lens[first]);
    };
    int64_t next = 0;
    for (const SequenceGroup& group : plan.groups) {
      ASSERT_EQ(group.first_sequence, next);
      ASSERT_GT(group.end_sequence, next);
      next = group.end_sequence;
      if (next > group.first_sequence + 1) {
        ASSERT_LE(rows(group.first_sequence, next), kGroupRows);
      }
      if (next < batch.num_sequences()) {
        ASSERT_GT(rows(group.first_sequence, next + 1), kGroupRows);
      }
    }
    ASSERT_EQ(next, batch.num_sequences());
  });
}

TEST(WorkPlanTest, BlocksAreSmallWhereThereIsABoundOrAWish) {
  ForEachRandomPlan([](const AttentionBatch& batch, const WorkPlan& plan) {
    auto block = plan.query_blocks.begin();
    for (int64_t s = 0; s < batch.num_sequences(); ++s) {
      const SequenceOptions& options = batch.sequences[s];
      const bool is_small =
          options.visibility.causal || options.visibility.window_left || options.weights.KeepsRows();
      const int64_t rows = is_small ? 64 : 128;
      for (int64_t query = 0; query < batch.q_len(s); query += rows, ++block) {
        ASSERT_NE(block, plan.query_blocks.end());
        ASSERT_EQ(block->sequence, s);
        ASSERT_EQ(block->first_query, query);
        ASSERT_EQ(block->rows, std::min(rows, batch.q_len(s) - query));
      }
    }
    ASSERT_EQ(block, plan.query_blocks.end());
  });
}

TEST(WorkPlanTest, AWindowOfTheLayerMakesBlocksSmallToo) {
  AttentionConfig config = kPlannedLayer;
  const PlannedBatch planned({{200, 200}});
  EXPECT_EQ(planned.Plan(config).query_blocks.size(), 2u);
  config.window_right = 9;
  EXPECT_EQ(planned.Plan(config).query_blocks.size(), 4u);
}

TEST(WorkPlanTest, QueryChunksAreWholeBlocksOfOneGroup) {
  ForEachRandomPlan([](const AttentionBatch& batch, const WorkPlan& plan) {
    int64_t next_chunk = 0, next_block = 0;
    for (const SequenceGroup& group : plan.groups) {
      ASSERT_EQ(group.first_query_chunk, next_chunk);
      int64_t next_row = batch.cu_q_lens[group.first_sequence];
      for (; next_chunk < group.end_query_chunk; ++next_chunk) {
        const QueryChunk& chunk = plan.query_chunks[next_chunk];
        ASSERT_EQ(chunk.first_row, next_row);
        ASSERT_EQ(chunk.first_block, next_block);
        ASSERT_LE(chunk.rows, kProjectionRows);
        int64_t rows = 0;
        for (; next_block < chunk.end_block; ++next_block) rows += plan.query_blocks[next_block].rows;
        ASSERT_EQ(chunk.rows, rows);
        next_row += rows;
      }
      ASSERT_EQ(next_row, batch.cu_q_lens[group.end_sequence]);
    }
    ASSERT_EQ(next_chunk, std::ssize(plan.query_chunks));
    ASSERT_EQ(next_block, std::ssize(plan.query_blocks));
  });
}

TEST(WorkPlanTest, KeyChunksBeginAtPanelsOfTheirSequence) {
  ForEachRandomPlan([](const AttentionBatch& batch, const WorkPlan& plan) {
    int64_t next_chunk = 0;
    for (const SequenceGroup& group : plan.groups) {
      ASSERT_EQ(group.first_key_chunk, next_chunk);
      int64_t next_row = batch.cu_kv_lens[group.first_sequence];
      for (; next_chunk < group.end_key_chunk; ++next_chunk) {
        const KeyChunk& chunk = plan.key_chunks[next_chunk];
        ASSERT_EQ(chunk.first_row, next_row);
        ASSERT_GT(chunk.rows, 0);
        ASSERT_LE(chunk.rows, kProjectionRows);
        const auto after =
            std::upper_bound(batch.cu_kv_lens.begin(), batch.cu_kv_lens.end(), chunk.first_row);
        ASSERT_EQ((chunk.first_row - *(after - 1)) % kPanelCols, 0);
        next_row += chunk.rows;
      }
      ASSERT_EQ(next_row, batch.cu_kv_lens[group.end_sequence]);
    }
    ASSERT_EQ(next_chunk, std::ssize(plan.key_chunks));
  });
}

TEST(WorkPlanTest, PackedKeysOfAGroupFollowEachOtherAndTheLargestGroupIsKnown) {
  ForEachRandomPlan([](const AttentionBatch& batch, const WorkPlan& plan) {
    int64_t max_keys = 0, max_panels = 0, max_sequences = 0, max_queries = 0;
    int64_t max_kept_keys = 0, max_grid_queries = 0;
    for (const SequenceGroup& group : plan.groups) {
      int64_t keys = 0, panels = 0, queries = 0;
      bool has_grid = false;
      for (int64_t s = group.first_sequence; s < group.end_sequence; ++s) {
        ASSERT_EQ(plan.packed_key_row[s], keys);
        ASSERT_EQ(plan.first_panel[s], panels);
        keys += RoundUp(batch.kv_len(s), kPlanGranule);
        panels += RoundUp(batch.kv_len(s), kPanelCols) / kPanelCols;
        queries += batch.q_len(s);
        const Mode mode = batch.sequences[s].weights.mode;
        has_grid |= mode == Mode::kGrid;
        if (mode != Mode::kNone && mode != Mode::kGrid)
          max_kept_keys = std::max(max_kept_keys, batch.kv_len(s));
      }
      max_keys = std::max(max_keys, keys);
      max_panels = std::max(max_panels, panels);
      max_queries = std::max(max_queries, queries);
      if (has_grid) max_grid_queries = std::max(max_grid_queries, queries);
      max_sequences = std::max(max_sequences, group.end_sequence - group.first_sequence);
    }
    ASSERT_EQ(plan.max_packed_keys, max_keys);
    ASSERT_EQ(plan.max_panels, max_panels);
    ASSERT_EQ(plan.max_group_queries, max_queries);
    ASSERT_EQ(plan.max_group_sequences, max_sequences);
    ASSERT_EQ(plan.max_kept_keys, max_kept_keys);
    ASSERT_EQ(plan.max_grid_queries, max_grid_queries);
  });
}

TEST(WorkPlanTest, AppendedKeysCountAsKeysOfEverySequence) {
  AttentionConfig config = kPlannedLayer;
  config.add_bias_kv = config.add_zero_attn = true;
  PlannedBatch planned({{3, 9}, {4, 30}});
  for (SequenceOptions& options : planned.options) options.weights.mode = Mode::kFull;
  EXPECT_EQ(planned.Plan(config).max_kept_keys, 32);
}

TEST(WorkPlanTest, ItemsTakeEachHeadOfEachGroupOnce) {
  ForEachRandomPlan([](const AttentionBatch& batch, const WorkPlan& plan) {
    std::vector<std::vector<int>> taken(plan.groups.size(), std::vector<int>(kPlannedLayer.num_kv_heads, 0));
    for (const WorkItem& item : plan.items) {
      bool wants_mean = false;
      const SequenceGroup& group = plan.groups[item.group];
      for (int64_t s = group.first_sequence; s < group.end_sequence; ++s) {
        wants_mean |= batch.sequences[s].weights.mode == Mode::kMean;
      }
      // A mean over heads is summed in the order of the heads.
      ASSERT_EQ(item.end_kv_head - item.first_kv_head, wants_mean ? kPlannedLayer.num_kv_heads : 1);
      for (int64_t head = item.first_kv_head; head < item.end_kv_head; ++head) ++taken[item.group][head];
    }
    for (const std::vector<int>& heads : taken) {
      for (const int times : heads) ASSERT_EQ(times, 1);
    }
  });
}

TEST(WorkPlanTest, FewItemsAreSplitButNotWhereASummaryIsWanted) {
  PlannedBatch planned({{400, 400}});
  for (const WorkItem& item : planned.Plan(kPlannedLayer, 2).items) EXPECT_TRUE(item.split);
  planned.options[0].weights.mode = Mode::kSummary;
  for (const WorkItem& item : planned.Plan(kPlannedLayer, 2).items) EXPECT_FALSE(item.split);
}

// Its exponentials are summed up tile by tile, and its parts in the order of the blocks.
TEST(WorkPlanTest, AGridChangesNothingOfThePlan) {
  PlannedBatch planned({{400, 400}});
  const WorkPlan plain = planned.Plan(kPlannedLayer, 2);
  planned.options[0].weights.mode = Mode::kGrid;
  const WorkPlan plan = planned.Plan(kPlannedLayer, 2);
  EXPECT_EQ(plan.query_blocks.size(), plain.query_blocks.size());
  for (const WorkItem& item : plan.items) EXPECT_TRUE(item.split);
  EXPECT_EQ(plan.max_kept_keys, 0);
  EXPECT_EQ(plan.max_grid_queries, 400);
  EXPECT_EQ(plain.max_grid_queries, 0);
}

TEST(WorkPlanTest, ManyItemsAreNotSplit) {
  const PlannedBatch planned({{400, 400}, {400, 400}, {400, 400}});
  const WorkPlan plan = planned.Plan(kPlannedLayer, 2);
  EXPECT_EQ(plan.items.size(), 9u);
  for (const WorkItem& item : plan.items) EXPECT_FALSE(item.split);
}

TEST(WorkPlanTest, TheBlocksOfASequenceDoNotDependOnTheOthers) {
  ForEachRandomPlan([](const AttentionBatch& batch, const WorkPlan& plan) {
    for (int64_t s = 0; s < batch.num_sequences(); ++s) {
      PlannedBatch alone({{batch.q_len(s), batch.kv_len(s)}});
      alone.options[0] = batch.sequences[s];
      std::vector<std::pair<int64_t, int64_t>> together, by_itself;
      for (const QueryBlock& block : plan.query_blocks) {
        if (block.sequence == s) together.emplace_back(block.first_query, block.rows);
      }
      for (const QueryBlock& block : alone.Plan(kPlannedLayer).query_blocks) {
        by_itself.emplace_back(block.first_query, block.rows);
      }
      ASSERT_EQ(together, by_itself);
    }
  });
}

TEST(WorkPlanTest, BoundsOfListsAndGroupsHold) {
  ForEachRandomPlan([](const AttentionBatch& batch, const WorkPlan& plan) {
    const ForwardShape shape = ShapeOf(batch);
    ASSERT_LE(std::ssize(plan.groups), WorkPlan::MaxGroups(shape));
    ASSERT_LE(plan.list_bytes(), WorkPlan::ListBytes(shape, kPlannedLayer));
  });
}

TEST(WorkPlanTest, IsTheSameWhenItIsBuiltAgain) {
  const PlannedBatch large({{700, 900}, {3, 3}, {40, 20}}), small({{5, 7}});
  WorkPlan plan = large.Plan(kPlannedLayer);
  plan.Build(small.batch(), kPlannedLayer, kPlanGranule, 1);
  EXPECT_EQ(plan.groups.size(), 1u);
  EXPECT_EQ(plan.query_blocks.size(), 1u);
  EXPECT_EQ(plan.max_packed_keys, 16);
  EXPECT_EQ(plan.max_group_queries, 5);
  const int64_t bytes = plan.list_bytes();
  plan.Build(large.batch(), kPlannedLayer, kPlanGranule, 1);
  EXPECT_EQ(plan.list_bytes(), bytes) << "the memory was kept";
}

}  // namespace
}  // namespace headlight
