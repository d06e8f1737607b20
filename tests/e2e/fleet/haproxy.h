// SPDX-License-Identifier: Apache-2.0
//
// HAProxy with deploy/haproxy/haproxy.cfg before servers of the loopback interface.
#ifndef HEADLIGHT_TESTS_E2E_FLEET_HAPROXY_H_
#define HEADLIGHT_TESTS_E2E_FLEET_HAPROXY_H_

#include <chrono>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/e2e/fleet/replica.h"
#include "tests/server/observe/http_get.h"
#include "tests/testing/loopback.h"
#include "tests/testing/subprocess.h"

namespace headlight::e2e {

// Of a target that defines HEADLIGHT_HAPROXY, the program, and HEADLIGHT_HAPROXY_CFG.
class Haproxy {
 public:
  struct Backend {
    int port;
    int admin_port;  // whose /readyz says whether it gets calls
  };

  explicit Haproxy(const std::vector<Backend>& backends) : process_(Command(backends)) {}

  // Whether it has found a server that is ready, before the patience of a test is over.
  bool WaitUntilReady() const {
    for (int i = 0; i < 500; ++i) {
      const testing::Connection connection(metrics_port_);
      // HTTP/1.0, as it would keep others open.
      if (connection.Send("GET /readyz HTTP/1.0\r\n\r\n") && connection.ReadAll().find(" 200 ") == 8)
        return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return false;
  }

  std::string address() const { return Local(port_); }
  const testing::Subprocess& process() const { return process_; }

 private:
  static std::string Local(int port) { return "127.0.0.1:" + std::to_string(port); }

  std::vector<std::string> Command(const std::vector<Backend>& backends) const {
    std::vector<std::string> argv = {"/usr/bin/env", "BIND=" + Local(port_),
                                     "METRICS_BIND=" + Local(metrics_port_)};
    for (size_t i = 0; i < backends.size(); ++i) {
      const std::string server = "SERVER_" + std::to_string(i + 1);
      argv.push_back(server + "=" + Local(backends[i].port));
      argv.push_back(server + "_ADMIN=" + std::to_string(backends[i].admin_port));
    }
    argv.insert(argv.end(), {HEADLIGHT_HAPROXY, "-db", "-f", HEADLIGHT_HAPROXY_CFG});
    return argv;
  }

  const int port_ = testing::FreePort();
  const int metrics_port_ = testing::FreePort();
  testing::Subprocess process_;
};

}  // namespace headlight::e2e

#endif  // HEADLIGHT_TESTS_E2E_FLEET_HAPROXY_H_
