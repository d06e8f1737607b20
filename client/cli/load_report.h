// SPDX-License-Identifier: Apache-2.0
//
// What a load test found, for people and for scripts.
//
// JSON keys, stable; times in the unit of the name, shares of 1:
//   server, model, model_version                   what was tested
//   loop                                           "closed"
//   concurrency, connections                       requests in flight, TCP connections
//   warmup_s, duration_s, timeout_ms               as asked for
//   request.query_shape, .tokens, .bytes           each request: its query (or token_ids_shape), its tokens,
//   its size on the wire measured_s, interrupted                        length of the measured window;
//   whether Ctrl-C ended it early replies, requests_per_s, tokens_per_s          successes within the window
//   sent_bytes, received_bytes                     of these successes refused, refusals.CODE.{count, example}
//   failures by gRPC code, with the first message of each unfinished requests in flight when the window
//   closed; counted nowhere else latency_ms.{mean, p50, p95, p99, max}          of the successes, seen from
//   here; 0 without any server_mean.{queue_us, compute_us, total_us, batch_requests} means of the replies'
//   time budgets; 0 without any server_share.{queue, compute, other}           of the mean latency; other:
//   network, client, rest of the server
#ifndef HEADLIGHT_CLIENT_CLI_LOAD_REPORT_H_
#define HEADLIGHT_CLIENT_CLI_LOAD_REPORT_H_

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "client/load/closed_loop.h"
#include "client/tensor.h"

namespace headlight::client {

// What was run.
struct LoadDescription {
  std::string server;
  std::string model;
  std::string model_version;
  std::string input = "query";  // or "token_ids"
  Shape input_shape;
  int64_t tokens_per_request = 0;
  int64_t request_bytes = 0;
  int concurrency = 0;
  int connections = 0;
  std::chrono::milliseconds warmup{0};
  std::chrono::milliseconds duration{0};
  std::chrono::milliseconds timeout{0};
  bool interrupted = false;
};

nlohmann::ordered_json LoadReportJson(const LoadDescription& load, const LoadResult& result);
std::string LoadReportText(const LoadDescription& load, const LoadResult& result);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_CLI_LOAD_REPORT_H_
