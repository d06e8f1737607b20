// SPDX-License-Identifier: Apache-2.0
#include "tests/e2e/fleet/replica.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <sstream>
#include <thread>
#include <utility>

#include "tests/server/observe/http_get.h"
#include "tests/testing/loopback.h"

namespace headlight::e2e {
namespace {

using namespace std::chrono_literals;

constexpr auto kPatience = 60s;  // on a busy machine

}  // namespace

Replica::Replica(std::vector<std::string> flags)
    : flags_(std::move(flags)), port_(testing::FreePort()), admin_port_(testing::FreePort()) {}

void Replica::Start() {
  const auto local = [](int port) { return "127.0.0.1:" + std::to_string(port); };
  std::vector<std::string> argv = {HEADLIGHT_SERVER_PROGRAM,
                                   "--listen",
                                   local(port_),
                                   "--admin-listen",
                                   local(admin_port_),
                                   "--threads",
                                   "1",
                                   "--models",
                                   "demo",
                                   "--lame-duck-s",
                                   "2"};
  argv.insert(argv.end(), flags_.begin(), flags_.end());
  process_ = std::make_unique<testing::Subprocess>(argv);
}

void Replica::WaitUntilReady() {
  const auto give_up_at = std::chrono::steady_clock::now() + kPatience;
  while (testing::HttpGet(admin_port_, "/readyz").rfind("HTTP/1.1 200 ", 0) != 0) {
    ASSERT_LT(std::chrono::steady_clock::now(), give_up_at) << process_->Output();
    std::this_thread::sleep_for(20ms);
  }
}

void Replica::Stop() {
  process_->Signal(SIGTERM);
  EXPECT_EQ(process_->Wait(kPatience), 0) << process_->Output();
}

void Replica::Kill() {
  process_->Signal(SIGKILL);
  EXPECT_EQ(process_->Wait(kPatience), 128 + SIGKILL);
}

int64_t Replica::answered() const {
  std::istringstream metrics(testing::HttpGet(admin_port_, "/metrics"));
  double sum = 0;
  for (std::string line; std::getline(metrics, line);) {
    const bool counts = line.rfind("headlight_requests_total{", 0) == 0 &&
                        line.find("method=\"Attend\"") != std::string::npos &&
                        line.find("code=\"OK\"") != std::string::npos;
    if (counts) sum += std::stod(line.substr(line.rfind(' ')));
  }
  return static_cast<int64_t>(sum);
}

}  // namespace headlight::e2e
