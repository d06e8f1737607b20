// SPDX-License-Identifier: Apache-2.0
//
// The server's program as a process of its own, for tests that talk to it over a real port.
#ifndef HEADLIGHT_TESTS_E2E_SERVER_PROCESS_H_
#define HEADLIGHT_TESTS_E2E_SERVER_PROCESS_H_

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "tests/testing/subprocess.h"

namespace headlight::e2e {

// A server on a free port of the loopback interface; ready once it is made.
class ServerProcess {
 public:
  explicit ServerProcess(std::vector<std::string> flags = {})
      : process_(WithDefaults(std::move(flags))),
        address_("127.0.0.1" + process_.WaitForOutput("listening on 127.0.0.1", std::chrono::seconds(60))) {}

  testing::Subprocess& process() { return process_; }
  const std::string& address() const { return address_; }

 private:
  static std::vector<std::string> WithDefaults(std::vector<std::string> flags) {
    flags.insert(flags.begin(), {HEADLIGHT_SERVER_PROGRAM, "--listen", "127.0.0.1:0"});
    return flags;
  }

  testing::Subprocess process_;
  std::string address_;
};

}  // namespace headlight::e2e

#endif  // HEADLIGHT_TESTS_E2E_SERVER_PROCESS_H_
