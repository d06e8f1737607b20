// SPDX-License-Identifier: Apache-2.0
#include "core/attention/tiled/work_plan.h"

#include <algorithm>

#include "core/product/parameter_panels.h"
#include "core/simd/targets.h"

namespace headlight {
namespace {

// Items per thread below which their unequal lengths would leave threads idle at the end.
constexpr int64_t kItemsPerThread = 4;

int64_t BlockRows(const AttentionConfig& config, const SequenceOptions& sequence) {
  const Visibility visibility = VisibilityOf(config, sequence);
  const bool is_bounded = visibility.causal || visibility.window_left || visibility.window_right;
  return is_bounded || sequence.weights.KeepsRows() ? kSmallQueryBlockRows : kQueryBlockRows;
}

}  // namespace

void WorkPlan::Build(const AttentionBatch& batch, const AttentionConfig& config, int64_t key_granule,
                     int num_threads) {
  groups.clear();
  items.clear();
  query_chunks.clear();
  query_blocks.clear();
  key_chunks.clear();
  packed_key_row.clear();
  first_panel.clear();
  max_packed_keys = 0;
  max_panels = 0;
  max_kept_keys = 0;
  max_group_sequences = 0;
  max_group_queries = 0;
  max_grid_queries = 0;

  for (int64_t first = 0; first < batch.num_sequences();) {
    int64_t end = first + 1;
    while (end < batch.num_sequences() && batch.cu_q_lens[end + 1] - batch.cu_q_lens[first] <= kGroupRows &&
           batch.cu_kv_lens[end + 1] - batch.cu_kv_lens[first] <= kGroupRows) {
      ++end;
    }
    AddGroup(batch, config, key_granule, first, end);
    first = end;
  }
  AddItems(batch, config, num_threads);
}

void WorkPlan::AddItems(const AttentionBatch& batch, const AttentionConfig& config, int num_threads) {
  for (size_t group = 0; group < groups.size(); ++group) {
    bool wants_mean = false, wants_summary = false;
    for (int64_t s = groups[group].first_sequence; s < groups[group].end_sequence; ++s) {
      const WeightsSink::Mode mode = batch.sequences[s].weights.mode;
      wants_mean |= mode == WeightsSink::Mode::kMean;
      wants_summary |= mode == WeightsSink::Mode::kSummary;
    }
    // A mean over heads is summed in the order of the heads, so one item takes them all; a summary over
    // queries in the order of the queries, so one thread takes them all.
    const int64_t step = wants_mean ? config.num_kv_heads : 1;
    for (int64_t head = 0; head < config.num_kv_heads; head += step) {
      items.push_back({static_cast<int64_t>(group), head, head + step, !wants_summary});
    }
  }
  if (static_cast<int64_t>(items.size()) < kItemsPerThread * num_threads) return;
  for (WorkItem& item : items) item.split = false;
}

void WorkPlan::AddGroup(const AttentionBatch& batch, const AttentionConfig& config, int64_t key_granule,
                        int64_t first_sequence, int64_t end_sequence) {
  SequenceGroup group{.first_sequence = first_sequence, .end_sequence = end_sequence};
  const int64_t queries = batch.cu_q_lens[end_sequence] - batch.cu_q_lens[first_sequence];
  int64_t packed_keys = 0, panels = 0;
  for (int64_t s = first_sequence; s < end_sequence; ++s) {
    packed_key_row.push_back(packed_keys);
    packed_keys += RoundUp(batch.kv_len(s), key_granule);
    first_panel.push_back(panels);
    panels += (batch.kv_len(s) + kPanelCols - 1) / kPanelCols;
    const WeightsSink& weights = batch.sequences[s].weights;
    if (weights.KeepsRows()) {
      max_kept_keys = std::max(max_kept_keys, batch.kv_len(s) + config.num_appended_keys());
    }
    if (weights.mode == WeightsSink::Mode::kGrid) max_grid_queries = std::max(max_grid_queries, queries);
  }
  max_packed_keys = std::max(max_packed_keys, packed_keys);
  max_panels = std::max(max_panels, panels);
  max_group_queries = std::max(max_group_queries, queries);
  max_group_sequences = std::max(max_group_sequences, end_sequence - first_sequence);

  const auto first_block = static_cast<int64_t>(query_blocks.size());
  AddQueryBlocks(batch, config, group);
  AddQueryChunks(batch, group, first_block);
  AddKeyChunks(batch, group);
  groups.push_back(group);
}

void WorkPlan::AddQueryBlocks(const AttentionBatch& batch, const AttentionConfig& config,
                              const SequenceGroup& group) {
  for (int64_t s = group.first_sequence; s < group.end_sequence; ++s) {
    const int64_t block_rows = BlockRows(config, batch.sequences[s]);
    for (int64_t query = 0; query < batch.q_len(s); query += block_rows) {
      query_blocks.push_back({s, query, std::min(block_rows, batch.q_len(s) - query)});
    }
  }
}

void WorkPlan::AddQueryChunks(const AttentionBatch& batch, SequenceGroup& group, int64_t first_block) {
  group.first_query_chunk = static_cast<int64_t>(query_chunks.size());
  const auto end_block = static_cast<int64_t>(query_blocks.size());
  QueryChunk chunk{.first_row = batch.cu_q_lens[group.first_sequence], .first_block = first_block};
  for (int64_t block = first_block; block < end_block; ++block) {
    if (chunk.rows + query_blocks[block].rows > kProjectionRows) {
      chunk.end_block = block;
      query_chunks.push_back(chunk);
      chunk = {.first_row = chunk.first_row + chunk.rows, .first_block = block};
    }
    chunk.rows += query_blocks[block].rows;
  }
  chunk.end_block = end_block;
  query_chunks.push_back(chunk);
  group.end_query_chunk = static_cast<int64_t>(query_chunks.size());
}

void WorkPlan::AddKeyChunks(const AttentionBatch& batch, SequenceGroup& group) {
  group.first_key_chunk = static_cast<int64_t>(key_chunks.size());
  const int64_t end_row = batch.cu_kv_lens[group.end_sequence];
  int64_t sequence = group.first_sequence;
  for (int64_t row = batch.cu_kv_lens[sequence]; row < end_row;) {
    const KeyChunk chunk{row, std::min(kProjectionRows, end_row - row)};
    row += chunk.rows;
    while (row < end_row && batch.cu_kv_lens[sequence + 1] <= row) ++sequence;
    // Where the cut falls inside a sequence, move it back to the last whole panel: packing goes by panels.
    const int64_t overhang = row < end_row ? (row - batch.cu_kv_lens[sequence]) % kPanelCols : 0;
    row -= overhang;
    key_chunks.push_back({chunk.first_row, chunk.rows - overhang});
  }
  group.end_key_chunk = static_cast<int64_t>(key_chunks.size());
}

int64_t WorkPlan::MaxGroups(const ForwardShape& shape) {
  // Of two groups in a row, the first with the next one's first sequence has more than kGroupRows queries or
  // keys.
  return std::min(shape.num_sequences, 2 * ((shape.tokens + shape.kv_tokens) / kGroupRows + 1));
}

int64_t WorkPlan::ListBytes(const ForwardShape& shape, const AttentionConfig& config) {
  const int64_t groups = MaxGroups(shape);
  // Chunks but a group's last have more than half of kProjectionRows.
  const auto chunks = [&](int64_t rows) { return groups + 2 * rows / kProjectionRows; };
  const int64_t bytes =
      groups * int64_t{sizeof(SequenceGroup)} + groups * config.num_kv_heads * int64_t{sizeof(WorkItem)} +
      chunks(shape.tokens) * int64_t{sizeof(QueryChunk)} +
      (shape.num_sequences + shape.tokens / kSmallQueryBlockRows) * int64_t{sizeof(QueryBlock)} +
      chunks(shape.kv_tokens) * int64_t{sizeof(KeyChunk)} +
      2 * shape.num_sequences * int64_t{sizeof(int64_t)};
  return 2 * bytes;  // lists double when they grow
}

int64_t WorkPlan::list_bytes() const {
  const auto bytes = [](const auto& list) {
    return static_cast<int64_t>(list.capacity() * sizeof(list.front()));
  };
  return bytes(groups) + bytes(items) + bytes(query_chunks) + bytes(query_blocks) + bytes(key_chunks) +
         bytes(packed_key_row) + bytes(first_panel);
}

}  // namespace headlight
