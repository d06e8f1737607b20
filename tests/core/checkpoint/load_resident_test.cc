// SPDX-License-Identifier: Apache-2.0
//
// What loading a model keeps resident at most, as the kernel counts it, against what EstimateMemory says
// before. Each load is a process of its own, which has nothing to use again. In a program of its own, because
// a process with threads should not fork.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <fstream>
#include <functional>
#include <iostream>
#include <string>
#include <thread>

#include "tests/core/checkpoint/load_cases.h"
#include "tests/testing/temp_folder.h"

namespace headlight {
namespace {

using testing::EstimateOf;
using testing::Load;
using testing::LoadCase;
using testing::LoadCases;
using testing::TempFolder;

// Memory of this process that is no file's.
int64_t ResidentBytes() {
  std::ifstream status("/proc/self/status");
  std::string word;
  int64_t kib = -1;
  while (status >> word) {
    if (word == "RssAnon:") status >> kib;
  }
  return kib * 1024;
}

// The number that `body` returns in a child of this process; -1 if it has failed.
int64_t InChild(const std::function<int64_t()>& body) {
  int ends[2];
  if (pipe(ends) != 0) return -1;
  const pid_t child = fork();
  if (child == 0) {
    const int64_t result = body();
    const bool written = write(ends[1], &result, sizeof(result)) == sizeof(result);
    _exit(written ? 0 : 1);
  }
  close(ends[1]);
  int64_t result = -1;
  if (read(ends[0], &result, sizeof(result)) != sizeof(result)) result = -1;
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  return status == 0 ? result : -1;
}

// The most that was resident beyond what was before, looked at every millisecond.
int64_t PeakOfLoading(const std::string& folder, Precision precision) {
  const int64_t before = ResidentBytes();
  std::atomic<bool> done = false;
  int64_t peak = 0;
  std::thread sampler([&] {
    while (!done) {
      peak = std::max(peak, ResidentBytes());
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  const bool ok = Load(folder, precision).ok();
  done = true;
  sampler.join();
  return ok ? peak - before : -1;
}

TEST(LoadResidentTest, IsAtMostWhatIsEstimated) {
  for (const LoadCase& load : LoadCases()) {
    const TempFolder parent;
    const std::string folder = parent.path() + "/model";
    ASSERT_EQ(InChild([&] { return load.write(folder).ok() ? 0 : -1; }), 0) << load.name;
    for (const Precision precision : {Precision::kF32, Precision::kBf16, Precision::kInt8}) {
      SCOPED_TRACE(load.name + " in " + Name(precision));
      const int64_t estimate = InChild([&] { return EstimateOf(folder, precision).peak_bytes; });
      const int64_t peak = InChild([&] { return PeakOfLoading(folder, precision); });
      std::cout << load.name << " in " << Name(precision) << ": " << peak << " bytes resident, estimated "
                << estimate << "\n";
      ASSERT_GT(peak, 0);
      EXPECT_LE(peak, estimate);
      EXPECT_LE(estimate, peak * 115 / 100);
    }
  }
}

}  // namespace
}  // namespace headlight
