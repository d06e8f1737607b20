// SPDX-License-Identifier: Apache-2.0
#include "server/program/fit_limits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "server/memory/memory_plan.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::IsOk;
using testing::StatusIs;

constexpr int64_t kMebibyte = int64_t{1} << 20;
constexpr int64_t kGibibyte = int64_t{1} << 30;

MachineLimits Machine(int64_t memory_bytes) {
  return {.memory_bytes = memory_bytes, .cpus = 4, .compute_threads = 2, .quota_cpus = std::nullopt};
}

// What requests have when models keep to their share.
int64_t RequestBytes(const ServerOptions& options) {
  const MemoryShares shares = PlanMemory(options.memory_limit, options.memory_for_models);
  return shares.limit - shares.models_reserved;
}

auto RefusedFor(const std::string& one, const std::string& other) {
  return StatusIs(absl::StatusCode::kInvalidArgument, AllOf(HasSubstr(one), HasSubstr(other)));
}

TEST(FitLimitsTest, ALargeMachineHasTheUsualLimits) {
  const auto fitted = FitLimits(ServerOptions(), Machine(64 * kGibibyte));
  ASSERT_THAT(fitted, IsOk());
  EXPECT_EQ(fitted->options.memory_limit, 64 * kGibibyte);
  EXPECT_EQ(fitted->options.max_message_bytes, 256 * kMebibyte);
  EXPECT_EQ(fitted->options.receive_window_bytes, kMebibyte);
  EXPECT_EQ(fitted->options.queue_max_requests, 1024);
  EXPECT_EQ(fitted->options.threads, 2);
  EXPECT_THAT(fitted->warnings, IsEmpty());
}

TEST(FitLimitsTest, DefaultsFollowTheMemoryDownToVeryLittle) {
  int64_t last_bytes = 256 * kMebibyte;
  for (const int64_t memory_bytes : {8 * kGibibyte, 2 * kGibibyte, kGibibyte, 512 * kMebibyte,
                                     128 * kMebibyte, 32 * kMebibyte, 4 * kMebibyte}) {
    const auto fitted = FitLimits(ServerOptions(), Machine(memory_bytes));
    ASSERT_THAT(fitted, IsOk());
    const ServerOptions& options = fitted->options;
    EXPECT_LE(4 * options.max_message_bytes, RequestBytes(options)) << memory_bytes;
    EXPECT_LE(options.receive_window_bytes, options.max_message_bytes) << memory_bytes;
    EXPECT_LE(options.queue_max_requests * (24 << 10), ProcessReserveBytes(memory_bytes)) << memory_bytes;
    EXPECT_LE(options.max_message_bytes, last_bytes);
    last_bytes = options.max_message_bytes;
    EXPECT_THAT(fitted->warnings, IsEmpty()) << memory_bytes;
    // What follows from the memory may just as well be said.
    EXPECT_THAT(FitLimits(options, Machine(memory_bytes)), IsOk());
  }
}

TEST(FitLimitsTest, NoMemoryIsTooLittleToStartWith) {
  ServerOptions given;
  given.memory_limit = 1000;
  const auto fitted = FitLimits(given, Machine(kGibibyte));
  ASSERT_THAT(fitted, IsOk());
  EXPECT_EQ(fitted->options.queue_max_requests, 1);
  EXPECT_THAT(fitted->warnings, ElementsAre(HasSubstr("fewer than 4 of the largest messages fit")));
}

TEST(FitLimitsTest, WhatWasSetStays) {
  ServerOptions given;
  given.memory_limit = 4 * kGibibyte;
  given.max_message_bytes = 5 * kMebibyte;
  given.receive_window_bytes = 2 * kMebibyte;
  given.queue_max_requests = 77;
  given.threads = 3;
  const auto fitted = FitLimits(given, Machine(8 * kGibibyte));
  ASSERT_THAT(fitted, IsOk());
  EXPECT_EQ(EffectiveValues(fitted->options), EffectiveValues(given));
  EXPECT_THAT(fitted->warnings, IsEmpty());
}

TEST(FitLimitsTest, ALargestRequestAndItsReplyMustFit) {
  ServerOptions given;
  given.max_message_bytes = 256 * kMebibyte;
  EXPECT_THAT(FitLimits(given, Machine(kGibibyte)),
              RefusedFor("--max-message-bytes: got 268435456, wanted at most 234881024",
                         "--memory-limit 1073741824"));
  given.memory_for_models = 200 * kMebibyte;
  const auto fitted = FitLimits(given, Machine(kGibibyte));
  ASSERT_THAT(fitted, IsOk());
  EXPECT_THAT(fitted->warnings, ElementsAre(HasSubstr("fewer than 4 of the largest messages fit")));
}

TEST(FitLimitsTest, ModelsMustLeaveSomethingToRequests) {
  ServerOptions given;
  given.memory_for_models = kGibibyte;
  EXPECT_THAT(FitLimits(given, Machine(kGibibyte)),
              RefusedFor("--memory-for-models: got 1073741824", "--memory-limit 1073741824"));
}

TEST(FitLimitsTest, AWindowIsNotLargerThanTheMemory) {
  ServerOptions given;
  given.receive_window_bytes = kGibibyte;
  EXPECT_THAT(FitLimits(given, Machine(kGibibyte)),
              RefusedFor("--receive-window-bytes: got 1073741824", "--memory-limit 1073741824"));
}

TEST(FitLimitsTest, AFullQueueMustFit) {
  ServerOptions given;
  given.queue_max_requests = 1'000'000;
  EXPECT_THAT(
      FitLimits(given, Machine(kGibibyte)),
      RefusedFor("--queue-max-requests: got 1000000, wanted at most 43690", "--memory-limit 1073741824"));
  given.queue_max_requests = 20'000;
  const auto fitted = FitLimits(given, Machine(kGibibyte));
  ASSERT_THAT(fitted, IsOk());
  EXPECT_THAT(fitted->warnings, ElementsAre(HasSubstr("--queue-max-requests 20000")));
}

TEST(FitLimitsTest, MoreMemoryThanThereIsIsToldOf) {
  ServerOptions given;
  given.memory_limit = 2 * kGibibyte;
  const auto fitted = FitLimits(given, Machine(kGibibyte));
  ASSERT_THAT(fitted, IsOk());
  EXPECT_EQ(fitted->options.memory_limit, 2 * kGibibyte);
  EXPECT_THAT(fitted->warnings,
              ElementsAre(AllOf(HasSubstr("--memory-limit 2147483648"), HasSubstr("1073741824 bytes"))));
}

TEST(FitLimitsTest, ThreadsBeyondQuotaOrCpusAreToldOf) {
  ServerOptions given;
  given.threads = 4;
  MachineLimits machine = Machine(64 * kGibibyte);
  EXPECT_THAT(FitLimits(given, machine)->warnings, IsEmpty());
  machine.quota_cpus = 1.5;
  EXPECT_THAT(FitLimits(given, machine)->warnings, ElementsAre(HasSubstr("grants 1.5 CPUs")));
  given.threads = 5;
  EXPECT_THAT(FitLimits(given, machine)->warnings, ElementsAre(HasSubstr("only 4 CPUs")));
}

TEST(FitLimitsTest, DeadlinesBeyondTheGraceAreToldOf) {
  ServerOptions given;
  given.max_deadline_ms = 60'000;
  EXPECT_THAT(FitLimits(given, Machine(64 * kGibibyte))->warnings,
              ElementsAre(AllOf(HasSubstr("--max-deadline-ms 60000"), HasSubstr("--shutdown-grace-s 30"))));
}

TEST(FitLimitsTest, ThisMachineFitsTheDefaults) {
  const MachineLimits machine = DetectMachineLimits();
  EXPECT_GT(machine.memory_bytes, 0);
  EXPECT_GE(machine.cpus, 1);
  EXPECT_GE(machine.compute_threads, 1);
  EXPECT_THAT(FitLimits(ServerOptions(), machine), IsOk());
}

}  // namespace
}  // namespace headlight
