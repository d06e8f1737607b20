// SPDX-License-Identifier: Apache-2.0
#include "server/observe/load_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "tests/testing/fake_clock.h"

namespace headlight {
namespace {

using ::testing::DoubleNear;
using ::testing::Key;
using ::testing::UnorderedElementsAre;
using xds::data::orca::v3::OrcaLoadReport;

constexpr std::chrono::milliseconds kTenth{100};

class LoadReportTest : public ::testing::Test {
 protected:
  // Ends `ok` and `failed` requests in each tenth of a second, for so many of them, and reports.
  OrcaLoadReport Run(int tenths, int ok, int failed, double cpu_s_per_s) {
    OrcaLoadReport report;
    for (int i = 0; i < tenths; ++i) {
      for (int j = 0; j < ok; ++j) reporter_.RequestEnded({});
      RequestRecord failure;
      failure.code = absl::StatusCode::kInternal;
      for (int j = 0; j < failed; ++j) reporter_.RequestEnded(failure);
      now_.cpu_s += cpu_s_per_s / 10;
      clock_.Advance(kTenth);
      report = reporter_.Report();
    }
    return report;
  }

  testing::FakeClock clock_;
  LoadNow now_ = {.cpu_s = ProcessCpuSeconds()};
  int looks_ = 0;
  LoadReporter reporter_{clock_, /*cpus=*/4, /*compute_threads=*/2, [this] {
                           ++looks_;
                           return now_;
                         }};
};

TEST_F(LoadReportTest, FollowsRatesWithinSeconds) {
  OrcaLoadReport report = Run(50, /*ok=*/9, /*failed=*/1, /*cpu_s_per_s=*/2);
  EXPECT_THAT(report.rps_fractional(), DoubleNear(100, 1));
  EXPECT_THAT(report.eps(), DoubleNear(10, 0.1));
  EXPECT_THAT(report.cpu_utilization(), DoubleNear(0.5, 0.01));
  // Both compute threads are busy: nothing more can be had, however many CPUs there are.
  EXPECT_THAT(report.application_utilization(), DoubleNear(1, 0.02));
  report = Run(50, 0, 0, 0);
  EXPECT_THAT(report.rps_fractional(), DoubleNear(0, 1));
  EXPECT_THAT(report.cpu_utilization(), DoubleNear(0, 0.01));
}

TEST_F(LoadReportTest, TellsWhatIsFull) {
  now_.memory_utilization = 0.25;
  now_.requests_memory_utilization = 0.75;
  now_.queue_utilization = 1.5;  // a moment's overshoot: fractions are never above 1
  now_.backlog_s = 12;
  const OrcaLoadReport report = Run(1, 0, 0, 0);
  EXPECT_EQ(report.mem_utilization(), 0.25);
  EXPECT_EQ(report.utilization().at("requests_memory"), 0.75);
  EXPECT_EQ(report.utilization().at("queue"), 1);
  EXPECT_EQ(report.application_utilization(), 1);
  EXPECT_EQ(report.named_metrics().at("backlog_seconds"), 12);
}

TEST_F(LoadReportTest, LooksAtMostTenTimesASecond) {
  for (int i = 0; i < 1000; ++i) {
    clock_.Advance(std::chrono::milliseconds(1));
    (void)reporter_.Serialized();
  }
  EXPECT_LE(looks_, 11);
  EXPECT_GE(looks_, 9);
}

TEST_F(LoadReportTest, IsNamedAfterResourcesAlone) {
  RequestRecord record;
  record.model = record.tenant = record.request_id = "secret";
  reporter_.RequestEnded(record);
  const std::string serialized = reporter_.Serialized();
  EXPECT_EQ(serialized.find("secret"), std::string::npos);
  OrcaLoadReport report;
  ASSERT_TRUE(report.ParseFromString(serialized));
  EXPECT_THAT(report.utilization(), UnorderedElementsAre(Key("queue"), Key("requests_memory")));
  EXPECT_THAT(report.named_metrics(), UnorderedElementsAre(Key("backlog_seconds")));
}

TEST_F(LoadReportTest, TheCpuTimeOfTheProcessGrows) {
  const double before_s = ProcessCpuSeconds();
  EXPECT_GT(before_s, 0);
  while (ProcessCpuSeconds() == before_s) {
  }
  EXPECT_GT(ProcessCpuSeconds(), before_s);
}

}  // namespace
}  // namespace headlight
