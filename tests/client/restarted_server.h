// SPDX-License-Identifier: Apache-2.0
//
// A server that dies in the midst of a load test and comes back.
#ifndef HEADLIGHT_TESTS_CLIENT_RESTARTED_SERVER_H_
#define HEADLIGHT_TESTS_CLIENT_RESTARTED_SERVER_H_

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "tests/client/fake_server.h"

namespace headlight::testing {

// A FakeServer that is killed once it was asked 20 times, away for `away`, and then on the same port again.
// What happens when depends on what was asked, not on the time since some start, so that a busy machine
// delays it but changes nothing.
class RestartedServer {
 public:
  // `on_resumed` is called, on a thread of this, once the second server was asked 20 times.
  explicit RestartedServer(
      std::chrono::milliseconds away, std::function<void()> on_resumed = [] {})
      : server_(std::make_unique<FakeServer>()), port_(server_->port()), target_(server_->target()) {
    thread_ = std::thread([this, away, on_resumed] {
      WaitForRequests();
      server_.reset();
      std::this_thread::sleep_for(away);
      server_ = std::make_unique<FakeServer>(FakeServer::Echo, FakeServer::Options{.port = port_});
      WaitForRequests();
      on_resumed();
    });
  }
  ~RestartedServer() { thread_.join(); }
  RestartedServer(const RestartedServer&) = delete;
  RestartedServer& operator=(const RestartedServer&) = delete;

  const std::string& target() const { return target_; }

 private:
  // Gives up after a while, so that a test whose requests do not come ends and fails.
  void WaitForRequests() const {
    const auto give_up_at = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (server_->requests().size() < 20) {
      if (std::chrono::steady_clock::now() > give_up_at) {
        ADD_FAILURE() << "the server was asked " << server_->requests().size() << " times, wanted 20";
        return;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  std::unique_ptr<FakeServer> server_;
  const int port_;
  const std::string target_;
  std::thread thread_;
};

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_CLIENT_RESTARTED_SERVER_H_
