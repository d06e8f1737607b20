// SPDX-License-Identifier: Apache-2.0
//
// HTTP/2 by hand: what no library would send.
#ifndef HEADLIGHT_TESTS_E2E_RAW_HTTP2_H_
#define HEADLIGHT_TESTS_E2E_RAW_HTTP2_H_

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace headlight::e2e {

enum FrameType : uint8_t { kData = 0, kHeaders = 1, kReset = 3, kSettings = 4, kPing = 6, kContinuation = 9 };
constexpr uint8_t kEndStream = 1;
constexpr uint8_t kEndHeaders = 4;

inline std::string BigEndian32(uint32_t value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16), static_cast<char>(value >> 8),
          static_cast<char>(value)};
}

inline std::string Frame(FrameType type, uint8_t flags, uint32_t stream, const std::string& payload) {
  const std::string size = BigEndian32(static_cast<uint32_t>(payload.size()));
  return size.substr(1) + static_cast<char>(type) + static_cast<char>(flags) + BigEndian32(stream) + payload;
}

// A number of HPACK behind `prefix_bits` of a byte whose other bits are `first`.
inline std::string HpackNumber(uint8_t first, int prefix_bits, uint64_t value) {
  const uint64_t most = (uint64_t{1} << prefix_bits) - 1;
  if (value < most) return {static_cast<char>(first | value)};
  std::string bytes(1, static_cast<char>(first | most));
  for (value -= most; value >= 128; value >>= 7) bytes += static_cast<char>(0x80 | (value & 0x7f));
  return bytes + static_cast<char>(value);
}

// A header that no table keeps.
inline std::string Header(const std::string& name, const std::string& value) {
  return std::string(1, '\0') + HpackNumber(0, 7, name.size()) + name + HpackNumber(0, 7, value.size()) +
         value;
}

inline std::string CallHeaders(const std::string& path) {
  return Header(":method", "POST") + Header(":scheme", "http") + Header(":path", path) +
         Header(":authority", "a") + Header("te", "trailers") + Header("content-type", "application/grpc");
}

// One message as gRPC frames it.
inline std::string GrpcMessage(const std::string& bytes, bool compressed = false) {
  return std::string(1, compressed ? '\1' : '\0') + BigEndian32(static_cast<uint32_t>(bytes.size())) + bytes;
}

inline std::string Preface() { return "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + Frame(kSettings, 0, 0, ""); }

// A connection over loopback from an address of its own, so that the port alone does not tell it from others.
class RawConnection {
 public:
  // `address`: "127.0.0.1:PORT".
  explicit RawConnection(const std::string& address, const char* from = "127.0.0.2") {
    fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int one = 1;
    setsockopt(fd_, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
    sockaddr_in name = {};
    name.sin_family = AF_INET;
    inet_pton(AF_INET, from, &name.sin_addr);
    const bool bound = Call(bind, name) == 0;
    inet_pton(AF_INET, "127.0.0.1", &name.sin_addr);
    name.sin_port = htons(static_cast<uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
    connected_ = bound && Call(connect, name) == 0;
  }
  RawConnection(RawConnection&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), connected_(other.connected_), reads_(other.reads_) {}
  RawConnection& operator=(RawConnection&&) = delete;
  ~RawConnection() {
    if (fd_ >= 0) close(fd_);
  }

  bool connected() const { return connected_; }
  void ReadNothing() { reads_ = false; }

  // False: the server has closed, or takes nothing for `patience`.
  bool Send(const std::string& bytes, std::chrono::milliseconds patience = std::chrono::seconds(5)) {
    size_t sent = 0;
    while (sent < bytes.size()) {
      const ssize_t count = send(fd_, &bytes[sent], bytes.size() - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (count > 0) {
        sent += static_cast<size_t>(count);
      } else if (errno != EAGAIN || !Wait(POLLOUT, patience)) {
        return false;
      }
      if (reads_ && !Drain()) return false;
    }
    return true;
  }

  // Whether the server closes within `patience`; reads what comes.
  bool IsClosed(std::chrono::milliseconds patience) {
    const auto give_up = std::chrono::steady_clock::now() + patience;
    while (std::chrono::steady_clock::now() < give_up) {
      if (Wait(POLLIN, std::chrono::milliseconds(10)) && !Drain()) return true;
    }
    return false;
  }

 private:
  template <typename F>
  int Call(F function, const sockaddr_in& name) const {
    return function(fd_, static_cast<const sockaddr*>(static_cast<const void*>(&name)), sizeof(name));
  }

  bool Wait(short event, std::chrono::milliseconds patience) const {
    pollfd wait = {fd_, static_cast<short>(event | (reads_ ? POLLIN : 0)), 0};
    return poll(&wait, 1, static_cast<int>(patience.count())) > 0;
  }

  // False: the server has closed.
  bool Drain() const {
    std::array<char, 65536> bytes;
    ssize_t count = 0;
    while ((count = recv(fd_, bytes.data(), bytes.size(), MSG_DONTWAIT)) > 0) {
    }
    return count < 0 && errno == EAGAIN;
  }

  int fd_ = -1;
  bool connected_ = false;
  bool reads_ = true;
};

}  // namespace headlight::e2e

#endif  // HEADLIGHT_TESTS_E2E_RAW_HTTP2_H_
