// SPDX-License-Identifier: Apache-2.0
//
// The cheapest gRPC server that can be written with this library's means: it sends every message back as it
// came. What a client reaches against it is the most that it can reach.
#ifndef HEADLIGHT_TESTS_BENCH_ECHO_SERVER_H_
#define HEADLIGHT_TESTS_BENCH_ECHO_SERVER_H_

#include <sys/types.h>

#include <optional>

namespace headlight::bench {

struct EchoOptions {
  std::optional<int> cpu;  // the only one that it runs on; none: any
  int threads = 1;         // that serve, each with a completion queue of its own
};

// Runs the server in a process of its own, so that the client's CPU time is the client's. Must be called
// before this process uses gRPC, which does not survive a fork.
class EchoProcess {
 public:
  explicit EchoProcess(const EchoOptions& options);
  ~EchoProcess();  // ends it
  EchoProcess(const EchoProcess&) = delete;
  EchoProcess& operator=(const EchoProcess&) = delete;

  int port() const { return port_; }  // on 127.0.0.1; 0 if it did not start

 private:
  pid_t pid_ = -1;
  int port_ = 0;
};

// Keeps the calling thread, and those it starts, on one CPU. False if it may not.
bool PinToCpu(int cpu);

}  // namespace headlight::bench

#endif  // HEADLIGHT_TESTS_BENCH_ECHO_SERVER_H_
