// SPDX-License-Identifier: Apache-2.0
#include "client/load/arrivals.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "client/load/request_mix.h"

namespace headlight::client {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

TEST(ArrivalTimesTest, ConstantArrivalsNeverDrift) {
  ArrivalTimes times(Arrivals::kConstant, 30'000, 0);
  for (int64_t i = 0; i < 300'000; ++i) {
    const double exact_ns = static_cast<double>(i) * 1e9 / 30'000;
    ASSERT_LE(std::abs(static_cast<double>(times.Next().count()) - exact_ns), 1);  // rounded down to whole ns
  }
}

TEST(ArrivalTimesTest, TheRateChangesAtItsSteps) {
  ArrivalTimes times(Arrivals::kConstant, 10, 0,
                     {{.at = milliseconds(250), .rate = 100}, {.at = milliseconds(300), .rate = 20}});
  // 2.5 arrivals until 250 ms, 5 more until 300 ms: a gap that a step falls into is cut by the expected
  // arrivals, not begun anew.
  for (int64_t ms : {0, 100, 200, 255, 265, 275, 285, 295, 325, 375, 425}) {
    EXPECT_LE(std::abs((times.Next() - milliseconds(ms)).count()), 1) << ms;  // rounded down to whole ns
  }
}

TEST(ArrivalTimesTest, PoissonArrivalsFollowTheStepsToo) {
  ArrivalTimes times(Arrivals::kPoisson, 100, 5, {{.at = std::chrono::seconds(10), .rate = 1000}});
  std::vector<int> counts(20);
  for (;;) {
    const auto second = static_cast<size_t>(times.Next() / std::chrono::seconds(1));
    if (second >= counts.size()) break;
    ++counts[second];
  }
  // Counts are Poisson with standard deviations of sqrt(1000) and sqrt(10,000): 4 of them.
  EXPECT_NEAR(std::accumulate(counts.begin(), counts.begin() + 10, 0), 1000, 127);
  EXPECT_NEAR(std::accumulate(counts.begin() + 10, counts.end(), 0), 10'000, 400);
}

// Gaps of a Poisson process are exponential: cut into 20 classes of equal probability, each should get a
// twentieth of them. The sum of squared deviations over expectations is chi-square with 19 degrees of freedom
// then, and above 43.82 with a probability of 0.1 %. The counts of arrivals in equal stretches of time are
// tested likewise in the next test: gaps alone would not show dependence.
TEST(ArrivalTimesTest, PoissonGapsPassAChiSquareTest) {
  constexpr int kClasses = 20, kGaps = 100'000;
  constexpr double kRate = 1000, kCritical = 43.82;
  ArrivalTimes times(Arrivals::kPoisson, kRate, 7);
  std::vector<int> counts(kClasses);
  nanoseconds last{0};
  for (int i = 0; i < kGaps; ++i) {
    const nanoseconds at = times.Next();
    const double gap_s = static_cast<double>((at - last).count()) / 1e9;
    last = at;
    const double probability = -std::expm1(-gap_s * kRate);  // of a gap at most so long
    ++counts[static_cast<size_t>(std::min<int>(kClasses - 1, static_cast<int>(probability * kClasses)))];
  }
  double chi_square = 0;
  for (int count : counts) {
    const double expected = double{kGaps} / kClasses;
    chi_square += (count - expected) * (count - expected) / expected;
  }
  EXPECT_LT(chi_square, kCritical);
}

// Of a Poisson process the counts in disjoint stretches are independent with a variance equal to their mean:
// over n stretches the sum of (count - mean)^2 / mean is about chi-square with n - 1 degrees of freedom, for
// large n normal with mean n - 1 and standard deviation sqrt(2 (n - 1)); 3.29 of them leave 0.1 %.
TEST(ArrivalTimesTest, PoissonCountsAreAsDispersedAsTheyShouldBe) {
  constexpr int kStretches = 10'000;
  constexpr double kPerStretch = 10;
  ArrivalTimes times(Arrivals::kPoisson, 1000, 3);
  std::vector<int> counts(kStretches);
  for (;;) {
    const auto stretch = static_cast<size_t>(times.Next() / milliseconds(10));
    if (stretch >= counts.size()) break;
    ++counts[stretch];
  }
  double dispersion = 0;
  for (int count : counts) dispersion += (count - kPerStretch) * (count - kPerStretch) / kPerStretch;
  EXPECT_NEAR(dispersion, kStretches - 1, 3.29 * std::sqrt(2.0 * (kStretches - 1)));
}

TEST(ArrivalTimesTest, TheRateIsWithinOnePercent) {
  // Of 100,000 exponential gaps the mean has a standard deviation of 0.32 %: 1 % is three of them.
  for (const Arrivals arrivals : {Arrivals::kConstant, Arrivals::kPoisson}) {
    ArrivalTimes times(arrivals, 250, 11);
    nanoseconds last{0};
    for (int i = 0; i < 100'000; ++i) last = times.Next();
    EXPECT_NEAR(static_cast<double>(last.count()) / 1e9, 400, 4);
  }
}

TEST(ArrivalTimesTest, TheSeedDecides) {
  ArrivalTimes one(Arrivals::kPoisson, 10, 1), same(Arrivals::kPoisson, 10, 1),
      other(Arrivals::kPoisson, 10, 2);
  const nanoseconds first = one.Next();
  EXPECT_EQ(first, same.Next());
  EXPECT_NE(first, other.Next());
}

TEST(RequestMixTest, SharesAreAsAskedFor) {
  const RequestMix mix{.pool_size = 5,
                       .timeouts = {milliseconds(50), milliseconds(100), milliseconds(1000)},
                       .cancel_ratio = 0.1,
                       .cancel_within = milliseconds(20),
                       .seed = 4};
  constexpr int kRequests = 60'000;
  std::vector<int> requests(5), timeouts(1001);
  int cancelled = 0;
  for (int i = 0; i < kRequests; ++i) {
    const RequestChoice choice = mix.Choose(i);
    ++requests.at(choice.request);
    ++timeouts.at(static_cast<size_t>(choice.timeout.count()));
    if (!choice.cancel_after) continue;
    ++cancelled;
    EXPECT_LE(*choice.cancel_after, milliseconds(20));
  }
  // Five standard deviations of a binomial count, sqrt(n p (1 - p)), are at most 5 * 122.
  for (int count : requests) EXPECT_NEAR(count, kRequests / 5, 610);
  for (size_t ms : {50, 100, 1000}) EXPECT_NEAR(timeouts[ms], kRequests / 3, 610);
  EXPECT_NEAR(cancelled, kRequests / 10, 610);
}

TEST(RequestMixTest, ARequestsFateDependsOnSeedAndNumberAlone) {
  const RequestMix mix{.pool_size = 1000, .cancel_ratio = 0.5, .seed = 9};
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(mix.Choose(i).request, mix.Choose(i).request);
    EXPECT_EQ(mix.Choose(i).cancel_after, mix.Choose(i).cancel_after);
  }
  EXPECT_NE(mix.Choose(0).request, mix.Choose(1).request);
}

}  // namespace
}  // namespace headlight::client
