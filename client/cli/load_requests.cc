// SPDX-License-Identifier: Apache-2.0
#include "client/cli/load_requests.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <numeric>
#include <optional>
#include <sstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/cli/inputs.h"
#include "client/load/arrivals.h"
#include "client/wire/wire.h"

namespace headlight::client {
namespace {

constexpr int64_t kMaxLength = 1 << 20;
constexpr int64_t kMaxPoolBytes = int64_t{256} << 20;
constexpr uint64_t kLengthSeed = 0x1e46;  // apart from the seeds of arrivals and choices

std::optional<int64_t> ParseLength(const std::string& text) {
  int64_t length = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), length);
  if (error != std::errc() || end != text.data() + text.size() || length < 1 || length > kMaxLength) {
    return std::nullopt;
  }
  return length;
}

absl::Status WantedLengths(const std::string& wanted, const std::string& got) {
  return absl::InvalidArgumentError(absl::StrCat("got '", got, "', wanted ", wanted));
}

// Shares from weights, all of which are positive.
LengthDistribution FromWeights(std::vector<int64_t> lengths, const std::vector<double>& weights) {
  LengthDistribution distribution{.lengths = std::move(lengths)};
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  double sum = 0;
  for (double weight : weights) {
    sum += weight;
    distribution.cumulative.push_back(sum / total);
  }
  distribution.cumulative.back() = 1;
  return distribution;
}

LengthDistribution Uniform(int64_t min, int64_t max) {
  std::vector<int64_t> lengths(static_cast<size_t>(max - min + 1));
  std::iota(lengths.begin(), lengths.end(), min);
  const std::vector<double> weights(lengths.size(), 1.0);
  return FromWeights(std::move(lengths), weights);
}

absl::StatusOr<LengthDistribution> ReadLengths(const std::string& path) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat(path, ": cannot be read"));
  std::ostringstream text;
  text << file.rdbuf();
  std::vector<int64_t> lengths;
  for (const std::string& word :
       std::vector<std::string>(absl::StrSplit(text.str(), absl::ByAnyChar(", \t\r\n"), absl::SkipEmpty()))) {
    const std::optional<int64_t> length = ParseLength(word);
    if (!length) return WantedLengths(absl::StrCat("lengths of 1 to ", kMaxLength, " in ", path), word);
    lengths.push_back(*length);
  }
  if (lengths.empty()) return WantedLengths("at least one length", absl::StrCat(path, ", which has none"));
  const std::vector<double> weights(lengths.size(), 1.0);
  return FromWeights(std::move(lengths), weights);
}

// One request whose lengths are drawn with `number`.
RequestFlags DrawnFlags(const RequestFlags& flags, const RequestPoolOptions& options, int number) {
  RequestFlags drawn = flags;
  drawn.seed = flags.seed + static_cast<uint64_t>(number);
  if (options.lengths.lengths.empty()) return drawn;
  const int64_t sequences = flags.shape.empty() ? options.sequences : flags.shape[0];
  drawn.seq_lens.clear();
  for (int64_t i = 0; i < sequences; ++i) {
    const auto draw = static_cast<uint64_t>(number * sequences + i);
    drawn.seq_lens.push_back(options.lengths.Draw(RandomBits(flags.seed ^ kLengthSeed, draw)));
  }
  return drawn;
}

}  // namespace

int64_t LengthDistribution::Draw(uint64_t random_bits) const {
  const auto place = std::lower_bound(cumulative.begin(), cumulative.end(), UnitInterval(random_bits));
  return lengths[static_cast<size_t>(place - cumulative.begin())];
}

int64_t LengthDistribution::max() const { return *std::max_element(lengths.begin(), lengths.end()); }

bool IsLengthDistribution(const std::string& text) { return absl::StrContains(text, ":"); }

absl::StatusOr<LengthDistribution> ParseLengthDistribution(const std::string& text) {
  constexpr char kForms[] = "uniform:1-128, zipf:128, zipf:128:1.5 or file:PATH";
  const size_t colon = text.find(':');
  const std::string kind = text.substr(0, colon);
  const std::string rest = colon == std::string::npos ? "" : text.substr(colon + 1);
  if (kind == "file") return ReadLengths(rest);
  if (kind == "uniform") {
    const std::vector<std::string> ends = absl::StrSplit(rest, '-');
    const auto min = ParseLength(ends.front()), max = ParseLength(ends.back());
    if (ends.size() != 2 || !min || !max || *min > *max) return WantedLengths(kForms, text);
    return Uniform(*min, *max);
  }
  const std::vector<std::string> parts = absl::StrSplit(rest, ':');
  const auto max = ParseLength(parts.front());
  double exponent = 1;
  const bool has_exponent =
      parts.size() == 2 && absl::SimpleAtod(parts[1], &exponent) && exponent >= 0 && exponent <= 100;
  if (kind != "zipf" || !max || !(parts.size() == 1 || has_exponent)) return WantedLengths(kForms, text);
  std::vector<int64_t> lengths(static_cast<size_t>(*max));
  std::iota(lengths.begin(), lengths.end(), 1);
  std::vector<double> weights;
  for (int64_t length : lengths) weights.push_back(std::pow(static_cast<double>(length), -exponent));
  return FromWeights(std::move(lengths), weights);
}

absl::StatusOr<RequestPool> MakeRequestPool(const RequestFlags& flags, const RequestPoolOptions& options,
                                            const v1::Model& model, int64_t max_bytes) {
  const bool drawn = !options.lengths.lengths.empty();
  if (drawn && !flags.shape.empty() && options.lengths.max() > flags.shape[1]) {
    return absl::InvalidArgumentError(absl::StrCat("--seq-lens draws up to ", options.lengths.max(),
                                                   ", wanted at most the ", flags.shape[1], " of --shape"));
  }
  RequestPool pool;
  int64_t bytes = 0, tokens = 0;
  for (int i = 0; i < options.pool_size && (i == 0 || bytes + bytes / i <= kMaxPoolBytes); ++i) {
    const RequestFlags request_flags = DrawnFlags(flags, options, i);
    if (absl::Status status = CheckInputFlags(request_flags, {}); !status.ok()) return status;
    Inputs inputs;
    if (absl::Status status = AddRandomInputs(request_flags, model, max_bytes, inputs); !status.ok()) {
      return status;
    }
    absl::StatusOr<grpc::ByteBuffer> request = EncodeRequest(inputs.Call(request_flags));
    if (!request.ok()) return request.status();
    const Shape shape = inputs.query ? inputs.query->shape : inputs.token_ids->shape;
    Shape rows = shape;
    if (!inputs.query) rows.push_back(1);
    pool.input = inputs.query ? "query" : "token_ids";
    if (!drawn || !flags.shape.empty()) pool.shape = shape;
    PreparedRequest prepared{.bytes = *std::move(request), .tokens = NumTokens(rows, request_flags.seq_lens)};
    bytes += static_cast<int64_t>(prepared.bytes.Length());
    tokens += prepared.tokens;
    pool.requests.push_back(std::move(prepared));
    pool.flags.push_back(request_flags);
  }
  const auto size = static_cast<double>(pool.requests.size());
  pool.mean_bytes = static_cast<double>(bytes) / size;
  pool.mean_tokens = static_cast<double>(tokens) / size;
  return pool;
}

}  // namespace headlight::client
