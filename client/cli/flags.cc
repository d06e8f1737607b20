// SPDX-License-Identifier: Apache-2.0
#include "client/cli/flags.h"

#include <charconv>
#include <limits>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/cli/commands.h"

namespace headlight::client {
namespace {

// A whole number in decimal digits within [min, max]; nothing else, not even a sign.
std::optional<int64_t> ParseWhole(const std::string& text, int64_t min, int64_t max) {
  if (text.empty() || text[0] < '0' || text[0] > '9') return std::nullopt;
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < min || value > max)
    return std::nullopt;
  return value;
}

std::optional<std::vector<int64_t>> ParseDims(const std::string& text, char separator) {
  std::vector<int64_t> dims;
  for (const std::string& part : std::vector<std::string>(absl::StrSplit(text, separator))) {
    const std::optional<int64_t> dim = ParseWhole(part, 1, std::numeric_limits<int32_t>::max());
    if (!dim) return std::nullopt;
    dims.push_back(*dim);
  }
  return dims;
}

absl::Status Wanted(const std::string& wanted, const std::string& got) {
  return absl::InvalidArgumentError(absl::StrCat("got '", got, "', wanted ", wanted));
}

}  // namespace

absl::StatusOr<Shape> ParseShape(const std::string& text) {
  std::optional<std::vector<int64_t>> dims = ParseDims(text, 'x');
  if (!dims || dims->size() != 2) return Wanted("two positive numbers, as in 2x16", text);
  return *std::move(dims);
}

absl::StatusOr<std::vector<int64_t>> ParseLengths(const std::string& text) {
  std::optional<std::vector<int64_t>> lengths = ParseDims(text, ',');
  if (!lengths) return Wanted("positive numbers, as in 5,16,9", text);
  return *std::move(lengths);
}

absl::StatusOr<std::chrono::milliseconds> ParseDuration(const std::string& text) {
  constexpr int64_t kMaxMs = int64_t{30} * 24 * 3600 * 1000;
  const size_t digits = text.find_first_not_of("0123456789");
  const std::string unit = digits == std::string::npos ? "" : text.substr(digits);
  const int64_t unit_ms = unit == "ms" ? 1 : unit == "s" ? 1000 : unit == "m" ? 60'000 : 0;
  const std::optional<int64_t> number = ParseWhole(text.substr(0, digits), 0, kMaxMs);
  if (unit_ms == 0 || !number || *number > kMaxMs / unit_ms) {
    return Wanted("a whole number and a unit, as in 500ms, 10s or 2m, up to 30 days", text);
  }
  return std::chrono::milliseconds(*number * unit_ms);
}

absl::StatusOr<v1::WeightsMode> ParseWeightsMode(const std::string& text) {
  for (v1::WeightsMode mode : {v1::WEIGHTS_MODE_NONE, v1::WEIGHTS_MODE_FULL, v1::WEIGHTS_MODE_MEAN}) {
    if (text == WeightsModeName(mode)) return mode;
  }
  return Wanted("none, full or mean", text);
}

std::string WeightsModeName(v1::WeightsMode mode) {
  switch (mode) {
    case v1::WEIGHTS_MODE_FULL:
      return "full";
    case v1::WEIGHTS_MODE_MEAN:
      return "mean";
    default:
      return "none";
  }
}

absl::StatusOr<Client> ServerFlags::Connect(Connection connection) const {
  return Client::Create(server, {.max_message_bytes = max_message_bytes, .connection = connection});
}

void AddServerFlags(CLI::App& app, int64_t default_timeout_ms, ServerFlags& flags) {
  flags.timeout_ms = default_timeout_ms;
  app.add_option("--server", flags.server, "Where the server listens, HOST:PORT")
      ->envname("HEADLIGHT_SERVER")
      ->capture_default_str();
  app.add_option("--timeout-ms", flags.timeout_ms, "Time that each RPC may take, milliseconds")
      ->check(CLI::PositiveNumber)
      ->type_name("N")
      ->capture_default_str();
  app.add_option("--max-message-bytes", flags.max_message_bytes, "Largest request or reply")
      ->check(CLI::PositiveNumber)
      ->type_name("N")
      ->capture_default_str();
}

void AddRequestFlags(CLI::App& app, RequestFlags& flags) {
  app.add_option("--model", flags.model, "Name of the model")->capture_default_str();
  app.add_option("--model-version", flags.model_version, "Its version; the newest if not given");
  AddParsed(app, {"--shape", "BATCHxSEQ_LEN", "Dense random query"}, ParseShape, &flags.shape);
  AddParsed(app, {"--seq-lens", "N,N,...", "Sequence lengths; without --shape a ragged random query"},
            ParseLengths, &flags.seq_lens);
  AddParsed(app, {"--kv-shape", "BATCHxKV_LEN", "Cross attention: dense random keys"}, ParseShape,
            &flags.kv_shape);
  AddParsed(app, {"--kv-seq-lens", "N,N,...", "Lengths of the keys; without --kv-shape ragged random keys"},
            ParseLengths, &flags.kv_seq_lens);
  app.add_flag("--causal", flags.causal, "A query sees no later key");
  AddParsed(app, {"--weights", "none|full|mean", "Attention weights to return"}, ParseWeightsMode,
            &flags.weights)
      ->default_str("none");
  app.add_option("--seed", flags.seed, "Seed of the random values; the same values on every machine")
      ->type_name("N")
      ->capture_default_str();
}

int Fail(const Streams& streams, ExitCode exit_code, const absl::Status& status) {
  streams.err << "headlight: " << absl::StatusCodeToString(status.code()) << ": "
              << std::string(status.message()) << std::endl;
  return exit_code;
}

}  // namespace headlight::client
