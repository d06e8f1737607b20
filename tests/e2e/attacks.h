// SPDX-License-Identifier: Apache-2.0
//
// What peers that mean no good do to a server, from 127.0.0.2.
#ifndef HEADLIGHT_TESTS_E2E_ATTACKS_H_
#define HEADLIGHT_TESTS_E2E_ATTACKS_H_

#include <chrono>
#include <functional>
#include <string>
#include <vector>

namespace headlight::e2e {

struct Attack {
  const char* name;
  // Against the server at "127.0.0.1:PORT", within a minute. False: it did not do what it does with such peers.
  std::function<bool(const std::string& address)> run;
};

const std::vector<Attack>& Attacks();

// Whether it happens within `patience`.
bool Eventually(std::chrono::seconds patience, const std::function<bool()>& happens);

}  // namespace headlight::e2e

#endif  // HEADLIGHT_TESTS_E2E_ATTACKS_H_
