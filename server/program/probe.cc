// SPDX-License-Identifier: Apache-2.0
//
// `headlight-server probe`: asks the admin port of a server on this machine how it is, for containers' health
// checks. Plain HTTP, so that it works whatever certificates and tokens the gRPC port wants.
#include <netdb.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/text.h"
#include "server/program/parse_arguments.h"
#include "server/program/program_commands.h"
#include "server/rpc/descriptor.h"

namespace headlight {
namespace {

// Of one answer: the rest says nothing more.
constexpr size_t kMostAnswerBytes = 64 << 10;

struct ProbeFlags {
  std::string listen = "127.0.0.1:8002";
  std::string path = "/readyz";
  int timeout_s = 4;
};

struct Address {
  std::string host;
  std::string port;
};

// Where a server that listens on `listen` is reached from here: one that listens everywhere, on the loopback
// interface.
absl::StatusOr<Address> Reached(const std::string& listen) {
  const size_t colon = listen.rfind(':');
  if (colon == std::string::npos || colon + 1 == listen.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--admin-listen: got ", Quoted(listen), ", wanted HOST:PORT"));
  }
  Address address = {listen.substr(0, colon), listen.substr(colon + 1)};
  if (address.host.size() > 2 && address.host.front() == '[' && address.host.back() == ']') {
    address.host = address.host.substr(1, address.host.size() - 2);
  }
  if (address.host.empty() || address.host == "0.0.0.0") address.host = "127.0.0.1";
  if (address.host == "::") address.host = "::1";
  return address;
}

absl::Status SystemError(const std::string& listen, const char* what) {
  return absl::UnavailableError(absl::StrCat(listen, ": ", what, ": ", std::strerror(errno)));
}

// What comes back until the other side ends it.
absl::StatusOr<std::string> Ask(const ProbeFlags& flags) {
  HEADLIGHT_ASSIGN_OR_RETURN(const Address address, Reached(flags.listen));
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int error = getaddrinfo(address.host.c_str(), address.port.c_str(), &hints, &found); error != 0) {
    return absl::UnavailableError(absl::StrCat(flags.listen, ": ", gai_strerror(error)));
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> first(found, &freeaddrinfo);
  const Descriptor socket(::socket(first->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval timeout = {.tv_sec = flags.timeout_s, .tv_usec = 0};
  setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
  setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
  if (connect(socket.get(), first->ai_addr, first->ai_addrlen) != 0) {
    return SystemError(flags.listen, "cannot connect");
  }
  const std::string request =
      absl::StrCat("GET ", flags.path, " HTTP/1.0\r\nHost: ", address.host, "\r\nConnection: close\r\n\r\n");
  if (send(socket.get(), request.data(), request.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(request.size())) {
    return SystemError(flags.listen, "cannot send");
  }
  std::string answer;
  std::array<char, 4096> buffer;
  while (answer.size() < kMostAnswerBytes) {
    const ssize_t got = recv(socket.get(), buffer.data(), buffer.size(), 0);
    if (got < 0) return SystemError(flags.listen, "no answer");
    if (got == 0) break;
    answer.append(buffer.data(), static_cast<size_t>(got));
  }
  return answer;
}

}  // namespace

int RunProbe(int argc, const char* const* argv, std::ostream& out, std::ostream& err) {
  CLI::App app("Asks the admin port of a server on this machine whether it is ready, as health checks do.",
               "headlight-server probe");
  ProbeFlags flags;
  app.add_option("--admin-listen", flags.listen, "The address that the server has")
      ->envname("HEADLIGHT_ADMIN_LISTEN")
      ->type_name("HOST:PORT [" + flags.listen + "]");
  app.add_option("--path", flags.path, "What to ask for: /readyz or /livez")
      ->type_name("PATH [" + flags.path + "]");
  app.add_option("--timeout-s", flags.timeout_s, "How long each step may take")
      ->check(CLI::Range(1, 3600))
      ->type_name("SECONDS [4]");
  app.footer("Prints what the server says, and ends with 0 if that is good and 1 if it is not.");
  if (const std::optional<int> ended = ParseArguments(app, argc, argv, out, err)) return *ended;
  const absl::StatusOr<std::string> answer = Ask(flags);
  if (!answer.ok()) {
    err << "headlight-server probe: " << answer.status().message() << "\n";
    return absl::IsInvalidArgument(answer.status()) ? 2 : 1;
  }
  const size_t body = answer->find("\r\n\r\n");
  out << (body == std::string::npos ? *answer : answer->substr(body + 4)) << std::flush;
  const bool good = absl::StartsWith(*answer, "HTTP/1.0 200 ") || absl::StartsWith(*answer, "HTTP/1.1 200 ");
  return good ? 0 : 1;
}

}  // namespace headlight
