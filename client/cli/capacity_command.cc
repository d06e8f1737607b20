// SPDX-License-Identifier: Apache-2.0
//
// `headlight capacity`: how many servers like this one a load takes. Measures the server, then simulates
// fleets of its kind (capacity/).
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "capacity/plan.h"
#include "client/cli/commands.h"
#include "client/cli/flags.h"
#include "client/cli/interrupt.h"
#include "client/cli/load_flags.h"
#include "client/cli/measure_server.h"
#include "client/cli/progress.h"
#include "client/report/text.h"

namespace headlight::client {
namespace {

using capacity::Balancing;
using std::chrono::milliseconds;

// Beside those of commands.h: the goal is out of reach.
constexpr int kExitNoPlan = 3;

constexpr int kMaxReplicas = 10'000;

struct CapacityFlags {
  TrafficFlags traffic;
  std::vector<double> rates;
  SearchGoal goal;  // a limit of 0: not given
  Balancing balancing = Balancing::kRandom;
  int max_replicas = 200;
  milliseconds measure{10'000};
  int64_t requests = 50'000;  // simulated, of each fleet
  capacity::SchedulerOptions scheduler;
  bool json = false;
};

absl::StatusOr<Balancing> ParseBalancing(const std::string& text) {
  if (text == "random") return Balancing::kRandom;
  if (text == "round_robin") return Balancing::kRoundRobin;
  if (text == "least_loaded") return Balancing::kLeastLoaded;
  return absl::InvalidArgumentError(
      absl::StrCat("got '", text, "', wanted random, round_robin or least_loaded"));
}

std::string BalancingName(Balancing balancing) {
  switch (balancing) {
    case Balancing::kRandom:
      return "random";
    case Balancing::kRoundRobin:
      return "round_robin";
    case Balancing::kLeastLoaded:
      return "least_loaded";
  }
  return "-";
}

absl::StatusOr<milliseconds> ParseMeasure(const std::string& text) {
  absl::StatusOr<milliseconds> duration = ParseDuration(text);
  if (duration.ok() && *duration < milliseconds(100))
    return absl::InvalidArgumentError(absl::StrCat("got '", text, "', wanted at least 100ms"));
  return duration;
}

// The goal that was given, or that all but one of a hundred callers get their answer before they give up.
SearchGoal GoalOf(const CapacityFlags& flags) {
  if (flags.goal.limit_ms > 0) return flags.goal;
  const auto least = *std::min_element(flags.traffic.timeouts.begin(), flags.traffic.timeouts.end());
  return {.limit_ms = static_cast<double>(least.count())};
}

// What was planned for one rate.
struct RatePlan {
  double rate = 0;
  absl::StatusOr<capacity::Plan> plan;
};

struct Answer {
  const CapacityFlags& flags;
  const v1::Model& model;
  const RequestPool& pool;
  const MeasuredServer& measured;
  SearchGoal goal;
  std::vector<RatePlan> plans;
};

double MeanWorkUs(const std::vector<capacity::Request>& requests) {
  double sum_us = 0;
  for (const capacity::Request& request : requests) sum_us += request.work_us;
  return sum_us / static_cast<double>(requests.size());
}

// Of sorted values.
double QuantileOf(const std::vector<double>& sorted, double share) {
  return sorted[static_cast<size_t>(share * static_cast<double>(sorted.size() - 1))];
}

std::string Ms(double us) { return std::isinf(us) ? "-" : absl::StrFormat("%.3g", us / 1e3); }

std::string Percent(double share) { return absl::StrFormat("%.3g %%", 100 * share); }

double ShareOf(int64_t part, int64_t all) { return static_cast<double>(part) / static_cast<double>(all); }

std::string GoalText(const SearchGoal& goal) {
  return absl::StrFormat("%g %% of requests within %g ms", goal.percentile.percent, goal.limit_ms);
}

std::string MeasuredText(const Answer& answer) {
  const capacity::ServerProfile& profile = answer.measured.profile;
  return absl::StrCat(
      "model ", Printable(answer.model.name()), ", version ", Printable(answer.model.version()), "\n\n",
      FormatTable({
          {"a batch",
           absl::StrFormat("%.3g ms and %.3g ms for each request, %.3g ms of that beside computing",
                           profile.fixed_us / 1e3,
                           (MeanWorkUs(answer.measured.requests) + profile.overhead_us) / 1e3,
                           profile.overhead_us / 1e3)},
          {"scatter", absl::StrFormat("%.3g to %.3g times that, 5 %% of batches below and above",
                                      QuantileOf(profile.scatter, 0.05), QuantileOf(profile.scatter, 0.95))},
          {"alone", absl::StrFormat("%.3g ms from the call to its reply", answer.measured.alone_us / 1e3)},
          {"never idle", absl::StrFormat("%.4g requests/s, %d in flight", answer.measured.busy_rate,
                                         answer.measured.busy_concurrency)},
      }));
}

std::string PlanText(const Answer& answer, const RatePlan& planned) {
  std::string text = absl::StrFormat("\n%g requests/s, %s, dealt %s\n", planned.rate, GoalText(answer.goal),
                                     BalancingName(answer.flags.balancing));
  if (!planned.plan.ok()) return absl::StrCat(text, std::string(planned.plan.status().message()), "\n");
  std::vector<std::vector<std::string>> rows = {
      {"replicas", "utilization", "p50_ms", "p99_ms", "p99_9_ms", "answered/s", "refused", "late", "goal"}};
  for (const capacity::FleetSize& size : planned.plan->sizes) {
    const capacity::FleetLoad& load = size.load;
    rows.push_back({absl::StrCat(size.replicas), Percent(load.utilization), Ms(load.PercentileUs(50)),
                    Ms(load.PercentileUs(99)), Ms(load.PercentileUs(99.9)),
                    absl::StrFormat("%.4g", load.answered_per_s()),
                    Percent(ShareOf(load.refused, load.offered)), Percent(ShareOf(load.late, load.offered)),
                    size.meets_goal ? "met" : "missed"});
  }
  absl::StrAppend(&text, FormatTable(rows));
  if (!planned.plan->replicas) {
    return absl::StrCat(text, "not met by --max-replicas ", answer.flags.max_replicas, "\n");
  }
  const int replicas = *planned.plan->replicas;
  return absl::StrCat(text, replicas, replicas == 1 ? " replica" : " replicas", ", and ", replicas + 1,
                      " so that one may be lost or restarted\n");
}

nlohmann::ordered_json MsJson(double us) {
  return std::isinf(us) ? nlohmann::ordered_json() : nlohmann::ordered_json(us / 1e3);
}

nlohmann::ordered_json PlanJson(const RatePlan& planned) {
  nlohmann::ordered_json json = {{"rate", planned.rate}, {"replicas", nullptr}, {"why_not", nullptr}};
  json["sizes"] = nlohmann::ordered_json::array();
  if (!planned.plan.ok()) {
    json["why_not"] = std::string(planned.plan.status().message());
    return json;
  }
  if (planned.plan->replicas) json["replicas"] = *planned.plan->replicas;
  for (const capacity::FleetSize& size : planned.plan->sizes) {
    const capacity::FleetLoad& load = size.load;
    json["sizes"].push_back({{"replicas", size.replicas},
                             {"utilization", load.utilization},
                             {"p50_ms", MsJson(load.PercentileUs(50))},
                             {"p99_ms", MsJson(load.PercentileUs(99))},
                             {"p99_9_ms", MsJson(load.PercentileUs(99.9))},
                             {"answered_per_s", load.answered_per_s()},
                             {"offered", load.offered},
                             {"answered", load.answered},
                             {"refused", load.refused},
                             {"late", load.late},
                             {"meets_goal", size.meets_goal}});
  }
  return json;
}

nlohmann::ordered_json AnswerJson(const Answer& answer) {
  const capacity::ServerProfile& profile = answer.measured.profile;
  nlohmann::ordered_json json = {
      {"schema", "headlight-capacity/1"},
      {"server", answer.flags.traffic.server.server},
      {"model", answer.model.name()},
      {"model_version", answer.model.version()},
      {"mean_tokens", answer.pool.mean_tokens},
      {"goal", {{"percent", answer.goal.percentile.percent}, {"limit_ms", answer.goal.limit_ms}}},
      {"balancing", BalancingName(answer.flags.balancing)},
      {"measured",
       {{"batch_ms", profile.fixed_us / 1e3},
        {"request_ms", MeanWorkUs(answer.measured.requests) / 1e3},
        {"overhead_ms", profile.overhead_us / 1e3},
        {"scatter_p5", QuantileOf(profile.scatter, 0.05)},
        {"scatter_p95", QuantileOf(profile.scatter, 0.95)},
        {"alone_ms", answer.measured.alone_us / 1e3},
        {"busy_per_s", answer.measured.busy_rate},
        {"busy_in_flight", answer.measured.busy_concurrency}}},
      {"notes", answer.measured.notes},
  };
  json["plans"] = nlohmann::ordered_json::array();
  for (const RatePlan& planned : answer.plans) json["plans"].push_back(PlanJson(planned));
  return json;
}

void Print(const Answer& answer, const Streams& streams) {
  if (answer.flags.json) {
    streams.out << FormatJson(AnswerJson(answer)) << std::flush;
    return;
  }
  PrintNotes(streams, answer.measured.notes);
  streams.out << MeasuredText(answer);
  for (const RatePlan& planned : answer.plans) streams.out << PlanText(answer, planned);
  streams.out << std::flush;
}

absl::StatusOr<MeasuredServer> Measure(const CapacityFlags& flags, const Client& client,
                                       const v1::Model& model, const RequestPool& pool,
                                       const Streams& streams) {
  const InterruptGuard guard;  // afterwards there is nothing that must end well
  ProgressLine progress(streams);
  auto measured = MeasureServer(
      client, model, pool,
      {.duration = flags.measure, .seed = flags.traffic.request.seed, .scheduler = flags.scheduler},
      guard.interrupted(), [&](const LoadProgress& now) { progress.Show("measuring", now); });
  progress.Erase();
  return measured;
}

int RunCapacity(CapacityFlags flags, const Streams& streams) {
  if (absl::Status status = CompleteTrafficFlags(flags.traffic); !status.ok()) {
    return Fail(streams, kExitUsage, status);
  }
  const absl::StatusOr<Client> client = flags.traffic.server.Connect();
  if (!client.ok()) return Fail(streams, kExitUsage, client.status());
  const RequestFlags& request = flags.traffic.request;
  const auto model = client->GetModel(request.model, request.model_version, flags.traffic.server.timeout());
  if (!model.ok()) return Fail(streams, kExitFailed, model.status());
  const absl::StatusOr<RequestPool> pool = MakePool(flags.traffic, *model);
  if (!pool.ok()) return Fail(streams, kExitUsage, pool.status());

  const absl::StatusOr<MeasuredServer> measured = Measure(flags, *client, *model, *pool, streams);
  if (!measured.ok()) return Fail(streams, kExitFailed, measured.status());

  Answer answer{.flags = flags, .model = *model, .pool = *pool, .measured = *measured, .goal = GoalOf(flags)};
  capacity::Traffic traffic{.requests = measured->requests, .count = flags.requests, .seed = request.seed};
  for (const milliseconds timeout : flags.traffic.timeouts) traffic.timeouts_ms.push_back(timeout.count());
  bool all_planned = true;
  for (const double rate : flags.rates) {
    traffic.rate = rate;
    answer.plans.push_back(
        {rate, capacity::PlanFleet(measured->profile, traffic,
                                   {answer.goal.percentile.percent, 1e3 * answer.goal.limit_ms},
                                   flags.balancing, flags.max_replicas)});
    const absl::StatusOr<capacity::Plan>& plan = answer.plans.back().plan;
    all_planned &= plan.ok() && plan->replicas.has_value();
  }
  Print(answer, streams);
  return all_planned ? kExitOk : kExitNoPlan;
}

void AddPlanFlags(CLI::App& command, CapacityFlags& flags) {
  AddParsed(command, {"--rate", "R,R,...", "Requests a second of all callers together; one plan for each"},
            ParseRates, &flags.rates)
      ->required();
  AddParsed(command,
            {"--goal", "GOAL",
             "What the fleet must keep, as in p99_ms=50, of all requests; p99 within the shortest timeout if "
             "not given"},
            ParseSearchGoal, &flags.goal);
  AddParsed(command,
            {"--balancing", "random|round_robin|least_loaded",
             "Who gets a request: any, as of many callers; the next one; the one with the fewest under way"},
            ParseBalancing, &flags.balancing)
      ->default_str("random");
  command.add_option("--max-replicas", flags.max_replicas, "Larger fleets are not tried")
      ->check(CLI::Range(1, kMaxReplicas))
      ->type_name("N")
      ->capture_default_str();
  AddParsed(command, {"--measure", "TIME", "How long the server is measured, as in 10s"}, ParseMeasure,
            &flags.measure)
      ->default_str("10s");
  command.add_option("--requests", flags.requests, "Requests that are simulated for each fleet")
      ->check(CLI::Range(1'000, 1'000'000))
      ->type_name("N")
      ->capture_default_str();
  command.add_flag("--json", flags.json, "Print one JSON object");
}

// Under the names of headlight-server's options, and within their limits.
void AddSchedulerFlags(CLI::App& command, capacity::SchedulerOptions& options) {
  const auto add = [&command](const std::string& name, int64_t& value, const char* unit, int64_t least,
                              int64_t most) {
    command.add_option(name, value, "That of headlight-server, where it is not the default")
        ->check(CLI::Range(least, most))
        ->type_name(unit)
        ->capture_default_str();
  };
  add("--batch-budget-us", options.batch_budget_us, "MICROSECONDS", 100, 10'000'000);
  add("--max-batch-tokens", options.max_batch_tokens, "TOKENS", 1, 1'000'000'000);
  add("--queue-max-requests", options.queue_max_requests, "REQUESTS", 1, 1'000'000'000);
  add("--max-age-ms", options.max_age_ms, "MILLISECONDS", 1, 86'400'000);
}

constexpr char kCapacityFooter[] =
    "Measures the server, which should have nothing else to do, with one request at a time and with many; "
    "then "
    "simulates\n"
    "fleets of such servers, with the server's own rules of admission, order and batches, until two sizes in "
    "a "
    "row meet\n"
    "the goal. A refused or late request is one that never comes. Percentiles are of all requests.\n"
    "Requests are described as for loadtest.\n"
    "Ends with 0 if there is an answer for every rate; 1 if the server could not be measured; 3 if a goal is "
    "out of reach.\n"
    "--json: schema headlight-capacity/1, in docs/command-line.md.\n"
    "Examples: headlight capacity --shape 1x128 --rate 500 --timeouts 200\n"
    "          headlight capacity --seq-lens uniform:1-128 --rate 500,1000,2000 --goal p99_ms=50 --json";

}  // namespace

void AddCapacityCommand(CLI::App& app, Command& chosen) {
  auto flags = std::make_shared<CapacityFlags>();  // shared with the parser, which fills it, and the command
  CLI::App* command = app.add_subcommand("capacity", "Tell how many servers like this one a load takes");
  AddTrafficFlags(*command, flags->traffic);
  AddPlanFlags(*command, *flags);
  AddSchedulerFlags(*command, flags->scheduler);
  command->footer(kCapacityFooter);
  command->callback([flags, &chosen] {
    chosen = [flags](const Streams& streams) { return RunCapacity(*flags, streams); };
  });
}

}  // namespace headlight::client
