// SPDX-License-Identifier: Apache-2.0
//
// The other end of sd_notify(3).
#ifndef HEADLIGHT_TESTS_TESTING_NOTIFY_SOCKET_H_
#define HEADLIGHT_TESTS_TESTING_NOTIFY_SOCKET_H_

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <string>

namespace headlight::testing {

// Anything takes less: only what is broken waits so long.
inline constexpr int kNotifyPatienceMs = 30'000;

// Listens as systemd does: at a path, or at "@NAME" in the abstract namespace.
class NotifySocket {
 public:
  explicit NotifySocket(const std::string& name) : fd_(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, name.data(), name.size());
    if (name[0] == '@') address.sun_path[0] = '\0';
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
    EXPECT_EQ(bind(fd_, reinterpret_cast<const sockaddr*>(&address), size), 0);
  }
  ~NotifySocket() { close(fd_); }
  NotifySocket(const NotifySocket&) = delete;
  NotifySocket& operator=(const NotifySocket&) = delete;

  bool HasNext(int timeout_ms) const {
    pollfd poll_fd = {.fd = fd_, .events = POLLIN, .revents = 0};
    return poll(&poll_fd, 1, timeout_ms) == 1;
  }

  std::string Next() const {
    std::array<char, 4096> buffer;
    if (!HasNext(kNotifyPatienceMs)) return "(nothing came)";
    const ssize_t size = recv(fd_, buffer.data(), buffer.size(), 0);
    return size < 0 ? "(nothing came)" : std::string(buffer.data(), static_cast<size_t>(size));
  }

 private:
  const int fd_;
};

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_TESTING_NOTIFY_SOCKET_H_
