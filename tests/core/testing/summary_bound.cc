// SPDX-License-Identifier: Apache-2.0
#include "tests/core/testing/summary_bound.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace headlight::testing {
namespace {

constexpr double kLogError = 0x1p-21;
constexpr double kLargestSpread = 64 * 0.69314718055994531;
constexpr double kLeastF32 = 0x1p-149;  // below it a computed weight is 0, and its logarithm is not taken

// What a weight may be.
struct WeightRange {
  double p = 0;
  double low = 0;
  double high = 0;
};

double EntropyTermBound(const WeightRange& w) {
  const double exact = w.p > 0 ? w.p * std::log(w.p) : 0.0;
  double worst = 0.0;
  for (const double a : {w.low, w.high}) {
    for (const double b : {w.low, w.high}) {
      worst = std::max(worst, std::abs(a * std::log(std::max(b, kLeastF32)) - exact));
    }
  }
  return worst + w.high * (1 + std::abs(std::log(std::max(w.high, kLeastF32)))) * kLogError;
}

// What summing up the entropy of the row of weights that begins at `row` adds to the bound.
double EntropySumBound(const ReferenceResult& reference, int64_t row) {
  const auto p = reference.weights.begin() + row;
  const double max_p = *std::max_element(p, p + reference.kv_len);
  double magnitude = std::log(static_cast<double>(reference.kv_len));
  double spread = 0.0;  // D
  for (int64_t key = 0; key < reference.kv_len; ++key) {
    if (p[key] == 0) continue;
    const double below = std::log(max_p / p[key]);
    magnitude += p[key] * below;
    if (below <= kLargestSpread) spread = std::max(spread, below);
  }
  const int64_t rescalings = 2 + reference.kv_len / 64;
  return SumErrorBound(reference.kv_len + 3 * rescalings + 8) * (magnitude + 2 * spread);
}

// Of one query, and what its statistics are.
struct QueryStatistics {
  HeadSummary bound;
  HeadSummary exact;
};

// Adds the statistics of `query` and their bounds, and those of received_mass.
void AddQuery(const ReferenceResult& reference, const ErrorBound& weights, int64_t head, int64_t query,
              QueryStatistics& sums) {
  const int64_t row = (head * reference.q_len + query) * reference.kv_len;
  const int64_t position = query + reference.own_kv_len - reference.q_len;
  const double sum_error = SumErrorBound(reference.kv_len + 4);
  HeadSummary& bound = sums.bound;
  double max_p = 0, max_low = 0, max_high = 0, square_p = 0, square_low = 0, entropy = 0, distance_sum = 0;
  for (int64_t key = 0; key < reference.kv_len; ++key) {
    const double p = reference.weights[row + key];
    const double error = weights.weights[row + key];
    const WeightRange w{p, std::max({p - error, weights.least_weights[row + key], 0.0}), p + error};
    const double distance = key < reference.own_kv_len ? static_cast<double>(std::abs(position - key)) : 0.0;
    bound.entropy_nats += EntropyTermBound(w);
    bound.distance_tokens += error * distance;
    bound.received_mass[key] += error;
    sums.exact.received_mass[key] += p;
    if (key == 0) bound.first_token_mass += error;
    if (key == position) bound.self_mass += error;
    entropy -= p > 0 ? p * std::log(p) : 0.0;
    distance_sum += p * distance;
    max_p = std::max(max_p, p);
    max_low = std::max(max_low, w.low);
    max_high = std::max(max_high, w.high);
    square_p += p * p;
    square_low += w.low * w.low;
  }
  bound.entropy_nats += EntropySumBound(reference, row);
  bound.distance_tokens += sum_error * distance_sum;
  bound.max_weight += std::max(max_high - max_p, max_p - max_low);
  bound.effective_support += (1 + sum_error) / square_low - 1 / square_p;
  sums.exact.entropy_nats += entropy;
  sums.exact.distance_tokens += distance_sum;
  sums.exact.max_weight += max_p;
  sums.exact.effective_support += 1 / square_p;
  sums.exact.first_token_mass += reference.weights[row];
  sums.exact.self_mass += position >= 0 ? reference.weights[row + position] : 0.0;
}

}  // namespace

HeadSummary BoundSummary(const ReferenceResult& reference, const ErrorBound& bound, int64_t head,
                         int64_t query_begin, int64_t query_end) {
  QueryStatistics sums;
  sums.bound.received_mass.assign(reference.kv_len, 0.0);
  sums.exact.received_mass.assign(reference.kv_len, 0.0);
  int64_t num_queries = 0;
  for (int64_t query = query_begin; query < query_end; ++query) {
    const double* p = reference.weights.data() + (head * reference.q_len + query) * reference.kv_len;
    if (std::all_of(p, p + reference.kv_len, [](double weight) { return weight == 0; })) continue;
    AddQuery(reference, bound, head, query, sums);
    ++num_queries;
  }
  const double sum_error = SumErrorBound(num_queries + 4);
  for (int64_t key = 0; key < reference.kv_len; ++key) {
    sums.bound.received_mass[key] += sum_error * sums.exact.received_mass[key];
  }
  for (double HeadSummary::*statistic :
       {&HeadSummary::entropy_nats, &HeadSummary::distance_tokens, &HeadSummary::max_weight,
        &HeadSummary::self_mass, &HeadSummary::first_token_mass, &HeadSummary::effective_support}) {
    if (num_queries == 0) continue;
    sums.bound.*statistic =
        (sums.bound.*statistic + sum_error * sums.exact.*statistic) / static_cast<double>(num_queries);
  }
  return sums.bound;
}

}  // namespace headlight::testing
