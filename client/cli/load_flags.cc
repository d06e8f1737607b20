// SPDX-License-Identifier: Apache-2.0
#include "client/cli/load_flags.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/cli/inputs.h"

namespace headlight::client {
namespace {

using std::chrono::milliseconds;

constexpr int64_t kLoadtestTimeoutMs = 10'000;
constexpr int kMaxConcurrency = 1 << 16;
constexpr double kMinRate = 1e-3;
constexpr double kMaxRate = 1e6;
constexpr int kDefaultConcurrency = 8;
constexpr int kDefaultChannels = 4;  // or --concurrency, if that is smaller
constexpr int64_t kMaxTimeoutMs = int64_t{24} * 3600 * 1000;

absl::Status NotWanted(const std::string& wanted, const std::string& got) {
  return absl::InvalidArgumentError(absl::StrCat("got '", got, "', wanted ", wanted));
}

absl::StatusOr<milliseconds> ParsePositiveDuration(const std::string& text) {
  absl::StatusOr<milliseconds> duration = ParseDuration(text);
  if (duration.ok() && duration->count() == 0)
    return absl::InvalidArgumentError("got 0, wanted at least 1ms");
  return duration;
}

void AddFile(CLI::App& command, const char* name, const char* help, std::string& path) {
  command.add_option(name, path, help)->type_name("FILE");
}

void AddLoadFlags(CLI::App& command, LoadtestFlags& flags) {
  CLI::Option* const concurrency =
      AddParsed(command, {"--concurrency", "N,N,...", "Closed loop: so many in flight, one run for each"},
                ParseConcurrencies, &flags.concurrencies)
          ->default_str(std::to_string(kDefaultConcurrency));
  CLI::Option* const rate = AddParsed(
      command,
      {"--rate", "R,R,...", "Open loop: so many a second, whatever is outstanding; one run for each"},
      ParseRates, &flags.rates);
  rate->excludes(concurrency);
  AddParsed(command,
            {"--rate-step", "TIME=R,...",
             "Open loop: so many a second from TIME after the warm-up on, as in 5s=300,8s=150"},
            ParseRateSteps, &flags.rate_steps)
      ->needs(rate);
  AddParsed(command,
            {"--search", "GOAL", "Find the highest rate that meets a goal, as in p99_ms=50; from --rate on"},
            ParseSearchGoal, &flags.search)
      ->excludes(concurrency);
  AddParsed(command,
            {"--arrivals", "poisson|constant", "Of the open loop: as from many users, or evenly spaced"},
            ParseArrivals, &flags.arrivals)
      ->default_str("poisson");
  command
      .add_option("--max-in-flight", flags.max_in_flight,
                  "Open loop: beyond it requests are sent late, and not at all once their timeout is over")
      ->check(CLI::Range(1, 1 << 20))
      ->type_name("N")
      ->capture_default_str();
  command
      .add_option("--channels", flags.channels,
                  "TCP connections that share them; the smaller of --concurrency and 4 if not given")
      ->check(CLI::Range(1, kMaxChannels))
      ->type_name("N");
  command.add_option("--cancel-ratio", flags.cancel_ratio, "Share of requests that their caller cancels")
      ->check(CLI::Range(0.0, 1.0))
      ->type_name("SHARE")
      ->capture_default_str();
  AddParsed(command, {"--cancel-within", "TIME", "These are cancelled at a time uniform over this"},
            ParsePositiveDuration, &flags.cancel_within)
      ->default_str("10ms");
}

void AddLengthFlags(CLI::App& command, TrafficFlags& flags) {
  command.remove_option(command.get_option("--seq-lens"));  // this one can do more
  AddParsed(command,
            {"--seq-lens", "N,N,...|KIND:...",
             "Lengths of the sequences of each request, or what to draw them from: uniform:1-128, "
             "zipf:128[:EXPONENT] or file:PATH"},
            ParseLoadLengths, &flags.lengths);
  command
      .add_option("--sequences", flags.sequences, "With drawn lengths and no --shape: sequences of a request")
      ->check(CLI::Range(1, 4096))
      ->type_name("N")
      ->capture_default_str();
  command.add_option("--pool", flags.pool_size, "With drawn lengths: different requests that are prepared")
      ->check(CLI::Range(1, 1 << 16))
      ->type_name("N")
      ->capture_default_str();
}

void AddRunFlags(CLI::App& command, LoadtestFlags& flags) {
  AddParsed(command, {"--warmup", "TIME", "Runs before it measures, as in 500ms, 1s or 2m"}, ParseDuration,
            &flags.warmup)
      ->default_str("1s");
  CLI::Option* const duration = AddParsed(command, {"--duration", "TIME", "Each run measures for this long"},
                                          ParsePositiveDuration, &flags.duration)
                                    ->default_str("10s");
  command.add_option("--count", flags.count, "Each run measures so many requests instead")
      ->check(CLI::PositiveNumber)
      ->type_name("N")
      ->excludes(duration);
  AddParsed(
      command,
      {"--timeline", "TIME", "Width of the report's timeline, as in 100ms; a second or more if not given"},
      ParsePositiveDuration, &flags.timeline_width);
  AddFile(command, "--json", "Write the report as JSON too; - writes it here, instead of the text",
          flags.json_path);
  AddFile(command, "--csv", "Write one row a run", flags.csv_path);
  AddFile(command, "--html", "Write a page with plots", flags.html_path);
  command
      .add_option("--compare", flags.compare,
                  "Runs nothing: sets two --json reports side by side, with ratios")
      ->expected(2)
      ->type_name("A.json B.json");
}

}  // namespace

absl::StatusOr<LoadLengths> ParseLoadLengths(const std::string& text) {
  LoadLengths lengths{.text = text};
  if (IsLengthDistribution(text)) {
    absl::StatusOr<LengthDistribution> drawn = ParseLengthDistribution(text);
    if (!drawn.ok()) return drawn.status();
    lengths.drawn = *std::move(drawn);
    return lengths;
  }
  absl::StatusOr<std::vector<int64_t>> fixed = ParseLengths(text);
  if (!fixed.ok()) {
    return NotWanted("positive numbers, as in 5,16,9, or uniform:1-128, zipf:128 or file:PATH", text);
  }
  lengths.fixed = *std::move(fixed);
  return lengths;
}

absl::StatusOr<std::vector<int>> ParseConcurrencies(const std::string& text) {
  std::vector<int> values;
  for (const std::string& part : std::vector<std::string>(absl::StrSplit(text, ','))) {
    int value = 0;
    if (!absl::SimpleAtoi(part, &value) || value < 1 || value > kMaxConcurrency) {
      return NotWanted(absl::StrCat("numbers from 1 to ", kMaxConcurrency, ", as in 1,2,4"), text);
    }
    values.push_back(value);
  }
  return values;
}

absl::StatusOr<std::vector<double>> ParseRates(const std::string& text) {
  std::vector<double> values;
  for (const std::string& part : std::vector<std::string>(absl::StrSplit(text, ','))) {
    double value = 0;
    if (!absl::SimpleAtod(part, &value) || !(value >= kMinRate) || value > kMaxRate) {
      return NotWanted("rates per second from 0.001 to 1e6, as in 100,200", text);
    }
    values.push_back(value);
  }
  return values;
}

absl::StatusOr<std::vector<RateStep>> ParseRateSteps(const std::string& text) {
  std::vector<RateStep> steps;
  for (const std::string& part : std::vector<std::string>(absl::StrSplit(text, ','))) {
    const size_t equals = part.find('=');
    const absl::StatusOr<milliseconds> at = ParseDuration(part.substr(0, equals));
    const absl::StatusOr<std::vector<double>> rate =
        ParseRates(equals == std::string::npos ? "" : part.substr(equals + 1));
    if (!at.ok() || !rate.ok() || (!steps.empty() && *at <= steps.back().at)) {
      return NotWanted("times in order and rates per second, as in 5s=300,8s=150", text);
    }
    steps.push_back({.at = *at, .rate = rate->front()});
  }
  return steps;
}

absl::StatusOr<Arrivals> ParseArrivals(const std::string& text) {
  if (text == "poisson") return Arrivals::kPoisson;
  if (text == "constant") return Arrivals::kConstant;
  return NotWanted("poisson or constant", text);
}

absl::StatusOr<std::vector<milliseconds>> ParseTimeouts(const std::string& text) {
  const absl::StatusOr<std::vector<int64_t>> numbers = ParseLengths(text);
  std::vector<milliseconds> timeouts;
  if (numbers.ok()) {
    for (int64_t number : *numbers) {
      if (number <= kMaxTimeoutMs) timeouts.emplace_back(number);
    }
  }
  if (!numbers.ok() || timeouts.size() != numbers->size()) {
    return NotWanted("milliseconds from 1 to a day, as in 50,100,1000", text);
  }
  return timeouts;
}

absl::StatusOr<SearchGoal> ParseSearchGoal(const std::string& text) {
  for (const NamedPercentile& percentile : kLoadPercentiles) {
    const std::string prefix = absl::StrCat(percentile.name, "_ms=");
    double limit_ms = 0;
    if (text.rfind(prefix, 0) != 0) continue;
    if (!absl::SimpleAtod(text.substr(prefix.size()), &limit_ms) || !(limit_ms > 0) || limit_ms > 1e9) break;
    return SearchGoal{.percentile = percentile, .limit_ms = limit_ms};
  }
  return NotWanted("a percentile and its limit, as in p99_ms=50; p50, p90, p95, p99, p99_9 or p99_99", text);
}

int LoadtestFlags::num_channels() const {
  if (channels > 0) return channels;
  if (is_open_loop()) return kDefaultChannels;
  const int most = concurrencies.empty() ? kDefaultConcurrency
                                         : *std::max_element(concurrencies.begin(), concurrencies.end());
  return std::min(most, kDefaultChannels);
}

void AddTrafficFlags(CLI::App& command, TrafficFlags& flags) {
  AddServerFlags(command, kLoadtestTimeoutMs, flags.server);
  AddRequestFlags(command, flags.request);
  AddLengthFlags(command, flags);
  AddParsed(command,
            {"--timeouts", "N,N,...", "Timeouts in milliseconds, dealt by chance; else --timeout-ms"},
            ParseTimeouts, &flags.timeouts);
}

void AddLoadtestFlags(CLI::App& command, LoadtestFlags& flags) {
  AddTrafficFlags(command, flags);
  AddLoadFlags(command, flags);
  AddRunFlags(command, flags);
}

absl::Status CompleteTrafficFlags(TrafficFlags& flags) {
  if (flags.timeouts.empty()) flags.timeouts = {flags.server.timeout()};
  flags.request.seq_lens = flags.lengths.fixed;
  if (flags.lengths.drawn.lengths.empty()) flags.pool_size = 1;
  RequestFlags asked = flags.request;
  if (!flags.lengths.drawn.lengths.empty()) asked.seq_lens = {1};  // some; which ones is drawn later
  return CheckInputFlags(asked, {});
}

absl::StatusOr<RequestPool> MakePool(const TrafficFlags& flags, const v1::Model& model) {
  return MakeRequestPool(
      flags.request,
      {.lengths = flags.lengths.drawn, .sequences = flags.sequences, .pool_size = flags.pool_size}, model,
      flags.server.max_message_bytes);
}

absl::Status CompleteLoadtestFlags(LoadtestFlags& flags) {
  if (flags.search.limit_ms > 0 && flags.rates.size() > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("--rate: got ", flags.rates.size(), " rates, wanted one to begin the search with"));
  }
  if (!flags.rate_steps.empty() && flags.search.limit_ms > 0) {
    return absl::InvalidArgumentError("--rate-step and --search both say what the rate is");
  }
  const int to_standard_output =
      (flags.json_path == "-") + (flags.csv_path == "-") + (flags.html_path == "-");
  if (to_standard_output > 1) {
    return absl::InvalidArgumentError("--json, --csv and --html: got - more than once, wanted one at most");
  }
  if (flags.concurrencies.empty() && !flags.is_open_loop()) flags.concurrencies = {kDefaultConcurrency};
  return CompleteTrafficFlags(flags);
}

}  // namespace headlight::client
