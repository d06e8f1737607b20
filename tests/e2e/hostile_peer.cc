// SPDX-License-Identifier: Apache-2.0
//
// Attacks a server for a while: hostile_peer 127.0.0.1:PORT SECONDS [ATTACK], or all attacks in turn. One line for each
// attack; 1 if the server did not do its part. Without arguments: the names of the attacks.
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <string>
#include <thread>

#include "tests/e2e/attacks.h"

namespace headlight::e2e {
namespace {

int ListAttacks() {
  for (const Attack& attack : Attacks()) std::cout << attack.name << "\n";
  return 0;
}

// An empty `only`: all.
int AttackFor(const std::string& address, std::chrono::seconds time, const std::string& only) {
  const auto end = std::chrono::steady_clock::now() + time;
  while (true) {
    for (const Attack& attack : Attacks()) {
      if (std::chrono::steady_clock::now() >= end) return 0;
      if (!only.empty() && only != attack.name) continue;
      if (!attack.run(address)) {
        std::cerr << attack.name << ": the server did not end what it should\n";
        return 1;
      }
      std::cout << attack.name << std::endl;
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
    }
  }
}

}  // namespace
}  // namespace headlight::e2e

int main(int argc, char** argv) {
  if (argc == 1) return headlight::e2e::ListAttacks();
  if (argc != 3 && argc != 4) {
    std::cerr << "usage: hostile_peer 127.0.0.1:PORT SECONDS [ATTACK]\n";
    return 2;
  }
  return headlight::e2e::AttackFor(argv[1], std::chrono::seconds(std::atoi(argv[2])),
                                   argc == 4 ? argv[3] : "");
}
