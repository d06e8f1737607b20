// SPDX-License-Identifier: Apache-2.0
//
// What a server is held against in scripts/bench-serving.sh: the same computation in process, and a gRPC
// server that computes nothing. Each command measures once, and prints one line of JSON; the script takes
// turns.
#include <grpcpp/client_context.h>
#include <grpcpp/completion_queue.h>
#include <grpcpp/generic/generic_stub.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <memory>
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
#include "core/model/model_weights.h"
#include "core/runtime/cancellation.h"
#include "core/runtime/compute_arena.h"
#include "core/runtime/cpu_topology.h"
#include "server/models/built_in_models.h"
#include "tests/bench/echo_client.h"
#include "tests/bench/echo_server.h"
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
  HEADLIGHT_ASSIGN_OR_RETURN(const Model model, Model::Create(config, RandomModelWeights(config, 1)));
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

struct SizesFlags {
  std::string server;
  std::string model = "demo";
};

// Bytes of a request of one token, as the load tester sends it, and of the server's reply.
absl::Status MeasureSizes(const SizesFlags& flags) {
  HEADLIGHT_ASSIGN_OR_RETURN(const client::Client client, client::Client::Create(flags.server));
  HEADLIGHT_ASSIGN_OR_RETURN(const auto model, client.GetModel(flags.model, "", std::chrono::seconds(10)));
  const client::RequestFlags asked{.model = flags.model, .shape = {1, 1}};
  HEADLIGHT_ASSIGN_OR_RETURN(
      const client::RequestPool pool,
      client::MakeRequestPool(asked, {}, model, client::ClientOptions().max_message_bytes));
  const grpc::ByteBuffer& request = pool.requests.front().bytes;
  grpc::GenericStub stub(client.channels().front());
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  const auto reader = stub.PrepareUnaryCall(&context, client::kAttendMethod, request, &queue);
  grpc::ByteBuffer reply;
  grpc::Status status;
  reader->StartCall();
  reader->Finish(&reply, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  if (!status.ok()) return absl::UnavailableError(status.error_message());
  std::printf("{\"request_bytes\": %zu, \"reply_bytes\": %zu}\n", request.Length(), reply.Length());
  return absl::OkStatus();
}

struct EchoFlags {
  int64_t request_bytes = 0;
  int64_t reply_bytes = 0;
  int concurrency = 64;
  int channels = 4;
  int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  int seconds = 3;
};

// Replies a second of an echo server to an echo client, both on all CPUs.
absl::Status MeasureCeiling(const EchoFlags& flags) {
  const EchoProcess server({.threads = flags.threads, .reply_bytes = flags.reply_bytes});
  if (server.port() == 0) return absl::UnavailableError("the echo server did not start");
  const grpc::Slice bytes(std::string(static_cast<size_t>(flags.request_bytes), '\0'));
  const Speed speed = MeasureEcho({.target = "127.0.0.1:" + std::to_string(server.port()),
                                   .request = grpc::ByteBuffer(&bytes, 1),
                                   .concurrency = flags.concurrency,
                                   .channels = flags.channels,
                                   .threads = flags.threads,
                                   .seconds = flags.seconds});
  std::printf("{\"per_s\": %.3f}\n", speed.per_s);
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

  SizesFlags sizes;
  CLI::App& sizes_app = *app.add_subcommand("sizes", "Bytes of a request of one token and of its reply");
  sizes_app.add_option("--server", sizes.server, "HOST:PORT")->required();
  sizes_app.add_option("--model", sizes.model, "Name of the model")->capture_default_str();
  sizes_app.callback([&] { status = MeasureSizes(sizes); });

  EchoFlags echo;
  CLI::App& echo_app = *app.add_subcommand("echo", "Replies a second of a gRPC server that computes nothing");
  echo_app.add_option("--request-bytes", echo.request_bytes, "Of each request")
      ->check(CLI::NonNegativeNumber)
      ->required();
  echo_app.add_option("--reply-bytes", echo.reply_bytes, "Of each reply")
      ->check(CLI::NonNegativeNumber)
      ->required();
  echo_app.add_option("--concurrency", echo.concurrency, "In flight")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  echo_app.add_option("--channels", echo.channels, "Connections")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  echo_app.add_option("--threads", echo.threads, "Of the client and of the server [one for each CPU]")
      ->check(CLI::Range(1, 1024));
  echo_app.add_option("--seconds", echo.seconds, "That it is measured for")
      ->check(CLI::Range(1, 3600))
      ->capture_default_str();
  echo_app.callback([&] { status = MeasureCeiling(echo); });

  CLI11_PARSE(app, argc, argv);
  if (!status.ok()) std::cerr << "serving_bench: " << status.ToString() << "\n";
  return status.ok() ? 0 : 1;
}
