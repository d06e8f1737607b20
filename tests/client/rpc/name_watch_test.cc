// SPDX-License-Identifier: Apache-2.0
#include "client/rpc/name_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace headlight::client {
namespace {

using namespace std::chrono_literals;
using Addresses = std::vector<std::string>;

TEST(NameWatchTest, LooksUpAgainAndAgain) {
  std::atomic<int> look_ups{0};
  std::promise<Addresses> third;
  const NameWatch watch([&] { return Addresses{std::to_string(++look_ups)}; }, 5ms,
                        [&](const Addresses& addresses) {
                          if (addresses.front() == "3") third.set_value(addresses);
                        });
  EXPECT_EQ(third.get_future().get(), Addresses{"3"});
}

TEST(NameWatchTest, ItsEndDoesNotWaitForALookUp) {
  auto release = std::make_shared<std::promise<void>>();
  auto looking = std::make_shared<std::promise<void>>();
  auto told = std::make_shared<std::atomic<bool>>(false);
  {
    const NameWatch watch(
        [=] {
          looking->set_value();
          release->get_future().wait();
          return Addresses{"late"};
        },
        1h, [=](const Addresses&) { *told = true; });
    looking->get_future().wait();
  }
  release->set_value();
  std::this_thread::sleep_for(50ms);
  EXPECT_FALSE(*told);
}

}  // namespace
}  // namespace headlight::client
