// SPDX-License-Identifier: Apache-2.0
//
// Ctrl-C as a flag, for commands that have something to say before they end.
#ifndef HEADLIGHT_CLIENT_CLI_INTERRUPT_H_
#define HEADLIGHT_CLIENT_CLI_INTERRUPT_H_

#include <atomic>
#include <csignal>

namespace headlight::client {

// While one exists, the first SIGINT or SIGTERM sets interrupted() and a second one ends the process as
// usual. At most one at a time.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  const std::atomic<bool>& interrupted() const;

 private:
  struct sigaction previous_int_;
  struct sigaction previous_term_;
};

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_CLI_INTERRUPT_H_
