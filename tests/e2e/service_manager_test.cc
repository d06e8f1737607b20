// SPDX-License-Identifier: Apache-2.0
//
// The server under a service manager that waits to hear from it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <string>

#include "tests/e2e/server_process.h"
#include "tests/testing/notify_socket.h"
#include "tests/testing/temp_folder.h"

namespace headlight::e2e {
namespace {

using namespace std::chrono_literals;

TEST(ServiceManagerTest, HearsOfLoadingReadinessLifeAndTheEnd) {
  const testing::TempFolder folder;
  const testing::NotifySocket socket(folder.File("notify"));
  setenv("NOTIFY_SOCKET", folder.File("notify").c_str(), 1);
  setenv("WATCHDOG_USEC", "200000", 1);
  ServerProcess server({"--model", "tiny=" HEADLIGHT_GOLDEN_MODELS "/bert"});
  unsetenv("NOTIFY_SOCKET");
  unsetenv("WATCHDOG_USEC");
  EXPECT_EQ(socket.Next(), "STATUS=loading model tiny\nEXTEND_TIMEOUT_USEC=300000000");
  EXPECT_EQ(socket.Next(), "READY=1\nSTATUS=serving");
  EXPECT_EQ(socket.Next(), "WATCHDOG=1");
  EXPECT_EQ(socket.Next(), "WATCHDOG=1");
  server.process().Signal(SIGTERM);
  std::string last = "WATCHDOG=1";
  while (last == "WATCHDOG=1") last = socket.Next();
  EXPECT_EQ(last, "STOPPING=1\nSTATUS=answering what was accepted");
  EXPECT_EQ(server.process().Wait(30s), 0) << server.process().Output();
}

}  // namespace
}  // namespace headlight::e2e
