// SPDX-License-Identifier: Apache-2.0
#include "server/observe/admin_http.h"

#include <civetweb.h>
#include <netdb.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <exception>
#include <future>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/base/text.h"

namespace headlight {
namespace {

constexpr char kMaxRequestBytes[] = "8192";  // request line and headers; bodies are not read

constexpr char kPlainText[] = "text/plain; charset=utf-8";

absl::Status CheckAddress(const std::string& listen) {
  const size_t colon = listen.rfind(':');
  int port = 0;
  if (colon == std::string::npos || colon == 0 || !absl::SimpleAtoi(listen.substr(colon + 1), &port) ||
      port < 0 || port > 65535 || listen.find_first_of(", \t") != std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("--admin-listen: got ", Quoted(listen), ", wanted HOST:PORT"));
  }
  return absl::OkStatus();
}

// Of a checked HOST:PORT, without the brackets of IPv6.
std::string HostOf(const std::string& listen) {
  std::string host = listen.substr(0, listen.rfind(':'));
  if (host.size() > 1 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  return host;
}

// Connects to this machine's own port, and hangs up.
void Knock(const std::string& host, const std::string& port) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* addresses = nullptr;
  if (getaddrinfo(host.c_str(), port.c_str(), &hints, &addresses) != 0) return;
  for (const addrinfo* address = addresses; address != nullptr; address = address->ai_next) {
    const int connection = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connection < 0) continue;
    (void)connect(connection, address->ai_addr, address->ai_addrlen);
    close(connection);
  }
  freeaddrinfo(addresses);
}

const char* ReasonOf(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 503:
      return "Service Unavailable";
    default:
      return "Internal Server Error";
  }
}

void Write(mg_connection* connection, const HttpPage& page) {
  const std::string answer = absl::StrCat(
      "HTTP/1.1 ", page.status, " ", ReasonOf(page.status), "\r\nContent-Type: ", page.type,
      "\r\nContent-Length: ", page.body.size(), page.status == 405 ? "\r\nAllow: GET" : "",
      "\r\nContent-Security-Policy: default-src 'none'; style-src 'unsafe-inline'"
      "\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n",
      page.body);
  mg_write(connection, answer.data(), answer.size());
}

}  // namespace

class AdminHttp::Impl {
 public:
  explicit Impl(std::map<std::string, MakePage> pages) : pages_(std::move(pages)) {}
  ~Impl() {
    if (context_ != nullptr) Stop();
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  bool Start(const std::string& listen) {
    host_ = HostOf(listen);
    // civetweb's own word for both families; [::] is IPv6 alone to it.
    const std::string port = listen.substr(listen.rfind(':') + 1);
    if (host_ != "::") return StartOn(listen);
    return StartOn("+" + port) || StartOn(port);  // a kernel without IPv6 has the other one
  }

  int port() const {
    mg_server_port port = {};
    return mg_get_server_ports(context_, 1, &port) == 1 ? port.port : 0;
  }

 private:
  bool StartOn(const std::string& ports) {
    const std::string threads = absl::StrCat(kThreads);
    const std::string timeout = absl::StrCat(kTimeoutMs);
    const char* options[] = {"listening_ports",
                             ports.c_str(),
                             "num_threads",
                             threads.c_str(),
                             "request_timeout_ms",
                             timeout.c_str(),
                             "max_request_size",
                             kMaxRequestBytes,
                             "enable_keep_alive",
                             "no",
                             nullptr};
    mg_callbacks callbacks = {};
    callbacks.begin_request = [](mg_connection* connection) {
      const mg_request_info& request = *mg_get_request_info(connection);
      return static_cast<const Impl*>(request.user_data)->Answer(connection, request);
    };
    callbacks.log_message = [](const mg_connection*, const char* message) {
      spdlog::debug("admin port: {}", Quoted(message));
      return 1;
    };
    context_ = mg_start(&callbacks, this, options);
    return context_ != nullptr;
  }

  // civetweb looks every two seconds whether it is to stop, and at once when somebody knocks.
  void Stop() {
    const std::string port = absl::StrCat(this->port());
    std::future<void> stopped;
    try {
      stopped = std::async(std::launch::async, [this] { mg_stop(context_); });
    } catch (const std::system_error&) {  // no thread to be had
      return mg_stop(context_);
    }
    while (stopped.wait_for(std::chrono::milliseconds(10)) != std::future_status::ready) {
      Knock(host_, port);
      if (host_ == "::") Knock("0.0.0.0", port);
    }
  }

  // Returns the status, which tells civetweb that the request has been answered.
  int Answer(mg_connection* connection, const mg_request_info& request) const {
    HttpPage page = {404, kPlainText, "there is no such page\n"};
    const auto found = pages_.find(request.local_uri == nullptr ? "" : request.local_uri);
    if (std::strcmp(request.request_method, "GET") != 0) {
      page = {405, kPlainText, "only GET\n"};
    } else if (found != pages_.end()) {
      try {
        page = found->second();
      } catch (const std::exception& error) {
        spdlog::error("admin port: {}: {}", found->first, error.what());
        page = {500, kPlainText, "the page could not be made\n"};
      }
    }
    try {
      Write(connection, page);
    } catch (const std::exception&) {  // memory is short: the connection is closed without an answer
    }
    return page.status;
  }

  const std::map<std::string, MakePage> pages_;
  std::string host_;
  mg_context* context_ = nullptr;
};

absl::StatusOr<std::unique_ptr<AdminHttp>> AdminHttp::Listen(const std::string& listen,
                                                             std::map<std::string, MakePage> pages) {
  const absl::Status address = CheckAddress(listen);
  if (!address.ok()) return address;
  auto impl = std::make_unique<Impl>(std::move(pages));
  if (!impl->Start(listen)) {  // civetweb's own words say nothing about the cause
    return absl::UnavailableError(absl::StrCat("--admin-listen: cannot listen on ", Quoted(listen),
                                               "; is it in use, or no address of this machine?"));
  }
  return std::unique_ptr<AdminHttp>(new AdminHttp(std::move(impl)));
}

AdminHttp::AdminHttp(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
AdminHttp::~AdminHttp() = default;

int AdminHttp::port() const { return impl_->port(); }

}  // namespace headlight
