// SPDX-License-Identifier: Apache-2.0
#include "server/program/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <cstddef>
#include <fstream>
#include <iterator>
#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"
#include "core/base/text.h"
#include "server/models/built_in_models.h"
#include "server/program/option_kinds.h"
#include "server/program/version.h"

namespace headlight {
namespace {

// Sets `given` as well whenever the option is set.
Option NotesThatGiven(Option option, Member<bool> given) {
  option.set = [set = std::move(option.set), given](const std::string& text, ServerOptions& options) {
    options.*given = true;
    return set(text, options);
  };
  return option;
}

const std::vector<Option>& Options() {
  using O = ServerOptions;
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  constexpr int64_t kMaxDeadlineMs = 86'400'000;                             // a day
  constexpr int64_t kMaxMessageBytes = std::numeric_limits<int32_t>::max();  // what gRPC can express
  static const auto& options = *new std::vector<Option>{
      Text("listen", "HOST:PORT", "Address to serve gRPC on; port 0 picks a free one", &O::listen),
      Number(
          "threads", "THREADS",
          "Compute threads; 0: as many as there are physical cores among the CPUs that affinity allows, or "
          "fewer where the cgroup quota is below",
          {0, 4096}, &O::threads),
      Names("models", "Built-in models to serve; demo alone, unless other models are named",
            BuiltInModelNames(), &O::models),
      Text("model-repository", "DIR",
           "Folder of models to serve: DIR/NAME/ or DIR/NAME/VERSION/ with config.json and *.safetensors",
           &O::model_repository),
      Folders(
          "model",
          "Folder of one model to serve under NAME, with its files or folders of versions; may be repeated",
          &O::model_folders),
      AnyNames("load", "Models of the repository to serve; empty: all", &O::load),
      Seconds("repository-poll-s", "Time between two looks for changes in the repository; 0: none", 86400,
              &O::repository_poll_s),
      Switch("allow-model-control",
             "Let callers load and unload models (LoadModel, UnloadModel); with --tokens, each token says so",
             &O::allow_model_control),
      Text("tokens", "FILE",
           "TOML file with a [[token]] for each bearer token that opens the server, see hash-token; empty: "
           "anybody may call. SIGHUP reads it again",
           &O::tokens),
      Switch("allow-plaintext", "Take tokens over connections that others on the network can read",
             &O::allow_plaintext),
      Switch("allow-shared-memory",
             "Let callers on this machine keep tensors in shared memory (/dev/shm), any of it that the "
             "server may "
             "open",
             &O::allow_shared_memory),
      Number("canary-period-s", "SECONDS",
             "Time between two looks whether models still compute the bits of their first time; 0: none",
             {0, 86400}, &O::canary_period_s),
      Switch("strict",
             "Load no model whose config.json has keys that are not understood; else they stand in the log",
             &O::strict),
      Number("memory-limit", "BYTES",
             "Memory for the whole process: models, messages, queue, batches, replies, and a reserve for the "
             "rest; 0: "
             "the cgroup's limit, else the machine's memory",
             {0, kMax}, &O::memory_limit),
      Number("memory-for-models", "BYTES", "Part of it that requests leave to models; 0: half", {0, kMax},
             &O::memory_for_models),
      Precisions(
          "precision",
          "Arithmetic of matrix products: f32, bf16 or int8; f32 where the CPU is not faster in it. One "
          "for all models whose config.json asks for none, or MODEL=PRECISION",
          &O::precision),
      Precisions("parameters-precision",
                 "What parameters of projections and feed-forward networks are held in: bf16 or int8, where "
                 "that is "
                 "narrower than --precision; f32: as the arithmetic has them. One for all models whose "
                 "config.json asks for none, or MODEL=PRECISION",
                 &O::parameters_precision),
      Poolings("pooling",
               "How a model's vectors are pooled, whatever its files say: cls, mean, max, mean_sqrt_len, "
               "weighted_mean or last, or several side by side",
               &O::pooling),
      Text("kernel", "NAME", "Attention kernel; empty: the fastest that fits", &O::kernel),
      NotesThatGiven(
          Text("admin-listen", "HOST:PORT",
               "Address for operators, plain HTTP: /metrics, /livez, /readyz, /models, and / to read; "
               "port 0 picks a free one; empty: none",
               &O::admin_listen),
          &O::admin_listen_given),
      NumberOrAuto(
          "max-message-bytes", "BYTES",
          "Largest request and largest reply; 0: a quarter of the memory of requests, at most 256 MiB",
          {1 << 16, kMaxMessageBytes}, &O::max_message_bytes),
      Number("max-batch-tokens", "TOKENS", "Tokens computed together; a larger request is a batch of its own",
             {1, kMax}, &O::max_batch_tokens),
      NumberOrAuto("queue-max-requests", "REQUESTS",
                   "Requests that may wait; 0: 1024, or fewer where memory is short", {1, kMax},
                   &O::queue_max_requests),
      Number(
          "batch-budget-us", "MICROSECONDS",
          "Predicted compute time up to which requests share a batch; a longer request is a batch of its own",
          {100, 10'000'000}, &O::batch_budget_us),
      Number("max-age-ms", "MILLISECONDS",
             "A request that waits goes as if it were due by then at the latest", {1, kMaxDeadlineMs},
             &O::max_age_ms),
      Number("default-deadline-ms", "MILLISECONDS", "Deadline of unary requests that bring none; 0: none",
             {0, kMaxDeadlineMs}, &O::default_deadline_ms),
      Number("max-deadline-ms", "MILLISECONDS",
             "Latest deadline; later ones are cut to it, and of unary requests none at all; 0: any",
             {0, kMaxDeadlineMs}, &O::max_deadline_ms),
      Number("reply-timeout-s", "SECONDS",
             "How long a caller may take to read a reply before it is cut off; 0: any", {0, 86400},
             &O::reply_timeout_s),
      NumberOrAuto("receive-window-bytes", "BYTES",
                   "Bytes of a request that may be under way unread, larger for long, fast networks; 0: 1 "
                   "MiB, or less "
                   "where memory is short",
                   {1 << 16, 1 << 30}, &O::receive_window_bytes),
      Number("max-connections", "CONNECTIONS",
             "Connections at a time; more are closed at once; 0: as many as the descriptor limit has room "
             "for, at "
             "most 10000",
             {0, 1'000'000}, &O::max_connections),
      Number("max-connections-per-address", "CONNECTIONS",
             "Of these, from one IPv4 address or one IPv6 /64 network; 0: a quarter", {0, 1'000'000},
             &O::max_connections_per_address),
      Number("abuse-pause-s", "SECONDS",
             "How long nobody may connect from the address of a connection that was ended because it floods; "
             "0: not at all",
             {0, 1'000'000}, &O::abuse_pause_s),
      Number("max-streams", "CALLS", "Calls at a time on one connection; more wait at the caller", {1, 65536},
             &O::max_streams),
      Number("max-header-bytes", "BYTES", "Largest headers of one call", {4096, 1 << 20},
             &O::max_header_bytes),
      Number("idle-timeout-s", "SECONDS", "How long a connection may be without a call; 0: any",
             {0, 1'000'000}, &O::idle_timeout_s),
      Number(
          "max-connection-age-s", "SECONDS",
          "After how long a caller is asked to connect anew, as balancing by connection needs it; 0: never",
          {0, 1'000'000}, &O::max_connection_age_s),
      Number("connection-age-grace-s", "SECONDS",
             "How long calls may then go on on the old connection; 0: any time", {0, 1'000'000},
             &O::connection_age_grace_s),
      Text("tls-cert", "FILE",
           "Certificate to show, and those between it and its authority, in PEM; read again when it changes; "
           "empty: plain text",
           &O::tls_cert),
      Text("tls-key", "FILE", "Private key of it, in PEM, not encrypted", &O::tls_key),
      Text("tls-client-ca", "FILE",
           "Authorities, in PEM, of which one must have signed a client's certificate; empty: clients need "
           "none",
           &O::tls_client_ca),
      Number("lame-duck-s", "SECONDS",
             "How long a shutdown goes on admitting requests, at NOT_SERVING, for balancers to notice",
             {0, 86400}, &O::lame_duck_s),
      Number("shutdown-grace-s", "SECONDS", "How long a shutdown waits for accepted requests", {0, 86400},
             &O::shutdown_grace_s),
      Choice<LogLevel>("log-level",
                       "Least severe messages that are logged; debug has a line for every request",
                       {{"debug", LogLevel::kDebug},
                        {"info", LogLevel::kInfo},
                        {"warn", LogLevel::kWarn},
                        {"error", LogLevel::kError}},
                       &O::log_level),
      Choice<LogFormat>("log-format", "How they are written, on stderr",
                        {{"text", LogFormat::kText}, {"json", LogFormat::kJson}}, &O::log_format),
      Number(
          "access-log-per-s", "LINES",
          "Lines a second, at most, of requests that were answered, and as many of refused ones; errors of "
          "the server itself and level debug have no limit; 0: none",
          {0, 1'000'000}, &O::access_log_per_s),
      Text("otlp-endpoint", "URL",
           "Collector that spans of sampled requests are sent to over OTLP/HTTP, as http://HOST:4318; empty: "
           "none. Takes a build with OpenTelemetry",
           &O::otlp_endpoint),
  };
  return options;
}

// What was an option once. Given, it changes nothing and is told of, unless it has only a new name.
struct RetiredOption {
  const char* name;
  const char* became;                // the end of the sentence that tells of it
  const char* renamed_to = nullptr;  // the option that is set in its place
};
constexpr RetiredOption kRetired[] = {
    {"queue-max-bytes", "has no effect: requests that wait count in --memory-limit now"},
    {"metrics-listen", "has a new name: --admin-listen", "admin-listen"}};

std::string VariableOf(const std::string& name) {
  std::string variable = "HEADLIGHT_" + name;
  for (char& c : variable)
    c = c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return variable;
}

absl::Status Wrong(const std::string& where, const absl::Status& why) {
  return absl::InvalidArgumentError(absl::StrCat(where, ": ", std::string(why.message())));
}

const Option* FindOption(const std::string& name) {
  const auto option =
      std::find_if(Options().begin(), Options().end(), [&](const Option& o) { return o.name == name; });
  return option == Options().end() ? nullptr : &*option;
}

// Takes what was given as `where`, unless the option of the new name is among `settled`, which it then is.
absl::Status TakeRetired(const RetiredOption& retired, const std::string& where, const std::string& value,
                         std::vector<std::string>& settled, CommandLine& line) {
  line.warnings.push_back(absl::StrCat(where, " ", retired.became));
  if (retired.renamed_to == nullptr ||
      std::find(settled.begin(), settled.end(), retired.renamed_to) != settled.end()) {
    return absl::OkStatus();
  }
  settled.push_back(retired.renamed_to);
  const absl::Status status = FindOption(retired.renamed_to)->set(value, line.options);
  return status.ok() ? status : Wrong(where, status);
}

// Sets what the file says, for every option that `settled` does not name.
absl::Status ApplyFile(const std::string& path, std::vector<std::string> settled, CommandLine& line) {
  std::ifstream file(path);
  if (!file || file.peek() == std::ifstream::traits_type::eof()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--config: cannot read ", Quoted(path), ", or it is empty"));
  }
  for (const CLI::ConfigItem& item : CLI::ConfigTOML().from_config(file)) {
    const std::string where = absl::StrCat(path, ": ", item.fullname());
    const auto* const retired =
        std::find_if(std::begin(kRetired), std::end(kRetired),
                     [&](const auto& entry) { return item.parents.empty() && item.name == entry.name; });
    if (retired != std::end(kRetired)) {
      HEADLIGHT_RETURN_IF_ERROR(TakeRetired(*retired, where, absl::StrJoin(item.inputs, ","), settled, line));
      continue;
    }
    const Option* option = item.parents.empty() ? FindOption(item.name) : nullptr;
    if (option == nullptr) return absl::InvalidArgumentError(where + ": there is no such option");
    if (item.inputs.size() != 1 && !option->is_list) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ": got ", item.inputs.size(), " values, wanted one"));
    }
    if (std::find(settled.begin(), settled.end(), item.name) != settled.end()) continue;
    const absl::Status status = option->set(absl::StrJoin(item.inputs, ","), line.options);
    if (!status.ok()) return Wrong(where, status);
  }
  return absl::OkStatus();
}

// Nobody else on the network sees what goes over TLS, or over a socket in the file system.
bool IsReadableByOthers(const ServerOptions& options) {
  return options.tls_cert.empty() && !absl::StartsWith(options.listen, "unix:");
}

absl::Status CheckTogether(const ServerOptions& options) {
  if (!options.tokens.empty() && IsReadableByOthers(options) && !options.allow_plaintext) {
    return absl::InvalidArgumentError(
        absl::StrCat("--tokens: got ", Quoted(options.tokens), " with --listen ", options.listen,
                     ", over which tokens can be read; wanted --tls-cert, a unix: socket, "
                     "or --allow-plaintext where nobody else listens"));
  }
  if (options.memory_limit > 0 && options.memory_for_models > options.memory_limit) {
    return absl::InvalidArgumentError(absl::StrCat("--memory-for-models: got ", options.memory_for_models,
                                                   ", wanted at most --memory-limit ", options.memory_limit));
  }
  if (options.max_deadline_ms > 0 && options.default_deadline_ms > options.max_deadline_ms) {
    return absl::InvalidArgumentError(absl::StrCat("--default-deadline-ms: got ", options.default_deadline_ms,
                                                   ", wanted at most --max-deadline-ms ",
                                                   options.max_deadline_ms));
  }
  if (options.model_repository.empty() && !options.load.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--load: got ", absl::StrJoin(options.load, ","),
                     ", wanted --model-repository with it; built-in models are named by --models"));
  }
  if (options.model_repository.empty() && options.model_folders.empty() && options.repository_poll_s > 0) {
    return absl::InvalidArgumentError("--repository-poll-s: wanted --model-repository or --model with it");
  }
  return absl::OkStatus();
}

// What CLI11 fills: of each option, in the order of Options(), the values of its flags or its variable.
struct GivenValues {
  std::vector<std::vector<std::string>> options = std::vector<std::vector<std::string>>(Options().size());
  std::vector<std::string> retired = std::vector<std::string>(std::size(kRetired));
  std::string config;
};

void Declare(CLI::App& app, GivenValues& given) {
  const ServerOptions defaults;
  for (size_t i = 0; i < Options().size(); ++i) {
    const Option& option = Options()[i];
    const std::string value = option.get(defaults);
    CLI::Option* flag = app.add_option("--" + option.name, given.options[i], option.help);
    flag->allow_extra_args(false);  // one value for each time that the flag stands there
    flag->expected(option.is_switch ? 0 : 1, 1);
    flag->envname(VariableOf(option.name))
        ->type_name(absl::StrCat(option.unit, value.empty() ? "" : " [" + value + "]"))
        ->multi_option_policy(option.repeats ? CLI::MultiOptionPolicy::TakeAll
                                             : CLI::MultiOptionPolicy::TakeLast);
  }
  for (size_t i = 0; i < std::size(kRetired); ++i) {
    app.add_option(absl::StrCat("--", kRetired[i].name), given.retired[i])
        ->envname(VariableOf(kRetired[i].name))
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast)
        ->group("");  // not in --help
  }
  app.add_option("--config", given.config,
                 "TOML file with any of these options, named as the flags without dashes")
      ->envname("HEADLIGHT_CONFIG")
      ->type_name("FILE");
  app.footer(
      "Other commands:\n"
      "  headlight-server init-model    write a model folder with random weights\n"
      "  headlight-server check-model   check a model folder and say what is in it\n"
      "  headlight-server hash-token    make the entry of a bearer token for --tokens\n"
      "  headlight-server probe         ask a running server whether it is ready\n"
      "Each has its own --help.");
  app.set_version_flag("--version", absl::StrCat("headlight-server ", kVersion),
                       "Print the version and exit");
}

}  // namespace

absl::StatusOr<CommandLine> ParseCommandLine(int argc, const char* const* argv) {
  CLI::App app("Serves multi-head attention over gRPC.", "headlight-server");
  GivenValues given;
  CommandLine result;
  try {
    Declare(app, given);
    app.parse(argc, argv);
    // CLI11 has settled flags before environment. It would put a file before the environment, so the file is
    // ours.
    std::vector<std::string> settled;
    for (size_t i = 0; i < Options().size(); ++i) {
      const Option& option = Options()[i];
      if (app.count("--" + option.name) == 0) continue;
      settled.push_back(option.name);
      const std::string value = absl::StrJoin(given.options[i], ",");
      const absl::Status status =
          option.set(option.is_switch && value.empty() ? "true" : value, result.options);
      if (!status.ok())
        return Wrong(absl::StrCat("--", option.name, " or ", VariableOf(option.name)), status);
    }
    for (size_t i = 0; i < std::size(kRetired); ++i) {
      const std::string name = absl::StrCat("--", kRetired[i].name);
      if (app.count(name) == 0) continue;
      HEADLIGHT_RETURN_IF_ERROR(TakeRetired(kRetired[i], name, given.retired[i], settled, result));
    }
    if (!given.config.empty()) HEADLIGHT_RETURN_IF_ERROR(ApplyFile(given.config, settled, result));
  } catch (const CLI::CallForHelp&) {
    result.print = app.help();
    return result;
  } catch (const CLI::CallForVersion& version) {
    result.print = std::string(version.what()) + "\n";
    return result;
  } catch (const CLI::Error& error) {
    return absl::InvalidArgumentError(error.what());
  }
  HEADLIGHT_RETURN_IF_ERROR(CheckTogether(result.options));
  if (!result.options.tokens.empty() && result.options.allow_model_control) {
    result.warnings.emplace_back(
        "--allow-model-control has no effect: with --tokens, model_control of each token says so");
  }
  return result;
}

std::vector<std::string> BuiltInModelsToServe(const ServerOptions& options) {
  const bool nothing_named =
      options.models.empty() && options.model_repository.empty() && options.model_folders.empty();
  return nothing_named ? std::vector<std::string>{"demo"} : options.models;
}

std::vector<std::pair<std::string, std::string>> EffectiveValues(const ServerOptions& options) {
  std::vector<std::pair<std::string, std::string>> values;
  for (const Option& option : Options()) values.emplace_back(option.name, option.get(options));
  return values;
}

}  // namespace headlight
