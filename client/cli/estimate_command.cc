// SPDX-License-Identifier: Apache-2.0
//
// `headlight estimate`: what a request would cost, without computing it.
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/commands.h"
#include "client/cli/flags.h"
#include "client/cli/inputs.h"
#include "client/report/text.h"

namespace headlight::client {
namespace {

constexpr int64_t kEstimateTimeoutMs = 30'000;  // that of attend, which it asks about

constexpr std::chrono::seconds kAnswerTime{5};

struct EstimateFlags {
  ServerFlags server;
  RequestFlags request;
  bool json = false;
};

nlohmann::ordered_json EstimateJson(const v1::EstimateCostResponse& estimate) {
  nlohmann::ordered_json json = {
      {"projection_flops", estimate.projection_flops()},
      {"attention_flops", estimate.attention_flops()},
      {"memory_bytes", estimate.memory_bytes()},
      {"reply_bytes", estimate.reply_bytes()},
      {"compute_us", estimate.compute_us()},
      {"queue_us", estimate.queue_us()},
      {"admitted", estimate.admitted()},
      {"refusal", nullptr},
  };
  if (estimate.has_refusal()) {
    const v1::AttendError& refusal = estimate.refusal();
    json["refusal"] = {{"code", absl::StatusCodeToString(static_cast<absl::StatusCode>(refusal.code()))},
                       {"message", refusal.message()},
                       {"retry_delay_ms", refusal.retry_delay_ms()},
                       {"reason", refusal.reason()}};
  }
  return json;
}

std::string AdmissionText(const v1::EstimateCostResponse& estimate) {
  if (estimate.admitted()) return "yes";
  const v1::AttendError& refusal = estimate.refusal();
  const std::string code = absl::StatusCodeToString(static_cast<absl::StatusCode>(refusal.code()));
  const std::string later =
      refusal.retry_delay_ms() > 0 ? absl::StrCat("; worth trying in ", refusal.retry_delay_ms(), " ms") : "";
  return absl::StrCat("no, ", code, ": ", refusal.message(), later);
}

std::string EstimateText(const v1::EstimateCostResponse& estimate) {
  using std::chrono::microseconds;
  const auto gflop = [](double flops) { return absl::StrFormat("%.4g GFLOP", flops / 1e9); };
  return FormatTable({
      {"projections", gflop(estimate.projection_flops())},
      {"attention", gflop(estimate.attention_flops())},
      {"memory", FormatBytes(estimate.memory_bytes()), "while it is computed"},
      {"reply", FormatBytes(estimate.reply_bytes())},
      {"compute", FormatMs(microseconds(estimate.compute_us())), "predicted"},
      {"queue", FormatMs(microseconds(estimate.queue_us())), "until it would begin, were it sent now"},
      {"admitted", AdmissionText(estimate)},
  });
}

int RunEstimate(const EstimateFlags& flags, const Streams& streams) {
  if (const absl::Status status = CheckInputFlags(flags.request, {}); !status.ok()) {
    return Fail(streams, kExitUsage, status);
  }
  const absl::StatusOr<Client> client = flags.server.Connect();
  if (!client.ok()) return Fail(streams, kExitUsage, client.status());
  const auto model = client->GetModel(flags.request.model, flags.request.model_version, kAnswerTime);
  if (!model.ok()) return Fail(streams, kExitFailed, model.status());
  AttendCall call = DescribeRandomInputs(flags.request, *model);
  call.timeout = flags.server.timeout();
  // The deadline that is asked about is not that of the question.
  const auto estimate = client->EstimateCost(call, kAnswerTime);
  if (!estimate.ok()) return Fail(streams, kExitFailed, estimate.status());
  streams.out << (flags.json ? FormatJson(EstimateJson(*estimate)) : EstimateText(*estimate)) << std::flush;
  return kExitOk;
}

constexpr char kEstimateFooter[] =
    "Takes the flags of attend that say what a request is, and --timeout-ms as the deadline that it would "
    "have."
    "\n"
    "Ends with 0 whether or not the request would be admitted.\n"
    "--json keys: projection_flops, attention_flops (a multiply-add is two), memory_bytes, reply_bytes,\n"
    "compute_us, queue_us, admitted, refusal, which is null or {code, message, retry_delay_ms, reason}.\n"
    "Examples: headlight estimate --shape 1x32768\n"
    "          headlight estimate --model encoder --seq-lens 5,16,9 --pooled --timeout-ms 50 --json";

}  // namespace

void AddEstimateCommand(CLI::App& app, Command& chosen) {
  auto flags = std::make_shared<EstimateFlags>();  // shared with the parser, which fills it, and the command
  CLI::App* command =
      app.add_subcommand("estimate", "Ask what a request would cost and whether it would be admitted");
  AddServerFlags(*command, kEstimateTimeoutMs, flags->server);
  AddRequestFlags(*command, flags->request);
  command->add_flag("--json", flags->json, "Print one JSON object");
  command->footer(kEstimateFooter);
  command->callback([flags, &chosen] {
    chosen = [flags](const Streams& streams) { return RunEstimate(*flags, streams); };
  });
}

}  // namespace headlight::client
