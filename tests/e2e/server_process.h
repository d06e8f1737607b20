// SPDX-License-Identifier: Apache-2.0
//
// headlight-server as a process on a free port of the loopback interface.
#ifndef HEADLIGHT_TESTS_E2E_SERVER_PROCESS_H_
#define HEADLIGHT_TESTS_E2E_SERVER_PROCESS_H_

#include <chrono>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "tests/testing/subprocess.h"

namespace headlight::e2e {

// Of a target that defines HEADLIGHT_SERVER_PROGRAM. Killed at the end, unless it has ended.
class ServerProcess {
 public:
  explicit ServerProcess(std::vector<std::string> flags = {})
      : process_(WithDefaults(std::move(flags))),
        address_("127.0.0.1" + process_.WaitForOutput("listening on 127.0.0.1", std::chrono::seconds(60))) {}

  testing::Subprocess& process() { return process_; }
  const std::string& address() const { return address_; }

  // Of the admin port; 0: it has not told one.
  int AdminPort() {
    const std::string rest =
        process_.WaitForOutput("admin port on http://127.0.0.1:", std::chrono::seconds(10));
    return std::atoi(rest.substr(0, rest.find('/')).c_str());
  }

 private:
  static std::vector<std::string> WithDefaults(std::vector<std::string> flags) {
    flags.insert(flags.begin(),
                 {HEADLIGHT_SERVER_PROGRAM, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"});
    return flags;
  }

  testing::Subprocess process_;
  std::string address_;
};

}  // namespace headlight::e2e

#endif  // HEADLIGHT_TESTS_E2E_SERVER_PROCESS_H_
