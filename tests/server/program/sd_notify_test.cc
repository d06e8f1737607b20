// SPDX-License-Identifier: Apache-2.0
#include "server/program/sd_notify.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tests/testing/notify_socket.h"
#include "tests/testing/temp_folder.h"

namespace headlight {
namespace {

using ::testing::MatchesRegex;
using ::testing::StartsWith;
using testing::NotifySocket;

constexpr auto kNoWatchdog = std::chrono::microseconds(0);

class SdNotifyTest : public ::testing::Test {
 protected:
  testing::TempFolder folder_;
  const std::string path_ = folder_.File("notify");
  const NotifySocket socket_{path_};
  const ServiceManager manager_{path_, kNoWatchdog};
};

TEST_F(SdNotifyTest, TellsWhatBecomesOfTheServer) {
  manager_.Status("loading model encoder", std::chrono::seconds(300));
  EXPECT_EQ(socket_.Next(), "STATUS=loading model encoder\nEXTEND_TIMEOUT_USEC=300000000");
  manager_.Ready("serving");
  EXPECT_EQ(socket_.Next(), "READY=1\nSTATUS=serving");
  manager_.Stopping("draining");
  EXPECT_EQ(socket_.Next(), "STOPPING=1\nSTATUS=draining");
}

TEST_F(SdNotifyTest, ReloadsAreDatedByTheMonotonicClock) {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  const int64_t before_us = now.tv_sec * 1'000'000 + now.tv_nsec / 1000;
  manager_.Reloading();
  const std::string told = socket_.Next();
  ASSERT_THAT(told, MatchesRegex("RELOADING=1\nMONOTONIC_USEC=[0-9]+\nSTATUS=reloading"));
  int64_t told_us = 0;
  ASSERT_TRUE(absl::SimpleAtoi(told.substr(27, told.rfind('\n') - 27), &told_us)) << told;
  EXPECT_GE(told_us, before_us);
  EXPECT_LT(told_us, before_us + int64_t{30} * 1'000'000);
}

TEST_F(SdNotifyTest, WhatComesFromOutsideForgesNoLine) {
  manager_.Status("loading model a\nREADY=1");
  EXPECT_EQ(socket_.Next(), "STATUS=loading model a?READY=1");
}

TEST_F(SdNotifyTest, AliveIsPassedOnWhileItIsTrue) {
  const ServiceManager manager(path_, std::chrono::milliseconds(40));
  std::atomic<bool> alive = true;
  std::atomic<int> looks = 0;
  const std::unique_ptr<Periodic> watch = manager.Watch([&] {
    ++looks;
    return alive.load();
  });
  ASSERT_NE(watch, nullptr);
  EXPECT_EQ(socket_.Next(), "WATCHDOG=1");
  EXPECT_EQ(socket_.Next(), "WATCHDOG=1");
  alive = false;
  const int ended = looks;
  while (looks < ended + 4) usleep(1000);
  while (socket_.HasNext(0)) (void)socket_.Next();
  const int silent_since = looks;
  while (looks < silent_since + 5) usleep(1000);
  EXPECT_FALSE(socket_.HasNext(0));
  alive = true;
  EXPECT_EQ(socket_.Next(), "WATCHDOG=1");
}

TEST(SdNotifySocketTest, MayBeAbstract) {
  const std::string name = absl::StrCat("@headlight-sd-notify-test-", getpid());
  const NotifySocket socket(name);
  ServiceManager(name, kNoWatchdog).Ready("serving");
  EXPECT_THAT(socket.Next(), StartsWith("READY=1\n"));
}

TEST(SdNotifySocketTest, WithoutAManagerNothingIsDoneAndNobodyIsHeldUp) {
  const ServiceManager none("", std::chrono::seconds(1));
  EXPECT_FALSE(none.listens());
  none.Ready("serving");
  EXPECT_EQ(none.Watch([] { return true; }), nullptr);
  const testing::TempFolder folder;
  const ServiceManager gone(folder.File("gone"), kNoWatchdog);
  gone.Stopping("draining");
  EXPECT_EQ(gone.Watch([] { return true; }), nullptr);
  ServiceManager(std::string(500, 'x'), kNoWatchdog).Ready("the name is too long");
}

TEST(SdNotifyEnvironmentTest, IsReadOnceAndKeptFromChildren) {
  const testing::TempFolder folder;
  const std::string path = folder.File("notify");
  const NotifySocket socket(path);
  setenv("NOTIFY_SOCKET", path.c_str(), 1);
  setenv("WATCHDOG_USEC", "40000", 1);
  setenv("WATCHDOG_PID", absl::StrCat(getpid()).c_str(), 1);
  const ServiceManager manager = ServiceManager::FromEnvironment();
  for (const char* name : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}) {
    EXPECT_EQ(std::getenv(name), nullptr) << name;
  }
  EXPECT_TRUE(manager.listens());
  const std::unique_ptr<Periodic> watch = manager.Watch([] { return true; });
  ASSERT_NE(watch, nullptr);
  EXPECT_EQ(socket.Next(), "WATCHDOG=1");
}

TEST(SdNotifyEnvironmentTest, AWatchdogOfAnotherProcessIsNotOurs) {
  setenv("NOTIFY_SOCKET", "/nonexistent/notify", 1);
  setenv("WATCHDOG_USEC", "40000", 1);
  setenv("WATCHDOG_PID", "1", 1);
  EXPECT_EQ(ServiceManager::FromEnvironment().Watch([] { return true; }), nullptr);
}

}  // namespace
}  // namespace headlight
