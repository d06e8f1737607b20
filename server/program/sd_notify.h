// SPDX-License-Identifier: Apache-2.0
//
// Tells systemd, or whoever else started the server and speaks sd_notify(3), how it is: loading, ready,
// reloading, stopping, alive. A datagram each, so that the server needs no library of systemd's.
#ifndef HEADLIGHT_SERVER_PROGRAM_SD_NOTIFY_H_
#define HEADLIGHT_SERVER_PROGRAM_SD_NOTIFY_H_

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "core/runtime/periodic.h"

namespace headlight {

// Thread-safe. Without a manager that listens, everything here does nothing. What cannot be delivered is lost
// without a word: a manager that has gone must not take the server with it.
class ServiceManager {
 public:
  // `socket` as in NOTIFY_SOCKET: a path, or "@NAME" in Linux's abstract namespace; empty: nobody listens.
  // `watchdog`: how long the manager waits for a sign of life; 0: for ever.
  ServiceManager(std::string socket, std::chrono::microseconds watchdog);

  // As NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID say. Removes them from the environment, so that no child
  // of ours speaks in our name: call it before there are other threads.
  static ServiceManager FromEnvironment();

  bool listens() const { return !socket_.empty(); }

  // One line for `systemctl status`, such as "loading model encoder". Gives the start-up as much time again
  // as `extend_start`, if that is not 0, counted from now.
  void Status(const std::string& line, std::chrono::microseconds extend_start = {}) const;
  void Ready(const std::string& line) const;  // also when a reload has ended
  void Reloading() const;
  void Stopping(const std::string& line) const;

  // Calls `alive` four times in the manager's time-out, from a thread of its own, and passes a sign of life
  // on unless it was false twice in a row. One call that does not return is silence too. Null where no sign
  // is waited for.
  std::unique_ptr<Periodic> Watch(std::function<bool()> alive) const;

 private:
  void Send(const std::string& state) const;

  std::string socket_;
  std::chrono::microseconds watchdog_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_PROGRAM_SD_NOTIFY_H_
