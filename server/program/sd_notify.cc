// SPDX-License-Identifier: Apache-2.0
#include "server/program/sd_notify.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/rpc/descriptor.h"
#include "server/rpc/socket_address.h"

namespace headlight {
namespace {

// Longer than a manager that lives takes to empty its queue; less than anybody notices of a start or an end.
constexpr timeval kSendTimeout = {.tv_sec = 1, .tv_usec = 0};

// Looks at ourselves in the time within which the manager wants a sign of life: two that find nothing alive
// may pass.
constexpr int kLooksPerWatchdog = 4;

// What came from outside, of files' names, stays on one line.
std::string OneLine(std::string line) {
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < ' ' || c == 0x7f) c = '?';
  }
  return line;
}

int64_t MonotonicMicroseconds() {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000 + now.tv_nsec / 1000;
}

std::string TakeVariable(const char* name) {
  const char* const value = std::getenv(name);
  std::string taken = value == nullptr ? "" : value;
  unsetenv(name);
  return taken;
}

}  // namespace

ServiceManager::ServiceManager(std::string socket, std::chrono::microseconds watchdog)
    : socket_(std::move(socket)), watchdog_(watchdog) {}

ServiceManager ServiceManager::FromEnvironment() {
  std::string socket = TakeVariable("NOTIFY_SOCKET");
  const std::string watchdog = TakeVariable("WATCHDOG_USEC"), pid = TakeVariable("WATCHDOG_PID");
  int64_t watchdog_us = 0;
  const bool ours = pid.empty() || pid == absl::StrCat(getpid());
  if (!ours || !absl::SimpleAtoi(watchdog, &watchdog_us) || watchdog_us < 0) watchdog_us = 0;
  return ServiceManager(std::move(socket), std::chrono::microseconds(watchdog_us));
}

void ServiceManager::Send(const std::string& state) const {
  SocketAddress address{};
  address.local.sun_family = AF_UNIX;
  if (socket_.empty() || socket_.size() >= sizeof(address.local.sun_path)) return;
  std::memcpy(address.local.sun_path, socket_.data(), socket_.size());
  if (socket_[0] == '@') address.local.sun_path[0] = '\0';
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + socket_.size());
  const Descriptor fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return;
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &kSendTimeout, sizeof(kSendTimeout));
  (void)!sendto(fd.get(), state.data(), state.size(), MSG_NOSIGNAL, &address.any, size);
}

void ServiceManager::Status(const std::string& line, std::chrono::microseconds extend_start) const {
  std::string state = absl::StrCat("STATUS=", OneLine(line));
  if (extend_start.count() > 0) absl::StrAppend(&state, "\nEXTEND_TIMEOUT_USEC=", extend_start.count());
  Send(state);
}

void ServiceManager::Ready(const std::string& line) const {
  Send(absl::StrCat("READY=1\nSTATUS=", OneLine(line)));
}

void ServiceManager::Reloading() const {
  Send(absl::StrCat("RELOADING=1\nMONOTONIC_USEC=", MonotonicMicroseconds(), "\nSTATUS=reloading"));
}

void ServiceManager::Stopping(const std::string& line) const {
  Send(absl::StrCat("STOPPING=1\nSTATUS=", OneLine(line)));
}

std::unique_ptr<Periodic> ServiceManager::Watch(std::function<bool()> alive) const {
  if (socket_.empty() || watchdog_.count() == 0) return nullptr;
  const auto period = std::max(watchdog_ / kLooksPerWatchdog, std::chrono::microseconds(1000));
  return std::make_unique<Periodic>(period,
                                    [manager = *this, alive = std::move(alive), was_alive = true]() mutable {
                                      const bool is_alive = alive();
                                      if (is_alive || was_alive) manager.Send("WATCHDOG=1");
                                      was_alive = is_alive;
                                    });
}

}  // namespace headlight
