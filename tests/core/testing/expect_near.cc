// SPDX-License-Identifier: Apache-2.0
#include "tests/core/testing/expect_near.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <set>
#include <string>

#include "core/attention/reference.h"
#include "tests/core/testing/error_bound.h"
#include "tests/core/testing/summary_bound.h"

namespace headlight::testing {
namespace {

// What one sequence asked for and got, beside what it should be.
class SinkCheck {
 public:
  SinkCheck(const TestLayer& layer, const TestBatch& computed, int64_t sequence,
            const ReferenceResult& reference, const ErrorBound& bound)
      : sink_(computed.batch().sequences[sequence].weights),
        results_(computed.Results(sequence)),
        reference_(reference),
        bound_(bound),
        heads_(sink_.heads.begin(), sink_.heads.end()),
        query_begin_(sink_.QueryBegin(reference.q_len)),
        query_end_(sink_.QueryEnd(reference.q_len)) {
    if (!heads_.empty()) return;
    heads_.resize(layer.config.num_heads);
    std::iota(heads_.begin(), heads_.end(), int64_t{0});
  }

  void Run() const {
    switch (sink_.mode) {
      case WeightsSink::Mode::kNone:
        return;
      case WeightsSink::Mode::kFull:
        return ExpectFull();
      case WeightsSink::Mode::kMean:
        return ExpectMean();
      case WeightsSink::Mode::kTopK:
        return ExpectTopK();
      case WeightsSink::Mode::kSummary:
        return ExpectSummary();
      case WeightsSink::Mode::kGrid:
        return ExpectGrid();
    }
  }

 private:
  // The reported rows of [num_heads, q_len, kv_len].
  std::vector<double> Reported(const std::vector<double>& all) const {
    std::vector<double> reported;
    for (const int64_t head : heads_) {
      const auto head_rows = all.begin() + head * reference_.q_len * reference_.kv_len;
      reported.insert(reported.end(), head_rows + query_begin_ * reference_.kv_len,
                      head_rows + query_end_ * reference_.kv_len);
    }
    return reported;
  }

  void ExpectFull() const {
    const std::vector<double> expected = Reported(reference_.weights);
    EXPECT_LE(WorstErrorRatio(results_.weights, expected, Reported(bound_.weights)), 1.0) << "in the weights";
    for (size_t begin = 0; begin < results_.weights.size(); begin += reference_.kv_len) {
      const auto row = results_.weights.begin() + begin;
      const auto expected_row = expected.begin() + begin;
      const double expected_sum = std::accumulate(expected_row, expected_row + reference_.kv_len, 0.0);
      const double sum = std::accumulate(row, row + reference_.kv_len, 0.0);
      if (std::isnan(expected_sum)) continue;  // WorstErrorRatio has compared it
      EXPECT_NEAR(sum, std::round(expected_sum), expected_sum == 0 ? 0.0 : bound_.row_sum)
          << "in row " << begin / reference_.kv_len;
    }
  }

  void ExpectMean() const {
    const std::vector<double> weights = Reported(reference_.weights);
    const std::vector<double> bounds = Reported(bound_.weights);
    const size_t map_size = (query_end_ - query_begin_) * reference_.kv_len;
    const auto num_heads = static_cast<int64_t>(heads_.size());
    const double sum_error = SumErrorBound(num_heads + 1);
    std::vector<double> mean(map_size, 0.0), mean_bounds(map_size, 0.0);
    for (size_t i = 0; i < weights.size(); ++i) {
      mean[i % map_size] += weights[i] / num_heads;
      mean_bounds[i % map_size] += (bounds[i] + sum_error * weights[i]) / num_heads;
    }
    EXPECT_LE(WorstErrorRatio(results_.weights, mean, mean_bounds), 1.0) << "in the mean weights";
  }

  // A cell adds up its weights, in any order, and divides by their number.
  void ExpectGrid() const {
    const int64_t rows = sink_.GridRows(reference_.q_len), cols = sink_.GridCols(reference_.kv_len);
    const auto grids_of = [&](const std::vector<double>& weights) {
      ReferenceResult all = {.q_len = reference_.q_len, .kv_len = reference_.kv_len, .weights = weights};
      std::vector<double> grids;
      for (const int64_t head : heads_) {
        const std::vector<double> grid = GridOf(all, head, query_begin_, query_end_, rows, cols);
        grids.insert(grids.end(), grid.begin(), grid.end());
      }
      return grids;
    };
    const std::vector<double> expected = grids_of(reference_.weights);
    std::vector<double> bounds = grids_of(bound_.weights);
    const int64_t pairs = (query_end_ - query_begin_) * reference_.kv_len;  // of a cell at most
    for (size_t i = 0; i < bounds.size(); ++i) bounds[i] += SumErrorBound(pairs + 2) * expected[i];
    EXPECT_LE(WorstErrorRatio(results_.weights, expected, bounds), 1.0) << "in the grid";
  }

  void ExpectTopK() const {
    const int64_t num_rows = static_cast<int64_t>(heads_.size()) * (query_end_ - query_begin_);
    ASSERT_EQ(static_cast<int64_t>(results_.weights.size()), num_rows * sink_.top_k);
    ASSERT_EQ(results_.keys.size(), results_.weights.size());
    int64_t row = 0;
    for (const int64_t head : heads_) {
      for (int64_t query = query_begin_; query < query_end_; ++query, ++row) {
        SCOPED_TRACE(::testing::Message() << "top keys of head " << head << ", query " << query);
        ExpectTopKRow((head * reference_.q_len + query) * reference_.kv_len, row * sink_.top_k);
      }
    }
  }

  // `row` begins the row of the reference, `first` the result's.
  void ExpectTopKRow(int64_t row, int64_t first) const {
    const double* p = reference_.weights.data() + row;
    if (std::any_of(p, p + reference_.kv_len, [](double x) { return std::isnan(x); })) return;
    // The i-th largest of numbers in ranges is between the i-th largest of their ends.
    std::vector<double> low(bound_.least_weights.begin() + row,
                            bound_.least_weights.begin() + row + reference_.kv_len);
    std::vector<double> high(p, p + reference_.kv_len);
    for (int64_t key = 0; key < reference_.kv_len; ++key) {
      low[key] = std::max(low[key], p[key] - bound_.weights[row + key]);
      high[key] += bound_.weights[row + key];
    }
    std::sort(low.begin(), low.end(), std::greater<>());
    std::sort(high.begin(), high.end(), std::greater<>());
    std::set<int32_t> seen;
    bool ended = false;
    for (int64_t i = 0; i < sink_.top_k; ++i) {
      SCOPED_TRACE(::testing::Message() << "entry " << i);
      const int32_t key = results_.keys[first + i];
      const float weight = results_.weights[first + i];
      if (key == -1) {
        ended = true;
        EXPECT_EQ(weight, 0.0f) << "without a key";
        EXPECT_LE(i < reference_.kv_len ? low[i] : 0.0, 0.0) << "a weight above 0 is missing";
        continue;
      }
      EXPECT_FALSE(ended) << "key " << key << " after the end";
      ASSERT_TRUE(key >= 0 && key < reference_.kv_len && i < reference_.kv_len) << "key " << key;
      EXPECT_TRUE(seen.insert(key).second) << "key " << key << " again";
      EXPECT_GT(weight, 0.0f);
      EXPECT_NEAR(weight, p[key], bound_.weights[row + key]) << "of key " << key;
      EXPECT_GE(weight, low[i]) << "there are larger ones than key " << key;
      EXPECT_LE(weight, high[i]);
      if (i == 0) continue;
      const float before = results_.weights[first + i - 1];
      EXPECT_TRUE(weight < before || (weight == before && key > results_.keys[first + i - 1]))
          << "out of order";
    }
  }

  void ExpectSummary() const {
    ASSERT_EQ(results_.weights.size(), heads_.size() * kNumHeadStatistics);
    for (size_t place = 0; place < heads_.size(); ++place) {
      SCOPED_TRACE(::testing::Message() << "summary of head " << heads_[place]);
      const HeadSummary expected = Summarize(reference_, heads_[place], query_begin_, query_end_);
      const HeadSummary bound = BoundSummary(reference_, bound_, heads_[place], query_begin_, query_end_);
      const float* statistics = results_.weights.data() + place * kNumHeadStatistics;
      const auto expect_near = [&](HeadStatistic statistic, double HeadSummary::*field, const char* name) {
        if (std::isnan(expected.*field)) {
          EXPECT_TRUE(std::isnan(statistics[statistic])) << name;
        } else {
          EXPECT_NEAR(statistics[statistic], expected.*field, bound.*field) << name;
        }
      };
      expect_near(kEntropyNats, &HeadSummary::entropy_nats, "entropy_nats");
      expect_near(kDistanceTokens, &HeadSummary::distance_tokens, "distance_tokens");
      expect_near(kMaxWeight, &HeadSummary::max_weight, "max_weight");
      expect_near(kSelfMass, &HeadSummary::self_mass, "self_mass");
      expect_near(kFirstTokenMass, &HeadSummary::first_token_mass, "first_token_mass");
      expect_near(kEffectiveSupport, &HeadSummary::effective_support, "effective_support");
      const auto received = results_.received_mass.begin() + place * reference_.kv_len;
      EXPECT_LE(WorstErrorRatio({received, received + reference_.kv_len}, expected.received_mass,
                                bound.received_mass),
                1.0)
          << "received_mass";
    }
  }

  const WeightsSink& sink_;
  const TestResults results_;
  const ReferenceResult& reference_;
  const ErrorBound& bound_;
  std::vector<int64_t> heads_;
  const int64_t query_begin_;
  const int64_t query_end_;
};

}  // namespace

double WorstErrorRatio(const std::vector<float>& values, const std::vector<double>& expected,
                       const std::vector<double>& bounds) {
  if (values.size() != expected.size() || values.size() != bounds.size()) {
    ADD_FAILURE() << values.size() << " values, " << expected.size() << " expected, " << bounds.size()
                  << " bounds";
    return std::numeric_limits<double>::infinity();
  }
  double worst = 0.0;
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isnan(expected[i]) && std::isnan(values[i])) continue;
    if (values[i] == expected[i]) continue;
    const double ratio = std::abs(values[i] - expected[i]) / bounds[i];
    if (std::isnan(ratio)) return std::numeric_limits<double>::infinity();
    worst = std::max(worst, ratio);
  }
  return worst;
}

void ExpectNearReference(const TestLayer& layer, const TestBatch& computed, Precision precision) {
  EXPECT_TRUE(computed.MarksIntact()) << "something was written outside of the results";
  const std::vector<ReferenceResult> references =
      ReferenceAttention(layer.config, layer.weights, computed.batch());
  static double worst_ratio = 0.0;
  for (int64_t s = 0; s < computed.batch().num_sequences(); ++s) {
    SCOPED_TRACE(::testing::Message() << "sequence " << s);
    const ErrorBound bound = BoundErrors(layer, computed.batch(), s, references[s], precision);
    const double ratio = WorstErrorRatio(computed.Output(s), references[s].output, bound.output);
    EXPECT_LE(ratio, 1.0) << "in the output";
    SinkCheck(layer, computed, s, references[s], bound).Run();
    worst_ratio = std::max(worst_ratio, ratio);
  }
  ::testing::Test::RecordProperty("worst_error_ratio", std::to_string(worst_ratio));
}

}  // namespace headlight::testing
