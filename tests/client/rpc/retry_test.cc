// SPDX-License-Identifier: Apache-2.0
#include "client/retry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <optional>

#include "tests/testing/status_matchers.h"

namespace headlight::client {
namespace {

using namespace std::chrono_literals;
using ::headlight::testing::IsOk;
using ::headlight::testing::StatusIs;

constexpr auto kUnavailable = absl::StatusCode::kUnavailable;
constexpr auto kExhausted = absl::StatusCode::kResourceExhausted;
constexpr Pushback kNoPushback;
constexpr Pushback kAfter7Ms = {.given = true, .delay = std::chrono::milliseconds(7)};
constexpr Pushback kNever = {.given = true, .delay = std::nullopt};

TEST(RetryTest, PausesDoubleUpToTheirLimit) {
  const RetryOptions options{.max_attempts = 100, .initial_backoff = 100ms, .max_backoff = 1500ms};
  const auto delay = [&](int attempts) {
    return *DelayBeforeRetry(options, attempts, kUnavailable, kNoPushback, 0.5);
  };
  EXPECT_EQ(delay(1), 100ms);
  EXPECT_EQ(delay(2), 200ms);
  EXPECT_EQ(delay(3), 400ms);
  EXPECT_EQ(delay(5), 1500ms);
  EXPECT_EQ(delay(99), 1500ms);
}

TEST(RetryTest, JitterIsAFifthEitherWay) {
  const RetryOptions options;
  EXPECT_EQ(*DelayBeforeRetry(options, 1, kUnavailable, kNoPushback, 0), 80ms);
  EXPECT_NEAR(DelayBeforeRetry(options, 1, kUnavailable, kNoPushback, 0.999)->count(), 120, 1);
  const RetryOptions shortest{.initial_backoff = 1ms, .max_backoff = 1ms};
  EXPECT_EQ(*DelayBeforeRetry(shortest, 1, kUnavailable, kNoPushback, 0), 1ms);
}

TEST(RetryTest, AttemptsAreCounted) {
  const RetryOptions options{.max_attempts = 3};
  EXPECT_TRUE(DelayBeforeRetry(options, 2, kUnavailable, kNoPushback, 0).has_value());
  EXPECT_FALSE(DelayBeforeRetry(options, 3, kUnavailable, kNoPushback, 0).has_value());
  EXPECT_FALSE(DelayBeforeRetry(options, 3, kExhausted, kAfter7Ms, 0).has_value());
}

TEST(RetryTest, APushbackIsObeyedToTheMillisecond) {
  const RetryOptions options;
  EXPECT_EQ(DelayBeforeRetry(options, 1, kExhausted, kAfter7Ms, 0.9), 7ms);
  EXPECT_EQ(DelayBeforeRetry(options, 2, kUnavailable, kAfter7Ms, 0.1), 7ms);
  EXPECT_FALSE(DelayBeforeRetry(options, 1, kExhausted, kNever, 0).has_value());
  EXPECT_FALSE(DelayBeforeRetry(options, 1, kUnavailable, kNever, 0).has_value());
}

TEST(RetryTest, ExhaustedResourcesAreRetriedOnlyAsTheServerSays) {
  EXPECT_FALSE(DelayBeforeRetry({}, 1, kExhausted, kNoPushback, 0).has_value());
}

TEST(RetryTest, OtherFailuresAreFinal) {
  for (auto code : {absl::StatusCode::kInvalidArgument, absl::StatusCode::kNotFound,
                    absl::StatusCode::kInternal, absl::StatusCode::kDeadlineExceeded,
                    absl::StatusCode::kCancelled, absl::StatusCode::kUnauthenticated}) {
    EXPECT_FALSE(DelayBeforeRetry({}, 1, code, kNoPushback, 0).has_value());
    EXPECT_FALSE(DelayBeforeRetry({}, 1, code, kAfter7Ms, 0).has_value());
  }
}

TEST(RetryTest, OptionsOutOfRangeAreNamed) {
  constexpr auto kWrong = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(CheckRetryOptions({}), IsOk());
  EXPECT_THAT(CheckRetryOptions({.max_attempts = 0}),
              StatusIs(kWrong, "retry.max_attempts: got 0, wanted 1 to 100"));
  EXPECT_THAT(CheckRetryOptions({.initial_backoff = 0ms}),
              StatusIs(kWrong, "retry.initial_backoff: got 0 ms, wanted at least 1 ms"));
  EXPECT_THAT(CheckRetryOptions({.initial_backoff = 5ms, .max_backoff = 4ms}),
              StatusIs(kWrong, "retry.max_backoff: got 4 ms, wanted at least retry.initial_backoff, 5 ms"));
  EXPECT_THAT(CheckRetryOptions({.budget_ratio = -0.1}),
              StatusIs(kWrong, "retry.budget_ratio: got -0.1, wanted 0 to 100"));
  EXPECT_THAT(CheckRetryOptions({.budget_reserve = -1}),
              StatusIs(kWrong, "retry.budget_reserve: got -1, wanted 0 to 1000000"));
}

}  // namespace
}  // namespace headlight::client
