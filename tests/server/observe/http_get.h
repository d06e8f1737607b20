// SPDX-License-Identifier: Apache-2.0
//
// Plain sockets to a port of the loopback interface, and HTTP over them.
#ifndef HEADLIGHT_TESTS_SERVER_OBSERVE_HTTP_GET_H_
#define HEADLIGHT_TESTS_SERVER_OBSERVE_HTTP_GET_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <utility>

namespace headlight::testing {

// A connection, closed with this. -1: there is none.
class Connection {
 public:
  explicit Connection(int port) : socket_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(socket_, static_cast<const sockaddr*>(static_cast<const void*>(&address)), sizeof(address)) !=
        0) {
      close(std::exchange(socket_, -1));
    }
  }
  Connection(Connection&& other) noexcept : socket_(std::exchange(other.socket_, -1)) {}
  ~Connection() {
    if (socket_ >= 0) close(socket_);
  }

  bool Send(const std::string& bytes) const {
    return send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
  }

  // Until the other side closes.
  std::string ReadAll() const {
    std::string answer;
    char bytes[4096];
    for (ssize_t got; (got = recv(socket_, bytes, sizeof(bytes), 0)) > 0;) answer.append(bytes, got);
    return answer;
  }

 private:
  int socket_;
};

// Status line, headers and body; empty if nobody answers.
inline std::string HttpAsk(int port, const std::string& method, const std::string& path) {
  const Connection connection(port);
  return connection.Send(method + " " + path + " HTTP/1.1\r\nHost: localhost\r\n\r\n") ? connection.ReadAll()
                                                                                       : "";
}

inline std::string HttpGet(int port, const std::string& path) { return HttpAsk(port, "GET", path); }

// Behind the headers.
inline std::string BodyOf(const std::string& answer) {
  const size_t end = answer.find("\r\n\r\n");
  return end == std::string::npos ? "" : answer.substr(end + 4);
}

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_SERVER_OBSERVE_HTTP_GET_H_
