// SPDX-License-Identifier: Apache-2.0
//
// Everything that can be set on headlight-server, and the three ways to set it: a flag (--queue-max-requests
// 64), an environment variable (HEADLIGHT_QUEUE_MAX_REQUESTS=64) and a line of the TOML file named by
// --config (queue-max-requests = 64). A flag beats the environment, the environment beats the file.
#ifndef HEADLIGHT_SERVER_PROGRAM_OPTIONS_H_
#define HEADLIGHT_SERVER_PROGRAM_OPTIONS_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "core/model/config.h"
#include "server/models/precision_choice.h"

namespace headlight {

enum class LogLevel : uint8_t { kDebug, kInfo, kWarn, kError };
enum class LogFormat : uint8_t { kText, kJson };

struct ServerOptions {
  std::string listen = "127.0.0.1:8001";
  int64_t threads = 0;                               // 0: one for each physical core, see CpuTopology
  std::vector<std::string> models;                   // built-in ones; see BuiltInModelsToServe
  std::string model_repository;                      // folder; empty: none
  std::map<std::string, std::string> model_folders;  // one model each, by name
  std::vector<std::string> load;                     // models of the repository to serve; empty: all
  double repository_poll_s = 0;                      // between two looks at the folders; 0: only the first
  bool allow_model_control = false;                  // whether LoadModel and UnloadModel are allowed
  std::string tokens;                                // file; empty: calls need none
  bool allow_plaintext = false;                      // whether tokens may travel unencrypted
  bool allow_shared_memory = false;                  // whether callers may name /dev/shm's files for tensors
  int64_t canary_period_s = 30;                      // 0: models are tried when they are loaded only
  int64_t memory_limit = 0;                          // of the process; 0: what DetectMemoryLimitBytes says
  int64_t memory_for_models = 0;                     // bytes of it that requests leave alone; 0: half
  bool strict = false;                               // whether models' configs must be understood whole
  PrecisionChoice precision;
  PrecisionChoice parameters_precision;
  std::map<std::string, std::vector<Pooling>> pooling;  // of models by name, whatever their files say
  std::string kernel;                                   // empty: the fastest that fits
  std::string admin_listen = "127.0.0.1:8002";          // empty: no admin port
  bool admin_listen_given = false;                      // by whoever starts the server: it must work then
  int64_t max_message_bytes =
      0;  // 0, as in queue_max_requests and receive_window_bytes: what fits, see FitLimits
  int64_t max_batch_tokens = 8192;
  int64_t queue_max_requests = 0;
  int64_t batch_budget_us = 5000;
  int64_t max_age_ms = 1000;
  int64_t default_deadline_ms = 0;  // 0: none
  int64_t max_deadline_ms = 0;      // 0: any
  int64_t reply_timeout_s = 60;     // 0: any
  int64_t receive_window_bytes = 0;
  int64_t max_connections = 0;              // 0: as many as descriptors have room for, see FitConnections
  int64_t max_connections_per_address = 0;  // 0: a quarter of them
  int64_t abuse_pause_s = 10;               // without connections from an address that floods
  int64_t max_streams = 256;                // of one connection
  int64_t max_header_bytes = 16384;
  int64_t idle_timeout_s = 3600;     // 0: any
  int64_t max_connection_age_s = 0;  // 0: any
  int64_t connection_age_grace_s = 60;
  std::string tls_cert;       // file; empty: plain text
  std::string tls_key;        // file
  std::string tls_client_ca;  // file; empty: clients need no certificate
  int64_t lame_duck_s = 0;
  int64_t shutdown_grace_s = 30;
  LogLevel log_level = LogLevel::kInfo;
  LogFormat log_format = LogFormat::kText;
  int64_t access_log_per_s = 50;  // lines of requests; 0: none
  std::string otlp_endpoint;      // see CheckOtlpEndpoint; empty: spans go nowhere
};

// What the command line asks for.
struct CommandLine {
  ServerOptions options;
  std::string print;                  // unless empty: print this and exit 0, as for --help and --version
  std::vector<std::string> warnings;  // sentences for the log, of what was given and has no effect
};

// Reads flags, environment and file. INVALID_ARGUMENT: a sentence for the user that names the option, what it
// got and what it wanted; also when the file cannot be read. Never prints and never exits.
absl::StatusOr<CommandLine> ParseCommandLine(int argc, const char* const* argv);

// The names of the built-in models to serve: those that the options name, or demo if they name no model at
// all.
std::vector<std::string> BuiltInModelsToServe(const ServerOptions& options);

// Every option and its value, in the order of --help, as they are written on the command line.
std::vector<std::pair<std::string, std::string>> EffectiveValues(const ServerOptions& options);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_PROGRAM_OPTIONS_H_
