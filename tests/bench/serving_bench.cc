// SPDX-License-Identifier: Apache-2.0
//
// What a server is held against in scripts/bench-serving.sh: the same computation in process, and a gRPC
// server that computes nothing; and what it costs to refuse a stranger. Each command prints one line of JSON.
#include <CLI/CLI.hpp>
#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cli/load_requests.h"
#include "client/client.h"
#include "client/wire/wire.h"
#include "core/base/status_macros.h"
#include "core/model/model.h"
#include "core/model/parameters.h"
#include "core/runtime/cancellation.h"
#include "core/runtime/compute_arena.h"
#include "core/runtime/cpu_topology.h"
#include "headlight/v1/attention.grpc.pb.h"
#include "server/models/built_in_models.h"
#include "tests/bench/echo_client.h"
#include "tests/bench/echo_server.h"
#include "tests/bench/median.h"
#include "tests/bench/model_batch.h"

namespace headlight::bench {
namespace {

// A batch in process, computed `count` times.
struct BatchFlags {
  int64_t sequences;
  int64_t seq_len;
  int count;
  int threads = DetectCpuTopology().ComputeThreads();

  void AddTo(CLI::App& app, int64_t longest) {
    app.add_option("--sequences", sequences, "Of the batch")
        ->check(CLI::Range(1, 4096))
        ->capture_default_str();
    app.add_option("--seq-len", seq_len, "Tokens of each")
        ->check(CLI::Range(int64_t{1}, longest))
        ->capture_default_str();
    app.add_option("--threads", threads, "Compute threads [as many as the server's]")
        ->check(CLI::Range(1, 1024));
    app.add_option("--count", count, "Batches that are measured")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
  }
};

// Milliseconds of CPU for a batch, f32, its threads' waiting for each other included, as in a server.
absl::Status MeasureCompute(const std::string& name, const BatchFlags& flags) {
  constexpr int kWarmUp = 3;
  HEADLIGHT_ASSIGN_OR_RETURN(const std::shared_ptr<const LoadedModel> model, MakeBuiltInModel(name));
  ModelBenchBatch data(model->model.config(), flags.sequences, flags.seq_len);
  ComputeArena arena(flags.threads);
  const std::unique_ptr<ModelWorkspace> workspace = model->model.NewWorkspace(arena);
  double cpu_begin = 0;
  for (int i = -kWarmUp; i < flags.count; ++i) {
    if (i == 0) cpu_begin = CpuSeconds();
    absl::Status status;
    arena.Within([&] { status = model->model.Forward(data.batch, arena, *workspace); });
    HEADLIGHT_RETURN_IF_ERROR(status);
  }
  std::printf("{\"cpu_ms\": %.3f}\n", (CpuSeconds() - cpu_begin) * 1e3 / flags.count);
  return absl::OkStatus();
}

// Milliseconds from the cancellation of all sequences of a batch until nothing of it is computed any more, at
// moments that are spread over the run. The model is MiniLM's shape, with random weights.
absl::Status MeasureCancel(const BatchFlags& flags) {
  const ModelConfig config = EncoderConfig();
  HEADLIGHT_ASSIGN_OR_RETURN(const Model model, Model::Create(config, RandomModelParameters(config, 1)));
  ModelBenchBatch data(config, flags.sequences, flags.seq_len);
  ComputeArena arena(flags.threads);
  const std::unique_ptr<ModelWorkspace> workspace = model.NewWorkspace(arena);
  using Clock = std::chrono::steady_clock;
  absl::Status status;
  const auto run = [&](const CancellationToken* token) {
    for (SequenceOptions& sequence : data.sequences) sequence.cancelled = token;
    arena.Within([&] { status = model.Forward(data.batch, arena, *workspace); });
  };
  const Clock::time_point begin = Clock::now();
  run(nullptr);
  HEADLIGHT_RETURN_IF_ERROR(status);
  const Clock::duration whole = Clock::now() - begin;
  std::vector<double> freed_ms;
  for (int i = 0; i < flags.count; ++i) {
    CancellationToken token;
    Clock::time_point cancelled;
    std::thread canceller([&] {
      std::this_thread::sleep_for(whole * (i + 1) / (flags.count + 2));
      cancelled = Clock::now();
      token.Cancel();
    });
    run(&token);
    const Clock::time_point end = Clock::now();
    canceller.join();
    HEADLIGHT_RETURN_IF_ERROR(status);
    freed_ms.push_back(std::chrono::duration<double, std::milli>(end - cancelled).count());
  }
  std::sort(freed_ms.begin(), freed_ms.end());
  std::printf("{\"whole_ms\": %.1f, \"freed_ms\": {\"p50\": %.2f, \"max\": %.2f}}\n",
              std::chrono::duration<double, std::milli>(whole).count(), freed_ms[freed_ms.size() / 2],
              freed_ms.back());
  return absl::OkStatus();
}

struct EchoFlags {
  std::string server;
  std::string model = "demo";
  int concurrency = 64;
  int channels = 4;
  int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  int rounds = 9;
  int seconds = 3;
};

// Replies a second of a server to requests of one token, and those of one that sends the same requests back,
// to the same client. They take turns; medians.
absl::Status CompareWithEcho(const EchoFlags& flags) {
  const EchoProcess echo({.threads = flags.threads});
  if (echo.port() == 0) return absl::UnavailableError("the echo server did not start");
  HEADLIGHT_ASSIGN_OR_RETURN(const client::Client client, client::Client::Create(flags.server));
  HEADLIGHT_ASSIGN_OR_RETURN(const auto model, client.GetModel(flags.model, "", std::chrono::seconds(10)));
  const client::RequestFlags asked{.model = flags.model, .shape = {1, 1}};
  HEADLIGHT_ASSIGN_OR_RETURN(
      const client::RequestPool pool,
      client::MakeRequestPool(asked, {}, model, client::ClientOptions().max_message_bytes));
  const grpc::ByteBuffer& request = pool.requests.front().bytes;
  std::vector<double> served, echoed, shares;
  const auto measure = [&](const std::string& target) {
    return MeasureEcho({.target = target,
                        .request = request,
                        .concurrency = flags.concurrency,
                        .channels = flags.channels,
                        .threads = flags.threads,
                        .seconds = flags.seconds})
        .per_s;
  };
  for (int round = 0; round < flags.rounds; ++round) {
    served.push_back(measure(flags.server));
    echoed.push_back(measure("127.0.0.1:" + std::to_string(echo.port())));
    shares.push_back(served.back() / echoed.back());
  }
  std::printf("{\"per_s\": %.0f, \"echo_per_s\": %.0f, \"of_echo\": %.3f}\n", Median(served), Median(echoed),
              Median(shares));
  return absl::OkStatus();
}

struct RefusalFlags {
  std::string server;
  int pid = 0;
  int64_t calls = 20'000;
  int concurrency = 16;
  int64_t bytes = 1000;
};

// User and system time of a process, in seconds; below 0: there is none.
double CpuSecondsOf(int pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string text((std::istreambuf_iterator<char>(stat)), std::istreambuf_iterator<char>());
  std::istringstream fields(text.substr(text.rfind(')') + 1));  // a program's name may hold anything
  std::string skipped;
  for (int i = 3; i < 14; ++i) fields >> skipped;
  double user_ticks = -1;
  double system_ticks = 0;
  fields >> user_ticks >> system_ticks;
  return (user_ticks + system_ticks) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

// Microseconds of the server's CPU for a call with a wrong token and a payload that nobody wants.
absl::Status MeasureRefusal(const RefusalFlags& flags) {
  const auto stub = v1::AttentionService::NewStub(OpenChannels(flags.server, 1).front());
  v1::AttendRequest request;
  request.add_payloads(std::string(static_cast<size_t>(flags.bytes), 'x'));
  const auto call = [&] {
    grpc::ClientContext context;
    context.AddMetadata("authorization", "Bearer not a token of this server");
    v1::AttendResponse response;
    return stub->Attend(&context, request, &response).error_code();
  };
  if (call() != grpc::StatusCode::UNAUTHENTICATED)
    return absl::FailedPreconditionError("it asks for no token");
  const double begin_s = CpuSecondsOf(flags.pid);
  if (begin_s < 0) return absl::NotFoundError("--pid: there is no such process");
  std::atomic<int64_t> left{flags.calls};
  std::vector<std::thread> callers;
  for (int i = 0; i < flags.concurrency; ++i) {
    callers.emplace_back([&] {
      while (--left >= 0) call();
    });
  }
  for (std::thread& caller : callers) caller.join();
  std::printf("{\"refusal_cpu_us\": %.1f}\n",
              (CpuSecondsOf(flags.pid) - begin_s) * 1e6 / static_cast<double>(flags.calls));
  return absl::OkStatus();
}

}  // namespace
}  // namespace headlight::bench

int main(int argc, char** argv) {
  using namespace headlight::bench;
  CLI::App app("What a server is held against: the same work in process, and gRPC alone", "serving_bench");
  app.require_subcommand(1);
  absl::Status status;

  std::string model = "demo";
  BatchFlags compute{.sequences = 8, .seq_len = 128, .count = 50};
  CLI::App& compute_app = *app.add_subcommand("compute", "CPU time of a batch in process, in f32");
  compute_app.add_option("--model", model, "Built-in model")->capture_default_str();
  compute.AddTo(compute_app, /*longest=*/32768);
  compute_app.callback([&] { status = MeasureCompute(model, compute); });

  BatchFlags cancel{.sequences = 64, .seq_len = 512, .count = 15};
  CLI::App& cancel_app = *app.add_subcommand("cancel", "How fast a cancelled batch frees the CPUs");
  cancel.AddTo(cancel_app, EncoderConfig().embedding->max_seq_len());
  cancel_app.callback([&] { status = MeasureCancel(cancel); });

  EchoFlags echo;
  CLI::App& echo_app =
      *app.add_subcommand("echo", "Replies a second to requests of one token, and to echoes");
  echo_app.add_option("--server", echo.server, "HOST:PORT")->required();
  echo_app.add_option("--model", echo.model, "Name of the model")->capture_default_str();
  echo_app.add_option("--concurrency", echo.concurrency, "In flight")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  echo_app.add_option("--channels", echo.channels, "Connections")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  echo_app.add_option("--threads", echo.threads, "Of the client and of the echo server [one for each CPU]")
      ->check(CLI::Range(1, 1024));
  echo_app.add_option("--rounds", echo.rounds, "Of both")->check(CLI::Range(1, 1000))->capture_default_str();
  echo_app.add_option("--seconds", echo.seconds, "That each is measured for in a round")
      ->check(CLI::Range(1, 3600))
      ->capture_default_str();
  echo_app.callback([&] { status = CompareWithEcho(echo); });

  RefusalFlags refusal;
  CLI::App& refusal_app =
      *app.add_subcommand("refusal", "CPU time of a server for a call with a wrong token");
  refusal_app.add_option("--server", refusal.server, "HOST:PORT")->required();
  refusal_app.add_option("--pid", refusal.pid, "Of the server")->required();
  refusal_app.add_option("--calls", refusal.calls, "That are measured")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  refusal_app.add_option("--concurrency", refusal.concurrency, "In flight, on one connection")
      ->check(CLI::Range(1, 200))
      ->capture_default_str();
  refusal_app.add_option("--bytes", refusal.bytes, "Payload of each")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 28))
      ->capture_default_str();
  refusal_app.callback([&] { status = MeasureRefusal(refusal); });

  CLI11_PARSE(app, argc, argv);
  if (!status.ok()) std::cerr << "serving_bench: " << status.ToString() << "\n";
  return status.ok() ? 0 : 1;
}
