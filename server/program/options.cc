// SPDX-License-Identifier: Apache-2.0
#include "server/program/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <cstddef>
#include <fstream>
#include <functional>
#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "core/base/status_macros.h"
#include "core/base/text.h"
#include "server/models/registry.h"
#include "server/program/version.h"

namespace headlight {
namespace {

// One option: its name without dashes (which is also the key in the file), its help and its way into
// ServerOptions. Values are read by our own code rather than by CLI11's, whose versions differ in what they
// accept and which silently skip wrong values of environment variables.
struct Option {
  std::string name;
  std::string unit;  // what --help shows in place of the value
  std::string help;
  std::function<absl::Status(const std::string& text, ServerOptions& options)> set;
  std::function<std::string(const ServerOptions& options)> get;
  bool is_switch = false;  // the flag may stand without a value
};

template <typename Value>
using Member = Value ServerOptions::*;

Option Text(const std::string& name, const std::string& unit, const std::string& help,
            Member<std::string> member) {
  return {name, unit, help,
          [member](const std::string& text, ServerOptions& options) {
            options.*member = text;
            return absl::OkStatus();
          },
          [member](const ServerOptions& options) { return options.*member; }};
}

struct Range {
  int64_t min;
  int64_t max;
};

Option Number(const std::string& name, const std::string& unit, const std::string& help, Range range,
              Member<int64_t> member) {
  return {name, unit, help,
          [member, range](const std::string& text, ServerOptions& options) -> absl::Status {
            int64_t value = 0;
            if (!absl::SimpleAtoi(text, &value) || value < range.min || value > range.max) {
              return absl::InvalidArgumentError(absl::StrCat(
                  "got ", Quoted(text), ", wanted a whole number from ", range.min, " to ", range.max));
            }
            options.*member = value;
            return absl::OkStatus();
          },
          [member](const ServerOptions& options) { return absl::StrCat(options.*member); }};
}

template <typename Value>
Option Choice(const std::string& name, const std::string& help,
              const std::vector<std::pair<std::string, Value>>& values, Member<Value> member) {
  const std::string names =
      absl::StrJoin(values, "|", [](std::string* out, const auto& value) { *out += value.first; });
  return {name, names, help,
          [member, values, names](const std::string& text, ServerOptions& options) -> absl::Status {
            for (const auto& [value_name, value] : values) {
              if (value_name != text) continue;
              options.*member = value;
              return absl::OkStatus();
            }
            return absl::InvalidArgumentError(absl::StrCat("got ", Quoted(text), ", wanted ", names));
          },
          [member, values](const ServerOptions& options) {
            return std::find_if(values.begin(), values.end(),
                                [&](const auto& value) { return value.second == options.*member; })
                ->first;
          }};
}

Option Seconds(const std::string& name, const std::string& help, double max, Member<double> member) {
  return {name, "SECONDS", help,
          [member, max](const std::string& text, ServerOptions& options) -> absl::Status {
            double value = 0;
            if (!absl::SimpleAtod(text, &value) || !(value >= 0 && value <= max)) {
              return absl::InvalidArgumentError(
                  absl::StrCat("got ", Quoted(text), ", wanted a number from 0 to ", max));
            }
            options.*member = value;
            return absl::OkStatus();
          },
          [member](const ServerOptions& options) { return absl::StrCat(options.*member); }};
}

// Off unless given; alone it means true.
Option Switch(const std::string& name, const std::string& help, Member<bool> member) {
  Option option = {
      name, "true|false", help,
      [member](const std::string& text, ServerOptions& options) -> absl::Status {
        if (text != "true" && text != "false") {
          return absl::InvalidArgumentError(absl::StrCat("got ", Quoted(text), ", wanted true or false"));
        }
        options.*member = text == "true";
        return absl::OkStatus();
      },
      [member](const ServerOptions& options) { return options.*member ? "true" : "false"; }};
  option.is_switch = true;
  return option;
}

Option Precisions(const std::string& name, const std::string& help, Member<PrecisionChoice> member) {
  return {name, "PRECISION|MODEL=PRECISION,...", help,
          [member](const std::string& text, ServerOptions& options) -> absl::Status {
            HEADLIGHT_ASSIGN_OR_RETURN(options.*member, ParsePrecisionChoice(text));
            return absl::OkStatus();
          },
          [member](const ServerOptions& options) { return ToText(options.*member); }};
}

// The names in `text`, separated by commas. INVALID_ARGUMENT: one stands there twice.
absl::StatusOr<std::vector<std::string>> SplitNames(const std::string& text) {
  std::vector<std::string> names;
  for (const std::string& part : std::vector<std::string>(absl::StrSplit(text, ','))) {
    if (std::find(names.begin(), names.end(), part) != names.end()) {
      return absl::InvalidArgumentError(absl::StrCat("got ", Quoted(part), " twice, wanted each name once"));
    }
    names.push_back(part);
  }
  return names;
}

// Any names, none twice, separated by commas; none at all is allowed.
Option AnyNames(const std::string& name, const std::string& help, Member<std::vector<std::string>> member) {
  return {name, "NAME,...", help,
          [member](const std::string& text, ServerOptions& options) -> absl::Status {
            options.*member = {};
            if (text.empty()) return absl::OkStatus();
            HEADLIGHT_ASSIGN_OR_RETURN(options.*member, SplitNames(text));
            return absl::OkStatus();
          },
          [member](const ServerOptions& options) { return absl::StrJoin(options.*member, ","); }};
}

// Names of `known`, none twice, separated by commas.
Option Names(const std::string& name, const std::string& help, const std::vector<std::string>& known,
             Member<std::vector<std::string>> member) {
  const auto set = [member, known](const std::string& text, ServerOptions& options) -> absl::Status {
    HEADLIGHT_ASSIGN_OR_RETURN(std::vector<std::string> names, SplitNames(text));
    for (const std::string& part : names) {
      if (std::find(known.begin(), known.end(), part) == known.end()) {
        return absl::InvalidArgumentError(absl::StrCat("got ", Quoted(part), ", wanted names out of ",
                                                       absl::StrJoin(known, ", "), ", separated by commas"));
      }
    }
    options.*member = std::move(names);
    return absl::OkStatus();
  };
  return {name, "NAME,...", absl::StrCat(help, ": ", absl::StrJoin(known, ", ")), set,
          [member](const ServerOptions& options) { return absl::StrJoin(options.*member, ","); }};
}

const std::vector<Option>& Options() {
  using O = ServerOptions;
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  constexpr int64_t kMaxMessageBytes = std::numeric_limits<int32_t>::max();  // what gRPC can express
  static const auto& options = *new std::vector<Option>{
      Text("listen", "HOST:PORT", "Address to serve gRPC on; port 0 picks a free one", &O::listen),
      Number("threads", "THREADS", "Compute threads; 0: as many as CPU affinity and cgroup quota allow",
             {0, 4096}, &O::threads),
      Names("models", "Built-in models to serve", BuiltInModelNames(), &O::models),
      Text("model-repository", "DIR",
           "Folder of models to serve in place of built-in ones: DIR/NAME/ or DIR/NAME/VERSION/ with "
           "config.json "
           "and *.safetensors",
           &O::model_repository),
      AnyNames("load", "Models of the repository to serve; empty: all", &O::load),
      Seconds("repository-poll-s", "Time between two looks for changes in the repository; 0: none", 86400,
              &O::repository_poll_s),
      Switch("allow-model-control", "Let callers load and unload models (LoadModel, UnloadModel)",
             &O::allow_model_control),
      Number("memory-limit", "BYTES", "Memory for models; 0: the cgroup's limit, else the machine's memory",
             {0, kMax}, &O::memory_limit),
      Precisions(
          "precision",
          "Arithmetic of matrix products: f32, bf16 or int8; f32 where the CPU is not faster in it. One "
          "for all models whose config.json asks for none, or MODEL=PRECISION",
          &O::precision),
      Text("kernel", "NAME", "Attention kernel; empty: the fastest that fits", &O::kernel),
      Text("metrics-listen", "HOST:PORT",
           "Address to serve Prometheus metrics on, at /metrics; port 0 picks a free one; empty: none",
           &O::metrics_listen),
      Number("max-message-bytes", "BYTES", "Largest request and largest reply", {1 << 16, kMaxMessageBytes},
             &O::max_message_bytes),
      Number("max-batch-tokens", "TOKENS", "Tokens computed together; a larger request is a batch of its own",
             {1, kMax}, &O::max_batch_tokens),
      Number("queue-max-requests", "REQUESTS", "Requests that may wait", {1, kMax}, &O::queue_max_requests),
      Number("queue-max-bytes", "BYTES",
             "Bytes of requests that may wait or be computed; at least max-message-bytes", {1, kMax},
             &O::queue_max_bytes),
      Number("shutdown-grace-s", "SECONDS", "How long a shutdown waits for accepted requests", {0, 86400},
             &O::shutdown_grace_s),
      Choice<LogLevel>("log-level",
                       "Least severe messages that are logged; debug has a line for each request",
                       {{"debug", LogLevel::kDebug},
                        {"info", LogLevel::kInfo},
                        {"warn", LogLevel::kWarn},
                        {"error", LogLevel::kError}},
                       &O::log_level),
      Choice<LogFormat>("log-format", "How they are written, on stderr",
                        {{"text", LogFormat::kText}, {"json", LogFormat::kJson}}, &O::log_format),
  };
  return options;
}

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

// Sets what the file says, for every option that `settled` does not name.
absl::Status ApplyFile(const std::string& path, const std::vector<std::string>& settled,
                       ServerOptions& options) {
  std::ifstream file(path);
  if (!file || file.peek() == std::ifstream::traits_type::eof()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--config: cannot read ", Quoted(path), ", or it is empty"));
  }
  for (const CLI::ConfigItem& item : CLI::ConfigTOML().from_config(file)) {
    const std::string where = absl::StrCat(path, ": ", item.fullname());
    const Option* option = item.parents.empty() ? FindOption(item.name) : nullptr;
    if (option == nullptr) return absl::InvalidArgumentError(where + ": there is no such option");
    if (item.inputs.size() != 1) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ": got ", item.inputs.size(), " values, wanted one"));
    }
    if (std::find(settled.begin(), settled.end(), item.name) != settled.end()) continue;
    const absl::Status status = option->set(item.inputs.front(), options);
    if (!status.ok()) return Wrong(where, status);
  }
  return absl::OkStatus();
}

absl::Status CheckTogether(const ServerOptions& options) {
  if (options.queue_max_bytes < options.max_message_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("--queue-max-bytes: got ", options.queue_max_bytes,
                                                   ", wanted at least --max-message-bytes ",
                                                   options.max_message_bytes));
  }
  if (options.model_repository.empty() && !options.load.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--load: got ", absl::StrJoin(options.load, ","),
                     ", wanted --model-repository with it; built-in models are named by --models"));
  }
  if (options.model_repository.empty() && options.repository_poll_s > 0) {
    return absl::InvalidArgumentError("--repository-poll-s: wanted --model-repository with it");
  }
  return absl::OkStatus();
}

// Declares every option to CLI11, which fills `values`, in the order of Options().
void Declare(CLI::App& app, std::vector<std::string>& values, std::string& config) {
  const ServerOptions defaults;
  for (size_t i = 0; i < Options().size(); ++i) {
    const Option& option = Options()[i];
    const std::string value = option.get(defaults);
    CLI::Option* flag = app.add_option("--" + option.name, values[i], option.help);
    if (option.is_switch) flag->expected(0, 1);
    flag->envname(VariableOf(option.name))
        ->type_name(absl::StrCat(option.unit, value.empty() ? "" : " [" + value + "]"))
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  }
  app.add_option("--config", config, "TOML file with any of these options, named as the flags without dashes")
      ->envname("HEADLIGHT_CONFIG")
      ->type_name("FILE");
  app.footer(
      "Other commands:\n"
      "  headlight-server init-model    write a model folder with random weights\n"
      "  headlight-server check-model   check a model folder and say what is in it\n"
      "Each has its own --help.");
  app.set_version_flag("--version", absl::StrCat("headlight-server ", kVersion),
                       "Print the version and exit");
}

}  // namespace

absl::StatusOr<CommandLine> ParseCommandLine(int argc, const char* const* argv) {
  CLI::App app("Serves multi-head attention over gRPC.", "headlight-server");
  std::vector<std::string> values(Options().size());
  std::string config;
  CommandLine result;
  try {
    Declare(app, values, config);
    app.parse(argc, argv);
    // CLI11 has settled flags before environment. It would put a file before the environment, so the file is
    // ours.
    std::vector<std::string> settled;
    for (size_t i = 0; i < Options().size(); ++i) {
      const Option& option = Options()[i];
      if (app.count("--" + option.name) == 0) continue;
      settled.push_back(option.name);
      const std::string& value = values[i];
      const absl::Status status =
          option.set(option.is_switch && value.empty() ? "true" : value, result.options);
      if (!status.ok())
        return Wrong(absl::StrCat("--", option.name, " or ", VariableOf(option.name)), status);
    }
    if (!config.empty()) HEADLIGHT_RETURN_IF_ERROR(ApplyFile(config, settled, result.options));
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
  return result;
}

std::vector<std::pair<std::string, std::string>> EffectiveValues(const ServerOptions& options) {
  std::vector<std::pair<std::string, std::string>> values;
  for (const Option& option : Options()) values.emplace_back(option.name, option.get(options));
  return values;
}

}  // namespace headlight
