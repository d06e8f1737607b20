// SPDX-License-Identifier: Apache-2.0
//
// How many tiny requests a second the load tester drives on one CPU, beside the most that gRPC allows: a
// client that only sends, receives and counts. Both talk to the same echo server on another CPU, in turns.
// Alternating and taking the median keeps a noisy machine from deciding.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "client/load/load_run.h"
#include "client/wire/wire.h"
#include "tests/bench/echo_client.h"
#include "tests/bench/echo_server.h"

namespace headlight::bench {
namespace {

using client::LoadPlan;
using client::LoadResult;
using std::chrono::milliseconds;

constexpr double kOpenShare = 0.8;  // of the ceiling, where the wanted rate is beyond it

struct BenchFlags {
  int seconds = 3;
  int rounds = 3;
  int concurrency = 64;
  int channels = 1;
  double open_rate = 30000;
  int client_cpu = 0;
  int server_cpu = 1;
};

// A rate of 0: a closed loop.
LoadResult MeasureLoad(const BenchFlags& flags, const std::string& target, const grpc::ByteBuffer& request,
                       double rate) {
  LoadPlan plan{.channels = OpenChannels(target, flags.channels),
                .pool = {{.bytes = request, .tokens = 1}},
                .mix = {.timeouts = {std::chrono::seconds(10)}},
                .concurrency = rate > 0 ? 0 : flags.concurrency,
                .rate = rate,
                .warmup = milliseconds(500),
                .duration = std::chrono::seconds(flags.seconds)};
  const std::atomic<bool> never_stop = false;
  return client::RunLoad(plan, never_stop);
}

Speed SpeedOf(const LoadResult& result) {
  const double per_s =
      static_cast<double>(result.replies_in_window) / (static_cast<double>(result.measured.count()) / 1e9);
  return {.per_s = per_s, .per_cpu_s = result.cpu_cores > 0 ? per_s / result.cpu_cores : 0};
}

double Median(const std::vector<Speed>& speeds, double Speed::*member) {
  std::vector<double> values;
  for (const Speed& speed : speeds) values.push_back(speed.*member);
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void PrintMedian(const char* name, const std::vector<Speed>& speeds, const std::vector<Speed>& ceilings) {
  const double per_s = Median(speeds, &Speed::per_s), per_cpu_s = Median(speeds, &Speed::per_cpu_s);
  std::printf("median %-11s %8.0f/s (%.2f of the ceiling), %8.0f for each CPU second (%.2f)\n", name, per_s,
              per_s / Median(ceilings, &Speed::per_s), per_cpu_s,
              per_cpu_s / Median(ceilings, &Speed::per_cpu_s));
}

int RunBench(const BenchFlags& flags) {
  const EchoProcess server({.cpu = flags.server_cpu});
  if (server.port() == 0 || !PinToCpu(flags.client_cpu)) {
    std::fprintf(stderr, "load_bench: the echo server did not start, or CPU %d is not ours\n",
                 flags.client_cpu);
    return 1;
  }
  const std::string target = "127.0.0.1:" + std::to_string(server.port());
  // Read as a reply, a request has its query as output: what comes back from the echo is well-formed.
  const client::Tensor query{.shape = {1, 1, 4}, .values = {1, 2, 3, 4}};
  const grpc::ByteBuffer request = *client::EncodeRequest({.model = "demo", .query = query.View()});

  std::vector<Speed> ceilings, closed, open;
  std::printf(
      "tiny requests of %zu bytes, %d in flight over %d connections; client on CPU %d, server on %d\n",
      request.Length(), flags.concurrency, flags.channels, flags.client_cpu, flags.server_cpu);
  for (int round = 0; round < flags.rounds; ++round) {
    ceilings.push_back(MeasureEcho({.target = target,
                                    .request = request,
                                    .concurrency = flags.concurrency,
                                    .channels = flags.channels,
                                    .seconds = flags.seconds}));
    closed.push_back(SpeedOf(MeasureLoad(flags, target, request, 0)));
    const double rate = std::min(flags.open_rate, kOpenShare * ceilings.back().per_s);
    const LoadResult result = MeasureLoad(flags, target, request, rate);
    open.push_back(SpeedOf(result));
    const auto ms = [](std::chrono::nanoseconds time) { return static_cast<double>(time.count()) / 1e6; };
    std::printf(
        "ceiling %.0f/s, closed loop %.0f/s, open loop of %.0f/s %.0f/s: p50 %.3f ms, p99 %.3f ms, sent %.3f "
        "ms late\n",
        ceilings.back().per_s, closed.back().per_s, rate, open.back().per_s,
        ms(result.intended.Percentile(50)), ms(result.intended.Percentile(99)),
        ms(result.late.Percentile(99)));
  }
  PrintMedian("ceiling", ceilings, ceilings);
  PrintMedian("closed loop", closed, ceilings);
  PrintMedian("open loop", open, ceilings);
  return 0;
}

}  // namespace
}  // namespace headlight::bench

int main(int argc, char** argv) {
  headlight::bench::BenchFlags flags;
  CLI::App app("How many tiny requests a second the load tester drives, beside a gRPC echo client",
               "load_bench");
  app.add_option("--seconds", flags.seconds, "Of each measurement")
      ->check(CLI::Range(1, 60))
      ->capture_default_str();
  app.add_option("--rounds", flags.rounds, "Each of all three")
      ->check(CLI::Range(1, 99))
      ->capture_default_str();
  app.add_option("--concurrency", flags.concurrency, "In flight")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  app.add_option("--channels", flags.channels, "Connections")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  app.add_option("--open-rate", flags.open_rate, "Rate of the open loop, if 0.8 of the ceiling is no less")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--client-cpu", flags.client_cpu, "CPU of the client")->capture_default_str();
  app.add_option("--server-cpu", flags.server_cpu, "CPU of the server")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  return headlight::bench::RunBench(flags);
}
