// SPDX-License-Identifier: Apache-2.0
#include "client/cli/load_flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "client/load/arrivals.h"

namespace headlight::client {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Said(const absl::Status& status) { return std::string(status.message()); }

TEST(LoadFlagsTest, ListsOfNumbers) {
  EXPECT_THAT(*ParseConcurrencies("1,2,64"), ElementsAre(1, 2, 64));
  EXPECT_THAT(*ParseRates("100,0.5"), ElementsAre(100, 0.5));
  EXPECT_THAT(*ParseTimeouts("50,1000"), ElementsAre(50ms, 1000ms));
  for (const char* text : {"", "0", "-1", "1,,2", "1x", "100000"}) {
    EXPECT_THAT(Said(ParseConcurrencies(text).status()), HasSubstr("wanted numbers from 1 to")) << text;
  }
  for (const char* text : {"", "0", "-1", "nan", "inf", "1e7", "1,"}) {
    EXPECT_THAT(Said(ParseRates(text).status()), HasSubstr("wanted rates per second")) << text;
  }
  for (const char* text : {"", "0", "1.5", "999999999"}) {
    EXPECT_THAT(Said(ParseTimeouts(text).status()), HasSubstr("wanted milliseconds")) << text;
  }
}

TEST(LoadFlagsTest, RateStepsAreInOrder) {
  const auto steps = ParseRateSteps("5s=300,8500ms=0.5");
  ASSERT_TRUE(steps.ok());
  ASSERT_EQ(steps->size(), 2u);
  EXPECT_EQ((*steps)[0].at, 5s);
  EXPECT_EQ((*steps)[0].rate, 300);
  EXPECT_EQ((*steps)[1].at, 8500ms);
  EXPECT_EQ((*steps)[1].rate, 0.5);
  for (const char* text : {"", "5s", "=300", "5s=", "5=300", "5s=0", "5s=1,5s=2", "8s=1,5s=2", "5s=1,"}) {
    EXPECT_THAT(Said(ParseRateSteps(text).status()), HasSubstr("as in 5s=300,8s=150")) << text;
  }
}

TEST(LoadFlagsTest, SearchGoals) {
  const auto goal = ParseSearchGoal("p99_9_ms=12.5");
  ASSERT_TRUE(goal.ok());
  EXPECT_STREQ(goal->percentile.name, "p99_9");
  EXPECT_EQ(goal->limit_ms, 12.5);
  for (const char* text : {"", "p99", "p99_ms", "p99_ms=", "p99_ms=0", "p98_ms=3", "p99_ms=x"}) {
    EXPECT_THAT(Said(ParseSearchGoal(text).status()), HasSubstr("as in p99_ms=50")) << text;
  }
}

TEST(LoadFlagsTest, LengthsAreAListOrADistribution) {
  EXPECT_THAT(ParseLoadLengths("5,16,9")->fixed, ElementsAre(5, 16, 9));
  const auto uniform = ParseLoadLengths("uniform:2-4");
  ASSERT_TRUE(uniform.ok());
  EXPECT_EQ(uniform->text, "uniform:2-4");
  EXPECT_THAT(uniform->drawn.lengths, ElementsAre(2, 3, 4));
  for (const char* text : {"", "0", "uniform:", "uniform:3", "uniform:4-2", "uniform:0-4", "uniform:1-2-3",
                           "zipf:0", "zipf:3:x", "zipf:3:1:2", "normal:5", "uniform:1-99999999"}) {
    EXPECT_THAT(Said(ParseLoadLengths(text).status()), HasSubstr("got '")) << text;
  }
  EXPECT_EQ(ParseLoadLengths("file:/no/such/file").status().code(), absl::StatusCode::kNotFound);
}

TEST(LoadFlagsTest, FilesOfLengths) {
  const std::string path = ::testing::TempDir() + "headlight_lengths.txt";
  std::ofstream(path) << "5 7,7\n\n12\n";
  EXPECT_THAT(ParseLengthDistribution("file:" + path)->lengths, ElementsAre(5, 7, 7, 12));
  std::ofstream(path) << "5 x";
  EXPECT_THAT(Said(ParseLengthDistribution("file:" + path).status()), HasSubstr("got 'x'"));
  std::ofstream(path) << "\n";
  EXPECT_THAT(Said(ParseLengthDistribution("file:" + path).status()), HasSubstr("at least one length"));
  std::filesystem::remove(path);
}

// Shares of a multinomial: five standard deviations, sqrt(n p (1 - p)) <= 50 sqrt(n) / 100.
TEST(LoadFlagsTest, DrawsAsTheDistributionSays) {
  const LengthDistribution zipf = *ParseLengthDistribution("zipf:3");  // 1 : 1/2 : 1/3, of 11/6
  constexpr int kDraws = 60'000;
  int counts[4] = {};
  for (uint64_t i = 0; i < kDraws; ++i) ++counts[zipf.Draw(RandomBits(1, i))];
  EXPECT_NEAR(counts[1], kDraws * 6 / 11, 610);
  EXPECT_NEAR(counts[2], kDraws * 3 / 11, 610);
  EXPECT_NEAR(counts[3], kDraws * 2 / 11, 610);
}

v1::Model TinyModel() {
  v1::Model model;
  model.set_embed_dim(4);
  model.set_kdim(4);
  model.set_vdim(4);
  return model;
}

TEST(RequestPoolTest, RaggedRequestsOfDrawnLengths) {
  const RequestPoolOptions options{
      .lengths = *ParseLengthDistribution("uniform:1-8"), .sequences = 3, .pool_size = 50};
  const auto pool = MakeRequestPool({}, options, TinyModel(), 1 << 20);
  ASSERT_TRUE(pool.ok()) << pool.status();
  EXPECT_EQ(pool->requests.size(), 50u);
  EXPECT_TRUE(pool->shape.empty());
  double tokens = 0;
  for (const PreparedRequest& request : pool->requests) {
    EXPECT_GE(request.tokens, 3);
    EXPECT_LE(request.tokens, 24);
    EXPECT_GT(static_cast<int64_t>(request.bytes.Length()), request.tokens * 16);
    tokens += static_cast<double>(request.tokens);
  }
  EXPECT_DOUBLE_EQ(pool->mean_tokens, tokens / 50);
}

TEST(RequestPoolTest, DenseRequestsOfDrawnLengths) {
  RequestFlags flags;
  flags.shape = {2, 8};
  const RequestPoolOptions options{.lengths = *ParseLengthDistribution("uniform:1-8"), .pool_size = 10};
  const auto pool = MakeRequestPool(flags, options, TinyModel(), 1 << 20);
  ASSERT_TRUE(pool.ok()) << pool.status();
  EXPECT_THAT(pool->shape, ElementsAre(2, 8, 4));
  EXPECT_LT(pool->mean_tokens, 16);
  flags.shape = {2, 7};
  EXPECT_THAT(Said(MakeRequestPool(flags, options, TinyModel(), 1 << 20).status()),
              HasSubstr("draws up to 8, wanted at most the 7 of --shape"));
}

}  // namespace
}  // namespace headlight::client
