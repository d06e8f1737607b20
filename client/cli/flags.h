// SPDX-License-Identifier: Apache-2.0
//
// Flags that several commands share, and the text forms of their values.
#ifndef HEADLIGHT_CLIENT_CLI_FLAGS_H_
#define HEADLIGHT_CLIENT_CLI_FLAGS_H_

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/client.h"

namespace headlight::client {

// All Parse functions: INVALID_ARGUMENT, saying what was got and what was wanted.
absl::StatusOr<Shape> ParseShape(const std::string& text);                         // "2x16" -> {2, 16}
absl::StatusOr<std::vector<int64_t>> ParseLengths(const std::string& text);        // "5,16,9" -> {5, 16, 9}
absl::StatusOr<std::chrono::milliseconds> ParseDuration(const std::string& text);  // "500ms", "10s", "2m"
absl::StatusOr<std::vector<int64_t>> ParsePlaces(const std::string& text);         // "0,5,17"
absl::StatusOr<std::vector<int64_t>> ParseHeads(const std::string& text);          // "0,3,5", each once
absl::StatusOr<Shape> ParseGrid(const std::string& text);                          // "64x32" -> {64, 32}
absl::StatusOr<v1::WeightsMode> ParseWeightsMode(const std::string& text);         // "none", "top-k", ...
absl::StatusOr<v1::DType> ParseDType(const std::string& text);                     // "f32", "bf16", "f16"
absl::StatusOr<v1::DType> ParseVectorsDType(const std::string& text);              // these, "i8", "bits"
std::string WeightsModeName(v1::WeightsMode mode);                                 // the reverse
std::string DTypeName(v1::DType dtype);                                            // the reverse
absl::StatusOr<v1::PoolingMode> ParsePooling(const std::string& text);             // "cls", "mean", ...
absl::StatusOr<std::vector<v1::OutputKind>> ParseOutputKinds(const std::string& text);  // "pooled,scores"
std::string OutputKindName(v1::OutputKind kind);                            // "pooled"; "-" of one not known
std::string PoolingName(v1::PoolingMode mode);                              // what that reads; else "-"
absl::StatusOr<LoadBalancing> ParseLoadBalancing(const std::string& text);  // "pick_first", "round_robin"

// "0,3,5", counted from 0 and each once; `what` they are is for the message.
absl::StatusOr<std::vector<int64_t>> ParseEachOnce(const char* what, const std::string& text);

// Query rows [begin, end).
struct QueryRange {
  int64_t begin = 0;
  int64_t end = 0;
};
absl::StatusOr<QueryRange> ParseQueryRange(const std::string& text);  // "0:16" -> {0, 16}

// An option's name, the form of its value, and what it does.
struct OptionText {
  std::string name;
  std::string form;
  std::string help;
};

// Adds an option whose text `parse` turns into `*value`; its error becomes a usage error.
template <typename T>
CLI::Option* AddParsed(CLI::App& app, const OptionText& text, absl::StatusOr<T> (*parse)(const std::string&),
                       T* value) {
  const auto set = [name = text.name, parse, value](const std::string& given) {
    absl::StatusOr<T> parsed = parse(given);
    if (!parsed.ok()) throw CLI::ValidationError(name, std::string(parsed.status().message()));
    *value = *std::move(parsed);
  };
  return app.add_option_function<std::string>(text.name, set, text.help)->type_name(text.form);
}

// How to reach the server.
struct ServerFlags {
  std::string server = "127.0.0.1:8001";
  int64_t timeout_ms = 0;  // of each RPC
  int max_message_bytes = ClientOptions().max_message_bytes;
  int receive_window_bytes = ClientOptions().receive_window_bytes;
  int64_t attempt_timeout_ms = 0;
  LoadBalancing load_balancing = LoadBalancing::kPickFirst;
  bool use_tls = false;
  TlsOptions tls;  // but for `enabled`: any of its files says so too
  std::string token_file;
  bool allow_token_without_tls = false;

  std::chrono::milliseconds timeout() const { return std::chrono::milliseconds(timeout_ms); }
  // A client with so many connections.
  absl::StatusOr<Client> Connect(int num_channels = 1) const;
};

// Adds --server, --timeout-ms, --max-message-bytes, --load-balancing, --tls, --token-file and their kin.
void AddServerFlags(CLI::App& app, int64_t default_timeout_ms, ServerFlags& flags);
// Adds --attempt-timeout-ms, for commands whose requests are sent again.
void AddAttemptFlags(CLI::App& app, ServerFlags& flags);

// What to ask for, given by shape; the values are random.
struct RequestFlags {
  std::string model = "demo";
  std::string model_version;
  Shape shape;     // {batch, seq_len}; empty if not given, and so are the next three
  Shape kv_shape;  // {batch, kv_len}
  std::vector<int64_t> seq_lens;
  std::vector<int64_t> kv_seq_lens;
  bool causal = false;
  std::optional<int64_t> window_left;
  std::optional<int64_t> window_right;
  v1::WeightsMode weights = v1::WEIGHTS_MODE_NONE;
  int64_t top_k = 0;
  std::vector<int64_t> heads;
  QueryRange queries;
  std::optional<int64_t> layer;
  std::vector<int64_t> layers;
  Shape grid;  // {rows, columns} of cells, at most; empty: as many as there can be
  v1::PoolingMode pooling = v1::POOLING_MODE_UNSPECIFIED;
  int64_t dimensions = 0;
  std::vector<v1::OutputKind> outputs;
  std::vector<int64_t> positions;
  int64_t sparse_top_k = 0;
  v1::DType vectors_dtype = v1::DTYPE_UNSPECIFIED;  // unspecified: output_dtype
  v1::DType dtype = v1::DTYPE_F32;
  v1::DType output_dtype = v1::DTYPE_F32;
  int priority = 0;
  uint64_t seed = 0;
};

// Adds --model, --shape, --seq-lens, --causal, --weights, --pooled, --dtype and their kin.
void AddRequestFlags(CLI::App& app, RequestFlags& flags);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_CLI_FLAGS_H_
