// SPDX-License-Identifier: Apache-2.0
//
// `headlight verify`: whether a server gives the bits that `headlight attend --record` kept.
#include <array>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/commands.h"
#include "client/cli/flags.h"
#include "client/record/exchange.h"
#include "client/record/recording.h"
#include "client/record/verdict.h"
#include "client/report/text.h"

namespace headlight::client {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kVerifyTimeoutMs = 30'000;

struct VerifyFlags {
  ServerFlags server;
  std::string recording;
  bool json = false;
};

// What a line tells of an exchange.
struct RepeatedExchange {
  const v1::RecordedExchange& recorded;
  int64_t number;
  Verdict verdict;
};

constexpr Outcome kOutcomes[] = {Outcome::kAgrees, Outcome::kDiffers, Outcome::kMayDiffer, Outcome::kFailed};

const char* NameOf(Outcome outcome) {
  static constexpr const char* kNames[] = {"agrees", "differs", "may_differ", "failed"};
  return kNames[static_cast<size_t>(outcome)];
}

const char* WordsOf(Outcome outcome) {
  static constexpr const char* kWords[] = {"agrees", "DIFFERS", "differs, as it may", "failed"};
  return kWords[static_cast<size_t>(outcome)];
}

Verdict VerdictOf(const VerifyFlags& flags, const Client& client, const v1::RecordedExchange& recorded) {
  const auto repeated = RepeatRequest(client, recorded.request(), flags.server.timeout());
  if (!repeated.ok()) return {Outcome::kFailed, repeated.status().ToString()};
  return CompareExchanges(recorded, *repeated);
}

std::string LineOf(const RepeatedExchange& repeated) {
  const v1::Model& model = repeated.recorded.model();
  const std::string& reason = repeated.verdict.reason;
  return absl::StrCat(
      repeated.number, ": ",
      Printable(absl::StrCat(model.name(), " version ", model.version(), ", ", model.precision(), ": ",
                             WordsOf(repeated.verdict.outcome), reason.empty() ? "" : ": ", reason)),
      "\n");
}

Json JsonOf(const RepeatedExchange& repeated) {
  const v1::Model& model = repeated.recorded.model();
  return {{"number", repeated.number},
          {"model", model.name()},
          {"model_version", model.version()},
          {"precision", model.precision()},
          {"outcome", NameOf(repeated.verdict.outcome)},
          {"reason", repeated.verdict.reason}};
}

// How often each outcome was.
class OutcomeCounts {
 public:
  void Add(Outcome outcome) { ++counts_[static_cast<size_t>(outcome)]; }
  int64_t of(Outcome outcome) const { return counts_[static_cast<size_t>(outcome)]; }
  int64_t all() const { return std::accumulate(counts_.begin(), counts_.end(), int64_t{0}); }

 private:
  std::array<int64_t, std::size(kOutcomes)> counts_ = {};
};

std::string SummaryOf(const OutcomeCounts& counts) {
  return absl::StrFormat("%d of %d agree; %d differ, %d differ as they may, %d failed\n",
                         counts.of(Outcome::kAgrees), counts.all(), counts.of(Outcome::kDiffers),
                         counts.of(Outcome::kMayDiffer), counts.of(Outcome::kFailed));
}

int RunVerify(const VerifyFlags& flags, const Streams& streams) {
  absl::StatusOr<RecordingReader> reader = RecordingReader::Open(flags.recording);
  if (!reader.ok()) return Fail(streams, kExitUsage, reader.status());
  const absl::StatusOr<Client> client = flags.server.Connect();
  if (!client.ok()) return Fail(streams, kExitUsage, client.status());
  OutcomeCounts counts;
  Json exchanges = Json::array();
  absl::Status end;
  for (int64_t number = 1;; ++number) {
    const absl::StatusOr<std::optional<v1::RecordedExchange>> recorded = reader->Next();
    if (!recorded.ok()) end = recorded.status();
    if (!recorded.ok() || !recorded->has_value()) break;
    const RepeatedExchange repeated = {**recorded, number, VerdictOf(flags, *client, **recorded)};
    counts.Add(repeated.verdict.outcome);
    if (flags.json) {
      exchanges.push_back(JsonOf(repeated));
    } else {
      streams.out << LineOf(repeated) << std::flush;
    }
  }
  if (flags.json) {
    Json json = {{"recording", flags.recording}, {"exchanges", std::move(exchanges)}};
    for (const Outcome outcome : kOutcomes) json[NameOf(outcome)] = counts.of(outcome);
    streams.out << FormatJson(json) << std::flush;
  } else {
    streams.out << SummaryOf(counts) << std::flush;
  }
  if (!end.ok()) return Fail(streams, kExitUsage, end);
  if (counts.all() == 0) {
    return Fail(streams, kExitUsage,
                absl::InvalidArgumentError(absl::StrCat(flags.recording, ": has no exchanges to repeat")));
  }
  return counts.of(Outcome::kAgrees) == counts.all() ? kExitOk : kExitFailed;
}

}  // namespace

void AddVerifyCommand(CLI::App& app, Command& chosen) {
  auto flags = std::make_shared<VerifyFlags>();  // shared with the parser, which fills it, and the command
  CLI::App* command =
      app.add_subcommand("verify", "Repeat recorded requests and compare what comes back, bit by bit");
  AddServerFlags(*command, kVerifyTimeoutMs, flags->server);
  AddAttemptFlags(*command, flags->server);
  command->add_option("recording", flags->recording, "What `headlight attend --record FILE` wrote")
      ->required()
      ->type_name("FILE");
  command->add_flag("--json", flags->json, "Print one JSON object");
  command->footer(
      "A line for each request, by the CRC-32C of each tensor of its reply:\n"
      "  agrees              the same bits\n"
      "  DIFFERS             other bits of the same model in f32, whose bits are the same on every x86\n"
      "  differs, as it may  another model, version or precision answered, or it is bf16 or int8, whose bits "
      "are the\n"
      "                      same on one kind of CPU alone; the line says which\n"
      "  failed              the server refused it\n"
      "Ends with 0 if all agree, 1 if any does not, 2 if FILE is no whole recording.\n"
      "--json keys: recording, exchanges[].{number, model, model_version, precision, outcome, reason}, "
      "agrees, "
      "differs,\n"
      "may_differ, failed; outcome is the name of one of the last four, which count them.\n"
      "Example: headlight attend --shape 2x16 --record requests.rec && headlight verify requests.rec");
  command->callback(
      [flags, &chosen] { chosen = [flags](const Streams& streams) { return RunVerify(*flags, streams); }; });
}

}  // namespace headlight::client
