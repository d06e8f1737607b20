// SPDX-License-Identifier: Apache-2.0
#include "client/cli/flags.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/cli/commands.h"
#include "client/report/text.h"

namespace headlight::client {
namespace {

constexpr std::pair<const char*, v1::PoolingMode> kPoolings[] = {
    {"cls", v1::POOLING_MODE_CLS},   {"mean", v1::POOLING_MODE_MEAN},
    {"max", v1::POOLING_MODE_MAX},   {"mean_sqrt_len", v1::POOLING_MODE_MEAN_SQRT_LEN},
    {"last", v1::POOLING_MODE_LAST}, {"weighted_mean", v1::POOLING_MODE_WEIGHTED_MEAN}};

constexpr std::pair<const char*, v1::OutputKind> kOutputKinds[] = {
    {"hidden_states", v1::OUTPUT_KIND_HIDDEN_STATES},
    {"pooled", v1::OUTPUT_KIND_POOLED},
    {"scores", v1::OUTPUT_KIND_SCORES},
    {"token_scores", v1::OUTPUT_KIND_TOKEN_SCORES},
    {"token_logits", v1::OUTPUT_KIND_TOKEN_LOGITS},
    {"sparse", v1::OUTPUT_KIND_SPARSE},
    {"token_vectors", v1::OUTPUT_KIND_TOKEN_VECTORS}};

// A whole number in decimal digits within [min, max]; nothing else, not even a sign.
std::optional<int64_t> ParseWhole(const std::string& text, int64_t min, int64_t max) {
  if (text.empty() || text[0] < '0' || text[0] > '9') return std::nullopt;
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < min || value > max)
    return std::nullopt;
  return value;
}

std::optional<std::vector<int64_t>> ParseNumbers(const std::string& text, char separator, int64_t min) {
  std::vector<int64_t> dims;
  for (const std::string& part : std::vector<std::string>(absl::StrSplit(text, separator))) {
    const std::optional<int64_t> dim = ParseWhole(part, min, std::numeric_limits<int32_t>::max());
    if (!dim) return std::nullopt;
    dims.push_back(*dim);
  }
  return dims;
}

absl::Status Wanted(const std::string& wanted, const std::string& got) {
  return absl::InvalidArgumentError(absl::StrCat("got '", got, "', wanted ", wanted));
}

// A whole number from 0 on that may be absent.
void AddWhole(CLI::App& app, const char* name, const char* help, std::optional<int64_t>& value) {
  app.add_option_function<int64_t>(
         name, [&value](const int64_t& given) { value = given; }, help)
      ->check(CLI::NonNegativeNumber)
      ->type_name("N");
}

// The part of AddServerFlags that says whom to trust and who we are.
void AddSecurityFlags(CLI::App& app, ServerFlags& flags) {
  app.add_flag("--tls", flags.use_tls, "Connect with TLS; any of the four below means that too")
      ->envname("HEADLIGHT_TLS");
  app.add_option("--tls-ca", flags.tls.ca_file,
                 "PEM certificates that may have signed the server's; the system's if not given")
      ->envname("HEADLIGHT_TLS_CA")
      ->type_name("FILE");
  app.add_option("--tls-cert", flags.tls.cert_file, "Our own certificate, PEM, where the server wants one")
      ->envname("HEADLIGHT_TLS_CERT")
      ->type_name("FILE");
  app.add_option("--tls-key", flags.tls.key_file, "Its key, PEM")
      ->envname("HEADLIGHT_TLS_KEY")
      ->type_name("FILE");
  app.add_option("--tls-server-name", flags.tls.server_name,
                 "Name in the server's certificate, where it is not the host of --server")
      ->envname("HEADLIGHT_TLS_SERVER_NAME")
      ->type_name("NAME");
  app.add_option("--token-file", flags.token_file, "File with a bearer token to send with every call")
      ->envname("HEADLIGHT_TOKEN_FILE")
      ->type_name("FILE");
  app.add_flag("--allow-token-without-tls", flags.allow_token_without_tls,
               "Send the token even where others on the network can read it");
}

absl::StatusOr<std::vector<int64_t>> ParseLayerList(const std::string& text) {
  return ParseEachOnce("layers", text);
}

}  // namespace

absl::StatusOr<Shape> ParseShape(const std::string& text) {
  std::optional<std::vector<int64_t>> dims = ParseNumbers(text, 'x', 1);
  if (!dims || dims->size() != 2) return Wanted("two positive numbers, as in 2x16", text);
  return *std::move(dims);
}

absl::StatusOr<std::vector<int64_t>> ParseLengths(const std::string& text) {
  std::optional<std::vector<int64_t>> lengths = ParseNumbers(text, ',', 1);
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

absl::StatusOr<std::vector<int64_t>> ParseHeads(const std::string& text) {
  return ParseEachOnce("heads", text);
}

absl::StatusOr<std::vector<int64_t>> ParseEachOnce(const char* what, const std::string& text) {
  std::optional<std::vector<int64_t>> places = ParseNumbers(text, ',', 0);
  if (!places) return Wanted(absl::StrCat(what, " counted from 0, as in 0,3,5"), text);
  for (auto place = places->begin(); place != places->end(); ++place) {
    if (std::find(places->begin(), place, *place) == place) continue;
    return Wanted(absl::StrCat(what, " counted from 0, each once: ", *place, " is there again"), text);
  }
  return *std::move(places);
}

absl::StatusOr<Shape> ParseGrid(const std::string& text) {
  constexpr int64_t kMostCells = 64;  // as attention.proto has it
  const std::optional<std::vector<int64_t>> grid = ParseNumbers(text, 'x', 1);
  if (grid && grid->size() == 2 && grid->front() <= kMostCells && grid->back() <= kMostCells) return *grid;
  return Wanted("rows and columns of cells, 1x1 to 64x64", text);
}

absl::StatusOr<std::vector<int64_t>> ParsePlaces(const std::string& text) {
  const auto places = ParseNumbers(text, ',', 0);
  return places ? *places : absl::StatusOr<std::vector<int64_t>>(Wanted("places like 0,5,17", text));
}

absl::StatusOr<QueryRange> ParseQueryRange(const std::string& text) {
  const std::optional<std::vector<int64_t>> ends = ParseNumbers(text, ':', 0);
  if (!ends || ends->size() != 2 || ends->front() >= ends->back()) {
    return Wanted("the first query and the one after the last, as in 0:16", text);
  }
  return QueryRange{ends->front(), ends->back()};
}

absl::StatusOr<v1::WeightsMode> ParseWeightsMode(const std::string& text) {
  for (v1::WeightsMode mode : {v1::WEIGHTS_MODE_NONE, v1::WEIGHTS_MODE_FULL, v1::WEIGHTS_MODE_MEAN,
                               v1::WEIGHTS_MODE_TOP_K, v1::WEIGHTS_MODE_SUMMARY, v1::WEIGHTS_MODE_GRID}) {
    if (text == WeightsModeName(mode)) return mode;
  }
  return Wanted("none, full, mean, top-k, summary or grid", text);
}

std::string WeightsModeName(v1::WeightsMode mode) {
  switch (mode) {
    case v1::WEIGHTS_MODE_FULL:
      return "full";
    case v1::WEIGHTS_MODE_MEAN:
      return "mean";
    case v1::WEIGHTS_MODE_TOP_K:
      return "top-k";
    case v1::WEIGHTS_MODE_SUMMARY:
      return "summary";
    case v1::WEIGHTS_MODE_GRID:
      return "grid";
    default:
      return "none";
  }
}

absl::StatusOr<v1::DType> ParseDType(const std::string& text) {
  for (v1::DType dtype : {v1::DTYPE_F32, v1::DTYPE_BF16, v1::DTYPE_F16}) {
    if (text == DTypeName(dtype)) return dtype;
  }
  return Wanted("f32, bf16 or f16", text);
}

absl::StatusOr<v1::DType> ParseVectorsDType(const std::string& text) {
  for (v1::DType dtype : {v1::DTYPE_F32, v1::DTYPE_BF16, v1::DTYPE_F16, v1::DTYPE_I8, v1::DTYPE_BITS}) {
    if (text == DTypeName(dtype)) return dtype;
  }
  return Wanted("f32, bf16, f16, i8 or bits", text);
}

std::string DTypeName(v1::DType dtype) {
  switch (dtype) {
    case v1::DTYPE_I8:
      return "i8";
    case v1::DTYPE_BITS:
      return "bits";
    case v1::DTYPE_BF16:
      return "bf16";
    case v1::DTYPE_F16:
      return "f16";
    default:
      return "f32";
  }
}

std::string PoolingName(v1::PoolingMode mode) {
  for (const auto& [name, known] : kPoolings) {
    if (mode == known) return name;
  }
  return "-";
}

absl::StatusOr<v1::PoolingMode> ParsePooling(const std::string& text) {
  for (const auto& [name, mode] : kPoolings) {
    if (text == name) return mode;
  }
  return Wanted("cls, mean, max, mean_sqrt_len, weighted_mean or last", text);
}

std::string OutputKindName(v1::OutputKind kind) {
  for (const auto& [name, known] : kOutputKinds) {
    if (kind == known) return name;
  }
  return "-";
}

absl::StatusOr<std::vector<v1::OutputKind>> ParseOutputKinds(const std::string& text) {
  std::vector<v1::OutputKind> kinds;
  for (const std::string& part : std::vector<std::string>(absl::StrSplit(text, ','))) {
    v1::OutputKind kind = v1::OUTPUT_KIND_UNSPECIFIED;
    for (const auto& [name, known] : kOutputKinds) {
      if (part == name) kind = known;
    }
    if (kind == v1::OUTPUT_KIND_UNSPECIFIED) {
      return Wanted("hidden_states, pooled, scores, token_scores, token_logits, sparse or token_vectors",
                    part);
    }
    kinds.push_back(kind);
  }
  return kinds;
}

absl::StatusOr<LoadBalancing> ParseLoadBalancing(const std::string& text) {
  if (text == "pick_first") return LoadBalancing::kPickFirst;
  if (text == "round_robin") return LoadBalancing::kRoundRobin;
  return Wanted("pick_first or round_robin", text);
}

absl::StatusOr<Client> ServerFlags::Connect(int num_channels) const {
  ClientOptions options{
      .max_message_bytes = max_message_bytes,
      .receive_window_bytes = receive_window_bytes,
      .num_channels = num_channels,
      .load_balancing = load_balancing,
      .tls = tls,
      .token_file = token_file,
      .allow_token_without_tls = allow_token_without_tls,
      .retry = {.attempt_timeout = std::chrono::milliseconds(attempt_timeout_ms)},
  };
  options.tls.enabled = use_tls || !tls.ca_file.empty() || !tls.cert_file.empty() || !tls.key_file.empty() ||
                        !tls.server_name.empty();
  return Client::Create(server, options);
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
  app.add_option(
         "--receive-window-bytes", flags.receive_window_bytes,
         "How much of a call the server may send ahead; 0: as gRPC measures it, for long fat networks")
      ->check(CLI::NonNegativeNumber)
      ->type_name("N")
      ->capture_default_str();
  AddParsed(app,
            {"--load-balancing", "pick_first|round_robin",
             "Where --server has several addresses: one of them, or each in turn that is well"},
            ParseLoadBalancing, &flags.load_balancing)
      ->envname("HEADLIGHT_LOAD_BALANCING")
      ->default_str("pick_first");
  AddSecurityFlags(app, flags);
}

void AddAttemptFlags(CLI::App& app, ServerFlags& flags) {
  app.add_option("--attempt-timeout-ms", flags.attempt_timeout_ms,
                 "Send a request again, to another server, after so long without an answer; 0: never")
      ->check(CLI::NonNegativeNumber)
      ->type_name("N")
      ->capture_default_str();
}

void AddRequestFlags(CLI::App& app, RequestFlags& flags) {
  app.add_option("--model", flags.model, "Name of the model")->capture_default_str();
  app.add_option("--model-version", flags.model_version, "Its version; the newest if not given");
  AddParsed(app,
            {"--shape", "BATCHxSEQ_LEN", "Dense random query, or token ids for a model that begins there"},
            ParseShape, &flags.shape);
  AddParsed(app, {"--seq-lens", "N,N,...", "Sequence lengths; without --shape a ragged random query, or ids"},
            ParseLengths, &flags.seq_lens);
  AddParsed(app, {"--kv-shape", "BATCHxKV_LEN", "Cross attention: dense random keys"}, ParseShape,
            &flags.kv_shape);
  AddParsed(app, {"--kv-seq-lens", "N,N,...", "Lengths of the keys; without --kv-shape ragged random keys"},
            ParseLengths, &flags.kv_seq_lens);
  app.add_flag("--causal", flags.causal, "A query sees no later key");
  AddWhole(app, "--window-left", "A query sees no key more than N before it", flags.window_left);
  AddWhole(app, "--window-right", "A query sees no key more than N after it", flags.window_right);
  AddParsed(app, {"--weights", "none|full|mean|top-k|summary|grid", "Attention weights to return"},
            ParseWeightsMode, &flags.weights)
      ->default_str("none");
  app.add_option("--top-k", flags.top_k, "With --weights top-k: how many of each query and head")
      ->check(CLI::PositiveNumber)
      ->type_name("K");
  AddParsed(app, {"--heads", "N,N,...", "Weights of these heads only, in this order"}, ParseHeads,
            &flags.heads);
  AddParsed(app, {"--queries", "BEGIN:END", "Weights of these queries of each sequence only"},
            ParseQueryRange, &flags.queries);
  AddWhole(app, "--layer", "Weights of this layer, counted from 0; the last one if not given", flags.layer);
  AddParsed(app, {"--layers", "N,N,...", "Weights of these layers, in this order"}, ParseLayerList,
            &flags.layers);
  AddParsed(app, {"--grid", "ROWSxCOLS", "With --weights grid: cells of queries and keys, up to 64x64"},
            ParseGrid, &flags.grid)
      ->default_str("64x64");
  CLI::Option* const pooled = app.add_flag_callback(
      "--pooled", [&flags] { flags.pooling = v1::POOLING_MODE_MODEL; },
      "Output one vector for each sequence, pooled as the model says");
  AddParsed(app,
            {"--pooling", "MODE",
             "The same, pooled so: cls (the first token), mean, max, mean_sqrt_len, weighted_mean or last"},
            ParsePooling, &flags.pooling)
      ->excludes(pooled);
  app.add_option("--dimensions", flags.dimensions,
                 "Numbers to keep of each pooled vector, the first ones; 0: all")
      ->check(CLI::NonNegativeNumber)
      ->type_name("N")
      ->capture_default_str();
  AddParsed(app,
            {"--output-kind", "KIND,KIND,...",
             "Outputs of one pass: hidden_states, pooled, scores, token_scores, token_logits, sparse, "
             "token_vectors"},
            ParseOutputKinds, &flags.outputs);
  AddParsed(app, {"--positions", "N,N,...", "With --output-kind token_logits: of these places among the ids"},
            ParsePlaces, &flags.positions);
  app.add_option("--sparse-top-k", flags.sparse_top_k,
                 "With --output-kind sparse: at most so many ids of each sequence; 0: all")
      ->check(CLI::NonNegativeNumber)
      ->type_name("K")
      ->capture_default_str();
  AddParsed(app,
            {"--vectors-dtype", "f32|bf16|f16|i8|bits",
             "How pooled and token_vectors of --output-kind travel and are written: i8 with a scale for each "
             "row, bits "
             "packed; as --output-dtype if not given"},
            ParseVectorsDType, &flags.vectors_dtype);
  AddParsed(app, {"--dtype", "f32|bf16|f16", "How query, key, value and an added mask travel"}, ParseDType,
            &flags.dtype)
      ->default_str("f32");
  AddParsed(app, {"--output-dtype", "f32|bf16|f16", "How the output and the weights travel"}, ParseDType,
            &flags.output_dtype)
      ->default_str("f32");
  app.add_option("--priority", flags.priority, "Among requests that wait, those of a higher one go first")
      ->check(CLI::Range(-10, 10))
      ->type_name("N")
      ->capture_default_str();
  app.add_option("--seed", flags.seed, "Seed of the random values; the same values on every machine")
      ->type_name("N")
      ->capture_default_str();
}

int Fail(const Streams& streams, ExitCode exit_code, const absl::Status& status) {
  const Refusal refusal = RefusalOf(status);
  streams.err << "headlight: " << absl::StatusCodeToString(status.code()) << ": "
              << Printable(std::string(status.message()));
  if (refusal.retry_delay.count() > 0)
    streams.err << "; worth trying again in " << FormatMs(refusal.retry_delay);
  streams.err << std::endl;
  return exit_code;
}

void PrintNotes(const Streams& streams, const std::vector<std::string>& notes) {
  for (const std::string& note : notes) streams.err << "headlight: note: " << Printable(note) << std::endl;
}

}  // namespace headlight::client
