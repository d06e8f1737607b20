// SPDX-License-Identifier: Apache-2.0
//
// What the system knows of a process under test.
#ifndef HEADLIGHT_TESTS_E2E_PROCESS_FACTS_H_
#define HEADLIGHT_TESTS_E2E_PROCESS_FACTS_H_

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace headlight::e2e {

// A number of /proc/PID/status: "VmRSS" and the like in KiB, "Threads" as it is; 0 if it cannot be read.
inline int64_t StatusNumber(pid_t pid, const std::string& what) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(what + ":", 0) == 0) return std::stoll(line.substr(what.size() + 1));
  }
  return 0;
}

inline int64_t ResidentBytes(pid_t pid) { return StatusNumber(pid, "VmRSS") << 10; }
inline int64_t ResidentMiB(pid_t pid) { return ResidentBytes(pid) >> 20; }
inline int64_t PeakMiB(pid_t pid) { return StatusNumber(pid, "VmHWM") >> 10; }

inline int64_t OpenDescriptors(pid_t pid) {
  std::error_code gone;
  const std::filesystem::directory_iterator folder("/proc/" + std::to_string(pid) + "/fd", gone);
  return gone ? 0 : std::distance(begin(folder), end(folder));
}

}  // namespace headlight::e2e

#endif  // HEADLIGHT_TESTS_E2E_PROCESS_FACTS_H_
