// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/pulse.h"

#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

namespace headlight {
namespace {

using std::chrono::milliseconds;

std::string FirstWord(const std::filesystem::path& file) {
  std::ifstream in(file);
  std::string word;
  in >> word;
  return word;
}

// Folders of the threads on which gRPC runs callbacks.
std::vector<std::filesystem::path> CallbackThreads() {
  std::vector<std::filesystem::path> threads;
  for (const auto& thread : std::filesystem::directory_iterator("/proc/self/task")) {
    if (FirstWord(thread.path() / "comm") == "nexting_thread") threads.push_back(thread.path());
  }
  return threads;
}

// Whether all of them are in a sleep that nothing but its end ends.
bool AllSleep(const std::vector<std::filesystem::path>& threads) {
  for (const auto& thread : threads) {
    if (FirstWord(thread / "syscall") != std::to_string(SYS_clock_nanosleep)) return false;
  }
  return true;
}

// For three times as long as gRPC's threads wait until they sleep.
TEST(PulseTest, ACallbackThreadIsAwakeAtAnyTime) {
  const Pulse pulse;
  std::this_thread::sleep_for(milliseconds(500));  // its first beat may find them asleep, from earlier tests
  std::vector<std::filesystem::path> threads;
  for (int i = 0; i < 1000 && threads.empty(); ++i) {  // they begin with the first channel
    std::this_thread::sleep_for(milliseconds(5));
    threads = CallbackThreads();
  }
  if (threads.empty()) GTEST_SKIP() << "this gRPC runs callbacks on threads of another name";
  if (FirstWord(threads.front() / "syscall").empty())
    GTEST_SKIP() << "the kernel does not say what threads wait for";
  int asleep = 0;  // in a row: they are not looked at in one moment
  int longest = 0;
  for (int i = 0; i < 600; ++i) {
    asleep = AllSleep(threads) ? asleep + 1 : 0;
    longest = std::max(longest, asleep);
    std::this_thread::sleep_for(milliseconds(5));
  }
  EXPECT_LE(longest, 1);
}

}  // namespace
}  // namespace headlight
