// SPDX-License-Identifier: Apache-2.0
#include "server/batch/work_cost.h"

#include <algorithm>
#include <cstddef>
#include <functional>
#include <string>

#include "core/attention/config.h"
#include "core/model/config.h"
#include "server/batch/output_work.h"

namespace headlight {
namespace {

constexpr double kNsPerWeightByte = 0.1;  // 10 GB/s

// Sum over i in [0, count) of first + i, held within [0, limit].
double SumOfClamped(int64_t first, int64_t count, int64_t limit) {
  const int64_t below = std::clamp<int64_t>(-first, 0, count);  // terms that are 0
  const int64_t above =
      std::clamp<int64_t>(first + count - limit, 0, count - below);  // terms that are `limit`
  const auto between = static_cast<double>(count - below - above);
  const auto begin = static_cast<double>(first + below);
  return between * (2 * begin + between - 1) / 2 + static_cast<double>(above) * static_cast<double>(limit);
}

// Of the projections and the feed-forward networks, all layers. Keys and values may be other tokens than
// queries.
double ProjectionFlops(const ModelConfig& config, const BatchInput& input) {
  const double all = static_cast<double>(ProjectionFlopsPerToken(config));
  double of_keys = 0;
  config.ForEachBlock([&](const BlockConfig& block, int64_t num_layers) {
    const AttentionConfig& attention = block.attention;
    of_keys += 2.0 * static_cast<double>(num_layers) *
               static_cast<double>((attention.kdim + attention.vdim) * attention.kv_width());
  });
  return (all - of_keys) * static_cast<double>(input.q_tokens) +
         of_keys * static_cast<double>(input.kv_tokens);
}

// Payload that is copied in and out, as the kernels read and write it.
double MovedBytes(const ModelConfig& config, const BatchInput& input) {
  const AttentionConfig& attention = config.block.attention;
  int64_t numbers = input.num_outputs(attention.embed_dim) + input.weights.num_weights +
                    input.weights.num_keys + input.weights.num_received;
  switch (input.kind) {
    case InputKind::kTokenIds:
      numbers += input.q_tokens;
      break;
    case InputKind::kKeyAndValue:
      numbers += input.kv_tokens * attention.vdim;
      [[fallthrough]];
    case InputKind::kSharedKey:
      numbers += input.kv_tokens * attention.kdim;
      [[fallthrough]];
    case InputKind::kSelf:
      numbers += input.q_tokens * attention.embed_dim;
      break;
  }
  return static_cast<double>(numbers * SizeOf(DType::kF32) + input.mask.bytes.size_bytes());
}

// Pairs of a query and a key that a layer works on, over all sequences.
double PairsOf(const BatchInput& input, const AttentionConfig& attention, bool causal) {
  Visibility visibility = Narrowed(
      {.window_left = attention.window_left, .window_right = attention.window_right}, input.visibility);
  visibility.causal |= causal;
  double pairs = 0;
  for (size_t i = 0; i < input.q_lens.size(); ++i) {
    pairs += VisiblePairs(input.q_lens[i], input.kv_lens[i], visibility);
    pairs += static_cast<double>(input.q_lens[i] * attention.num_appended_keys());
  }
  return pairs;
}

}  // namespace

double VisiblePairs(int64_t q_len, int64_t kv_len, const Visibility& visibility) {
  const int64_t first = kv_len - q_len;  // position of the first query among the keys
  const int64_t all = q_len + kv_len;    // a window that reaches everywhere
  int64_t right = visibility.causal ? 0 : all;
  if (visibility.window_right) right = std::min(right, *visibility.window_right);
  const int64_t left = std::min(visibility.window_left.value_or(all), all);
  // As VisibleKeys has it: the ends of all queries' ranges, less their beginnings.
  return SumOfClamped(first + right + 1, q_len, kv_len) - SumOfClamped(first - left, q_len, kv_len);
}

WorkCost WorkCostOf(const BatchInput& input) {
  const ModelConfig& config = input.model->model.config();
  WorkCost cost;
  cost.projection_flops = ProjectionFlops(config, input);
  // A multiply-add for the score and one for the value, for each pair and each dimension of each head.
  config.ForEachBlock([&](const BlockConfig& block, int64_t num_layers) {
    cost.attention_flops += 4.0 * PairsOf(input, block.attention, config.causal) *
                            static_cast<double>(block.attention.q_width() * num_layers);
  });
  for (const OutputRequest& request : input.outputs) {
    const OutputExtent extent = ExtentOf(input, request);
    cost.projection_flops += extent.flops;
    cost.bytes += static_cast<double>((extent.values + extent.rows + extent.weights) * SizeOf(DType::kF32));
  }
  if (input.pools_as_model) {
    cost.projection_flops +=
        static_cast<double>(input.num_sequences()) * static_cast<double>(FlopsPerRow(config.pooled_steps));
  }
  cost.bytes += MovedBytes(config, input);
  return cost;
}

uint64_t CostClassOf(const LoadedModel& model) {
  // By name, so that a new version begins with what is known of the old one.
  return std::hash<std::string>()(model.name + '/' + PrecisionText(model.model.attention()));
}

CostPrior CostPriorOf(const ModelConfig& config, Precision parameters) {
  CostPrior prior;
  const double weights = static_cast<double>(ProjectionFlopsPerToken(config)) / 2;
  prior.fixed_ns += weights * static_cast<double>(BytesPerWeight(parameters)) * kNsPerWeightByte;
  return prior;
}

void DescribeWork(const BatchInput& input, Ticket& ticket) {
  ticket.cost = WorkCostOf(input);
  ticket.tokens = input.cost_tokens();
  ticket.cost_class = CostClassOf(*input.model);
  ticket.batch_key = {input.model.get(), static_cast<uint64_t>(input.kind)};
}

}  // namespace headlight
