// SPDX-License-Identifier: Apache-2.0
//
// What scores are made of beside q k^T: norms of queries and keys, biases by distance, disentangled attention
// and sinks, against the reference and alone against batched, for each kernel.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "core/attention/reference.h"
#include "tests/core/testing/kernel_fixture.h"
#include "tests/core/testing/test_problem.h"

namespace headlight {
namespace {

using testing::KernelTest;
using testing::TestBatch;
using testing::TestLayer;
using testing::TestSequence;

// Numbers around 1. A score is a sum of at most 300 products of sums of at most 80, each rounded by 2^-24 of
// numbers below 30: below 2^-15 with the margin of independent roundings (error_bound.h), and weights move by
// as much.
constexpr double kTermTolerance = 3e-5;
constexpr double kNarrowCosine = 0.999;  // of outputs in bf16 and int8

struct Terms {
  std::string name;
  AttentionConfig config;
};

std::vector<Terms> AllTerms() {
  const AttentionConfig plain = {.embed_dim = 80, .num_heads = 4, .head_dim = 20};
  std::vector<Terms> all;
  const auto add = [&](const std::string& name, const auto& change) {
    AttentionConfig config = plain;
    change(config);
    all.push_back({name, config.Resolved()});
  };
  add("norm of each head", [](AttentionConfig& c) { c.qk_norm = QkNorm::kEachHead; });
  add("norm of each head, turned, grouped", [](AttentionConfig& c) {
    c.qk_norm = QkNorm::kEachHead;
    c.num_kv_heads = 2;
    c.rope = RopeConfig{};
  });
  add("norm of all heads", [](AttentionConfig& c) { c.qk_norm = QkNorm::kAllHeads; });
  add("norm of all heads, turned, grouped, keys appended", [](AttentionConfig& c) {
    c.qk_norm = QkNorm::kAllHeads;
    c.num_kv_heads = 1;
    c.rope = RopeConfig{.rotary_dim = 10, .interleaved = true};
    c.add_zero_attn = true;
  });
  add("relative bias", [](AttentionConfig& c) { c.relative_bias = RelativeBiasConfig{}; });
  add("relative bias of few buckets, softcap, keys appended", [](AttentionConfig& c) {
    c.relative_bias = RelativeBiasConfig{.num_buckets = 6, .max_distance = 9};
    c.logit_softcap = 4.0;
    c.add_zero_attn = true;
    c.alibi = true;
  });
  add("disentangled", [](AttentionConfig& c) {
    c.disentangled = DisentangledConfig{.num_buckets = 64, .max_distance = 130, .norm_eps = 1e-7};
  });
  add("disentangled, each distance of its own, softcap", [](AttentionConfig& c) {
    c.disentangled = DisentangledConfig{.num_buckets = 30};
    c.logit_softcap = 6.0;
  });
  add("disentangled, queries alone", [](AttentionConfig& c) {
    c.disentangled = DisentangledConfig{.num_buckets = 33, .key_to_position = false};
  });
  add("disentangled, keys alone, window", [](AttentionConfig& c) {
    c.disentangled = DisentangledConfig{.num_buckets = 16, .max_distance = 40, .query_to_position = false};
    c.window_right = 20;
  });
  add("sinks", [](AttentionConfig& c) { c.sinks = true; });
  add("sinks, grouped, keys appended, window", [](AttentionConfig& c) {
    c.sinks = true;
    c.num_kv_heads = 2;
    c.add_zero_attn = true;
    c.window_left = 30;
  });
  return all;
}

class ScoreTermsTest : public KernelTest {
 protected:
  // Lengths on both sides of blocks, panels and tiles; queries fewer and more than keys; one causal.
  std::vector<TestSequence> Sequences(testing::Rng& rng, const AttentionConfig& config) {
    std::vector<TestSequence> sequences;
    for (const auto& [q_len, kv_len] :
         std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {70, 70}, {33, 130}, {90, 20}, {5, 530}}) {
      sequences.push_back(testing::RandomInputs(rng, config, q_len, kv_len));
    }
    sequences[1].visibility.causal = true;
    return sequences;
  }
};

INSTANTIATE_TEST_SUITE_P(Kernels, ScoreTermsTest, ::testing::ValuesIn(testing::KernelParams()),
                         testing::KernelTestName);

void ExpectClose(const std::vector<float>& got, const std::vector<double>& wanted, const std::string& what) {
  ASSERT_EQ(got.size(), wanted.size()) << what;
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(got[i], wanted[i], kTermTolerance * std::max(1.0, std::abs(wanted[i]))) << what << " " << i;
  }
}

double CosineOf(const std::vector<float>& got, const std::vector<double>& wanted) {
  double dot = 0, a = 0, b = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    dot += got[i] * wanted[i];
    a += double{got[i]} * got[i];
    b += wanted[i] * wanted[i];
  }
  return dot / std::sqrt(a * b);
}

TEST_P(ScoreTermsTest, AreTheReference) {
  testing::Rng rng = MakeRng(0);
  for (const Terms& terms : AllTerms()) {
    SCOPED_TRACE(terms.name);
    const TestLayer layer{terms.config, RandomParameters(terms.config, 3)};
    const std::vector<TestSequence> sequences = Sequences(rng, terms.config);
    std::vector<const TestSequence*> pointers;
    for (const TestSequence& sequence : sequences) pointers.push_back(&sequence);
    TestBatch full(terms.config, pointers, WeightsSink::Mode::kFull);
    TestBatch summary(terms.config, pointers, WeightsSink::Mode::kSummary);
    Run(layer, full);
    Run(layer, summary);
    const std::vector<ReferenceResult> wanted = ReferenceAttention(terms.config, layer.weights, full.batch());
    for (size_t i = 0; i < sequences.size(); ++i) {
      SCOPED_TRACE(i);
      const testing::TestResults got = full.Results(i);
      if (!is_f32()) {
        EXPECT_GT(CosineOf(got.output, wanted[i].output), kNarrowCosine);
        continue;
      }
      ExpectClose(got.output, wanted[i].output, "output");
      ExpectClose(got.weights, wanted[i].weights, "weight");
      std::vector<double> statistics;
      for (int64_t head = 0; head < terms.config.num_heads; ++head) {
        const HeadSummary of_head = Summarize(wanted[i], head, 0, wanted[i].q_len);
        statistics.insert(statistics.end(),
                          {of_head.entropy_nats, of_head.distance_tokens, of_head.max_weight,
                           of_head.self_mass, of_head.first_token_mass, of_head.effective_support});
      }
      ExpectClose(summary.Results(i).weights, statistics, "statistic");
    }
  }
}

TEST_P(ScoreTermsTest, GiveASequenceTheSameBitsAloneAndAmongOthers) {
  testing::Rng rng = MakeRng(1);
  for (const Terms& terms : AllTerms()) {
    SCOPED_TRACE(terms.name);
    const TestLayer layer{terms.config, RandomParameters(terms.config, 4)};
    const std::vector<TestSequence> sequences = Sequences(rng, terms.config);
    std::vector<const TestSequence*> pointers;
    for (const TestSequence& sequence : sequences) pointers.push_back(&sequence);
    TestBatch together(terms.config, pointers, WeightsSink::Mode::kNone);
    Run(layer, together);
    for (size_t i = 0; i < sequences.size(); ++i) {
      TestBatch alone(terms.config, {pointers[i]}, WeightsSink::Mode::kFull);
      Run(layer, alone);
      EXPECT_TRUE(testing::SameBits(alone.Output(0), together.Output(i))) << i;
    }
  }
}

// A sink far above all scores takes all weight, one far below none.
TEST_P(ScoreTermsTest, SinksOfAnySizeAreTheirLimits) {
  testing::Rng rng = MakeRng(2);
  AttentionConfig config = {.embed_dim = 32, .num_heads = 2};
  config.sinks = true;
  TestLayer layer{config.Resolved(), RandomParameters(config.Resolved(), 5)};
  layer.weights.sinks = {1e6f, -1e6f};
  const TestSequence sequence = testing::RandomInputs(rng, layer.config, 40, 40);
  TestBatch batch(layer.config, {&sequence}, WeightsSink::Mode::kFull);
  Run(layer, batch);
  const std::vector<float> weights = batch.Weights(0);
  for (int64_t query = 0; query < 40; ++query) {
    double first = 0, second = 0;
    for (int64_t key = 0; key < 40; ++key) {
      first += weights[query * 40 + key];
      second += weights[(40 + query) * 40 + key];
    }
    EXPECT_NEAR(first, 0.0, 1e-30);
    EXPECT_NEAR(second, 1.0, is_f32() ? 1e-5 : 1e-2);
  }
}

}  // namespace
}  // namespace headlight
