// SPDX-License-Identifier: Apache-2.0
//
// `headlight loadtest`: how many requests a second the server answers, and how long each takes.
#include <algorithm>
#include <chrono>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"
#include "client/cli/flags.h"
#include "client/cli/inputs.h"
#include "client/cli/interrupt.h"
#include "client/cli/load_report.h"
#include "client/load/closed_loop.h"

namespace headlight::client {
namespace {

using std::chrono::milliseconds;

constexpr int64_t kLoadtestTimeoutMs = 10'000;
constexpr int kMaxConcurrency = 1 << 16;
constexpr int kMaxChannels = 1024;
constexpr int kDefaultChannels = 4;  // or --concurrency, if that is smaller

struct LoadtestFlags {
  ServerFlags server;
  RequestFlags request;
  int concurrency = 8;
  int channels = 0;  // 0: not given
  milliseconds warmup{1000};
  milliseconds duration{10'000};
  std::string json_path;  // "-" is the standard output

  int num_channels() const { return channels > 0 ? channels : std::min(concurrency, kDefaultChannels); }
};

// One connection of its own for each channel; they connect on the first request, which warm-up leaves out.
absl::StatusOr<std::vector<std::shared_ptr<grpc::Channel>>> OpenChannels(const LoadtestFlags& flags) {
  std::vector<std::shared_ptr<grpc::Channel>> channels;
  for (int i = 0; i < flags.num_channels(); ++i) {
    const absl::StatusOr<Client> client = flags.server.Connect(Connection::kOwn);
    if (!client.ok()) return client.status();
    channels.push_back(client->channel());
  }
  return channels;
}

// The request in wire form and the parts of the description that follow from it and its model.
absl::StatusOr<grpc::ByteBuffer> MakeRequest(const LoadtestFlags& flags, const v1::Model& model,
                                             LoadDescription& description) {
  Inputs inputs;
  const absl::Status status = AddRandomInputs(flags.request, model, flags.server.max_message_bytes, inputs);
  if (!status.ok()) return status;
  absl::StatusOr<grpc::ByteBuffer> request = EncodeRequest(inputs.Call(flags.request));
  if (!request.ok()) return request.status();
  description.model = model.name();
  description.model_version = model.version();
  Shape shape = inputs.query ? inputs.query->shape : inputs.token_ids->shape;
  description.input = inputs.query ? "query" : "token_ids";
  description.input_shape = shape;
  if (!inputs.query) shape.push_back(1);
  description.tokens_per_request = NumTokens(shape, flags.request.seq_lens);
  description.request_bytes = static_cast<int64_t>(request->Length());
  return request;
}

absl::Status WriteReport(const LoadtestFlags& flags, const LoadDescription& description,
                         const LoadResult& result, std::ostream& out) {
  const auto json = [&] { return LoadReportJson(description, result).dump(2); };
  if (flags.json_path == "-") {
    out << json() << std::endl;
    return absl::OkStatus();
  }
  out << LoadReportText(description, result) << std::flush;
  if (flags.json_path.empty()) return absl::OkStatus();
  std::ofstream file(flags.json_path);
  file << json() << std::endl;
  if (!file) return absl::UnavailableError(absl::StrCat(flags.json_path, ": cannot be written"));
  return absl::OkStatus();
}

int RunLoadtest(const LoadtestFlags& flags, const Streams& streams) {
  if (const absl::Status status = CheckInputFlags(flags.request, {}); !status.ok()) {
    return Fail(streams, kExitUsage, status);
  }
  const absl::StatusOr<Client> client = flags.server.Connect();
  if (!client.ok()) return Fail(streams, kExitUsage, client.status());
  const auto model =
      client->GetModel(flags.request.model, flags.request.model_version, flags.server.timeout());
  if (!model.ok()) return Fail(streams, kExitFailed, model.status());

  LoadDescription description{
      .server = flags.server.server,
      .concurrency = flags.concurrency,
      .connections = flags.num_channels(),
      .warmup = flags.warmup,
      .duration = flags.duration,
      .timeout = flags.server.timeout(),
  };
  const absl::StatusOr<grpc::ByteBuffer> request = MakeRequest(flags, *model, description);
  if (!request.ok()) return Fail(streams, kExitUsage, request.status());
  auto channels = OpenChannels(flags);
  if (!channels.ok()) return Fail(streams, kExitUsage, channels.status());

  const ClosedLoopPlan plan{
      .channels = *std::move(channels),
      .request = *request,
      .concurrency = flags.concurrency,
      .warmup = flags.warmup,
      .duration = flags.duration,
      .timeout = flags.server.timeout(),
  };
  LoadResult result;
  {
    const InterruptGuard guard;
    result = RunClosedLoop(plan, guard.interrupted());
    description.interrupted = guard.interrupted();
  }
  const absl::Status written = WriteReport(flags, description, result, streams.out);
  if (!written.ok()) return Fail(streams, kExitFailed, written);
  return result.replies() > 0 ? kExitOk : kExitFailed;
}

constexpr char kLoadtestFooter[] =
    "A closed loop: --concurrency requests are in flight at any time. Errors are counted by code and never "
    "end the\n"
    "run; Ctrl-C ends it with what was gathered. Ends with 1 if no request succeeded.\n"
    "--json keys: server, model, model_version, loop, concurrency, connections, warmup_s, duration_s, "
    "timeout_ms,\n"
    "request.{query_shape or token_ids_shape, tokens, bytes}, measured_s, interrupted, replies, "
    "requests_per_s, tokens_per_s, "
    "sent_bytes,\n"
    "received_bytes, refused, refusals.CODE.{count, example}, unfinished, latency_ms.{mean, p50, p95, p99, "
    "max},\n"
    "server_mean.{queue_us, compute_us, total_us, batch_requests}, server_share.{queue, compute, other}.\n"
    "Example: headlight loadtest --shape 4x128 --concurrency 16 --duration 10s --json report.json";

absl::StatusOr<milliseconds> ParsePositiveDuration(const std::string& text) {
  absl::StatusOr<milliseconds> duration = ParseDuration(text);
  if (duration.ok() && duration->count() == 0)
    return absl::InvalidArgumentError("got 0, wanted at least 1ms");
  return duration;
}

}  // namespace

void AddLoadtestCommand(CLI::App& app, Command& chosen) {
  auto flags = std::make_shared<LoadtestFlags>();  // shared with the parser, which fills it, and the command
  CLI::App* command =
      app.add_subcommand("loadtest", "Keep the server busy for a while and report how it did");
  AddServerFlags(*command, kLoadtestTimeoutMs, flags->server);
  AddRequestFlags(*command, flags->request);
  command->add_option("--concurrency", flags->concurrency, "Requests in flight")
      ->check(CLI::Range(1, kMaxConcurrency))
      ->type_name("N")
      ->capture_default_str();
  command
      ->add_option("--channels", flags->channels,
                   "TCP connections that share them; the smaller of --concurrency and 4 if not given")
      ->check(CLI::Range(1, kMaxChannels))
      ->type_name("N");
  AddParsed(*command, {"--warmup", "TIME", "Runs before it measures, as in 500ms, 1s or 2m"}, ParseDuration,
            &flags->warmup)
      ->default_str("1s");
  AddParsed(*command, {"--duration", "TIME", "Measures for this long"}, ParsePositiveDuration,
            &flags->duration)
      ->default_str("10s");
  command
      ->add_option("--json", flags->json_path,
                   "Write the report as JSON too; - writes it here, instead of the text")
      ->type_name("FILE");
  command->footer(kLoadtestFooter);
  command->callback([flags, &chosen] {
    chosen = [flags](const Streams& streams) { return RunLoadtest(*flags, streams); };
  });
}

}  // namespace headlight::client
