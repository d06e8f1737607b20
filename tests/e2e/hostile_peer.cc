// SPDX-License-Identifier: Apache-2.0
//
// Attacks a server for a while: hostile_peer 127.0.0.1:PORT SECONDS. One line for each attack; 1 if the server did not
// do its part.
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <thread>

#include "tests/e2e/attacks.h"

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: hostile_peer 127.0.0.1:PORT SECONDS\n";
    return 2;
  }
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(std::atoi(argv[2]));
  for (;;) {
    for (const headlight::e2e::Attack& attack : headlight::e2e::Attacks()) {
      if (std::chrono::steady_clock::now() >= end) return 0;
      if (!attack.run(argv[1])) {
        std::cerr << attack.name << ": the server did not end what it should\n";
        return 1;
      }
      std::cout << attack.name << std::endl;
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
    }
  }
}
