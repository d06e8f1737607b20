// SPDX-License-Identifier: Apache-2.0
#include "server/oip/model_statistics.h"

#include <chrono>
#include <cmath>
#include <cstdint>

namespace headlight {
namespace {

// Shares of batches: what is missing to a whole one is under way, or was cancelled.
uint64_t NumBatches(double shares) { return static_cast<uint64_t>(std::ceil(shares - 1e-6)); }

void SetDuration(int64_t count, double us, inference::StatisticDuration& out) {
  out.set_count(static_cast<uint64_t>(count));
  out.set_ns(static_cast<uint64_t>(std::llround(us * 1e3)));
}

// Every request that succeeded has passed each stage once, so the counts are one and the same: perf_analyzer
// takes it ill where they differ.
void DescribeRequests(const ModelTally& tally, inference::InferStatistics& out) {
  const int64_t count = tally.succeeded;
  SetDuration(count, static_cast<double>(tally.succeeded_us), *out.mutable_success());
  SetDuration(tally.failed, static_cast<double>(tally.failed_us), *out.mutable_fail());
  SetDuration(count, static_cast<double>(tally.queue_us), *out.mutable_queue());
  SetDuration(count, static_cast<double>(tally.pack_us), *out.mutable_compute_input());
  SetDuration(count, static_cast<double>(tally.compute_us), *out.mutable_compute_infer());
  SetDuration(count, static_cast<double>(tally.unpack_us), *out.mutable_compute_output());
  SetDuration(0, 0, *out.mutable_cache_hit());
  SetDuration(0, 0, *out.mutable_cache_miss());
}

void DescribeBatches(int64_t size, const ModelTally::OfBatches& batches,
                     inference::InferBatchStatistics& out) {
  const auto count = static_cast<int64_t>(NumBatches(batches.count));
  out.set_batch_size(static_cast<uint64_t>(size));
  SetDuration(count, batches.pack_us, *out.mutable_compute_input());
  SetDuration(count, batches.compute_us, *out.mutable_compute_infer());
  SetDuration(count, batches.unpack_us, *out.mutable_compute_output());
}

}  // namespace

void DescribeStatistics(const LoadedModel& model, const ModelTally& tally, inference::ModelStatistics& out) {
  out.set_name(model.name);
  out.set_version(model.version);
  out.set_last_inference(static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(tally.last.time_since_epoch()).count()));
  out.set_inference_count(static_cast<uint64_t>(tally.sequences));
  out.set_execution_count(NumBatches(tally.batches));
  DescribeRequests(tally, *out.mutable_inference_stats());
  for (const auto& [size, batches] : tally.by_size) DescribeBatches(size, batches, *out.add_batch_stats());
  inference::MemoryUsage& memory = *out.add_memory_usage();
  memory.set_type("CPU");
  memory.set_byte_size(static_cast<uint64_t>(model.model.packed_bytes()));
}

}  // namespace headlight
