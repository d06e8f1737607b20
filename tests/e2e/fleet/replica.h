// SPDX-License-Identifier: Apache-2.0
//
// A headlight-server whose ports outlive its process: it comes back where it was.
#ifndef HEADLIGHT_TESTS_E2E_FLEET_REPLICA_H_
#define HEADLIGHT_TESTS_E2E_FLEET_REPLICA_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/testing/subprocess.h"

namespace headlight::e2e {

class Replica {
 public:
  // Of the built-in model "demo", with one compute thread and a lame duck that balancers notice; not started
  // yet.
  explicit Replica(std::vector<std::string> flags = {});

  void Start();           // begins to; it must not run
  void WaitUntilReady();  // its /readyz says so, or the test fails
  void Stop();            // SIGTERM; waits for its end, which must be a clean one
  void Kill();            // SIGKILL
  void Freeze() { process_->Signal(SIGSTOP); }
  void Thaw() { process_->Signal(SIGCONT); }

  // How many Attends it has answered with OK since its start, by its own counter.
  int64_t answered() const;

  int port() const { return port_; }
  int admin_port() const { return admin_port_; }

 private:
  const std::vector<std::string> flags_;
  const int port_;
  const int admin_port_;
  std::unique_ptr<testing::Subprocess> process_;
};

}  // namespace headlight::e2e

#endif  // HEADLIGHT_TESTS_E2E_FLEET_REPLICA_H_
