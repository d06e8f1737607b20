// SPDX-License-Identifier: Apache-2.0
//
// The cheapest gRPC client: it only sends, receives and counts. What it reaches against an echo server is the
// ceiling for what a load tester, or a server, reaches on the same machine.
#ifndef HEADLIGHT_TESTS_BENCH_ECHO_CLIENT_H_
#define HEADLIGHT_TESTS_BENCH_ECHO_CLIENT_H_

#include <grpcpp/channel.h>
#include <grpcpp/support/byte_buffer.h>

#include <memory>
#include <string>
#include <vector>

namespace headlight::bench {

struct EchoLoad {
  std::string target;  // HOST:PORT
  grpc::ByteBuffer request;
  int concurrency = 64;  // in flight, at least 1
  int channels = 1;      // connections
  int threads = 1;       // at most `channels` of use: each has connections of its own
  int seconds = 3;       // that count; half a second goes before
};

// What came out of one measurement. The second one says what a CPU could do if others left it alone.
struct Speed {
  double per_s = 0;      // replies a second
  double per_cpu_s = 0;  // replies for each second of this process's CPU time
};

// Connections of their own, as the load tester opens them.
std::vector<std::shared_ptr<grpc::Channel>> OpenChannels(const std::string& target, int count);

// A closed loop with no deadline and no latency.
Speed MeasureEcho(const EchoLoad& load);

// User and system time that this process has used, in seconds.
double CpuSeconds();

}  // namespace headlight::bench

#endif  // HEADLIGHT_TESTS_BENCH_ECHO_CLIENT_H_
