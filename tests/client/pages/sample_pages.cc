// SPDX-License-Identifier: Apache-2.0
#include "tests/client/pages/sample_pages.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

namespace headlight::testing {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kServiceMs = 3.2;
constexpr double kCapacity = 1000;  // per second
constexpr int kSeconds = 20;

// Of a queue: the slower, the nearer the rate is to what can be served.
double LatencyMs(double rate, double percent) {
  const double load = std::min(rate / kCapacity, 0.985);
  return kServiceMs * (1 + 0.35 * load / (1 - load) * -std::log1p(-percent / 100));
}

Json LatencyJson(double rate, double factor) {
  Json percentiles = Json::array();
  for (double nines = 0; nines <= 4.001; nines += 0.05) {
    const double percent = 100 * (1 - std::pow(10, -nines));
    percentiles.push_back({percent, factor * LatencyMs(rate, percent)});
  }
  Json json = {{"mean", factor * LatencyMs(rate, 63)}};
  Json ci95 = Json::object();
  const std::pair<const char*, double> keys[] = {{"p50", 50}, {"p90", 90},     {"p95", 95},
                                                 {"p99", 99}, {"p99_9", 99.9}, {"p99_99", 99.99}};
  for (const auto& [key, percent] : keys) {
    const double ms = factor * LatencyMs(rate, percent);
    json[key] = ms;
    ci95[key] = {ms * 0.96, ms * 1.05};
  }
  json["max"] = factor * LatencyMs(rate, 99.998);
  json["ci95"] = ci95;
  json["percentiles"] = percentiles;
  return json;
}

// With a server that is gone from second 8 to 11; of second 9 there is no row at all.
Json TimelineJson(double rate, double refused, bool gap, std::mt19937& random) {
  std::normal_distribution<double> noise(0, 1);
  Json timeline = Json::array();
  for (int t = 0; t < kSeconds; ++t) {
    if (gap && t == 9) continue;
    const bool gone = gap && t >= 8 && t < 11;
    const double after = gap && t >= 11 && t < 14 ? 8 * (14 - t) : 1;
    const double sent = std::max(0.0, std::round(rate + std::sqrt(rate) * noise(random)));
    const double p50 = LatencyMs(rate, 50) * after * (1 + 0.04 * noise(random));
    timeline.push_back({{"t_s", t},
                        {"sent", sent},
                        {"replies", gone ? 0 : std::round(sent - refused)},
                        {"refused", gone ? sent : refused},
                        {"p50_ms", gone ? 0 : p50},
                        {"p99_ms", gone ? 0 : p50 * LatencyMs(rate, 99) / LatencyMs(rate, 50)},
                        {"max_ms", gone ? 0 : p50 * LatencyMs(rate, 99.95) / LatencyMs(rate, 50)}});
  }
  return timeline;
}

Json RunJson(double rate, bool gap, bool bottleneck, std::mt19937& random) {
  const double refused = std::max(0.0, rate - kCapacity * 0.985);
  const double replies = rate - refused;
  Json refusals = Json::object();
  if (refused > 0) {
    refusals["RESOURCE_EXHAUSTED"] = {
        {"count", refused * kSeconds},
        {"example", "the queue is full: 64 requests of 8192 tokens wait <b>now</b>"}};
  }
  if (gap) {
    refusals["UNAVAILABLE"] = {
        {"count", 3 * rate},
        {"example", "failed to connect to all addresses; last error: connection refused"}};
  }
  Json run = {{"loop", "open"},
              {"concurrency", nullptr},
              {"rate", rate},
              {"measured_s", kSeconds},
              {"sent", rate * kSeconds},
              {"replies", replies * kSeconds},
              {"requests_per_s", replies},
              {"goodput_per_s", replies * (rate > 0.9 * kCapacity ? 0.87 : 1)},
              {"tokens_per_s", replies * 64},
              {"sent_bytes", replies * 196'608 * kSeconds},
              {"received_bytes", replies * 196'608 * kSeconds},
              {"refused", refused * kSeconds + (gap ? 3 * rate : 0)},
              {"refusals", refusals},
              {"cancelled", 0},
              {"unfinished", bottleneck ? 12 : 0},
              {"unsent", bottleneck ? 340 : 0}};
  run["latency_ms"] = {{"intended", LatencyJson(rate, 1)}, {"actual", LatencyJson(rate * 0.94, 0.93)}};
  run["timeline"] = TimelineJson(rate, refused, gap, random);
  run["server_mean"] = {{"queue_us", 900}, {"compute_us", 2100}, {"total_us", 3300}, {"batch_requests", 4.2}};
  run["server_share"] = {
      {"queue", 0.1 + 0.6 * rate / 1200}, {"compute", 0.75 - 0.6 * rate / 1200}, {"other", 0.15}};
  run["client"] = {{"cpu_cores", bottleneck ? 0.98 : 0.31},
                   {"threads", 1},
                   {"late_ms", {{"p50", 0.01}, {"p99", bottleneck ? 14.0 : 0.2}, {"max", 20}}},
                   {"is_bottleneck", bottleneck},
                   {"warning", nullptr}};
  if (bottleneck)
    run["client"]["warning"] = "1 % of the requests left over 14 ms late; its thread used 0.98 cores.";
  return run;
}

Json SearchJson() {
  Json steps = Json::array();
  for (double rate : {100.0, 200.0, 400.0, 800.0, 1600.0, 1130.0, 950.0, 870.0, 910.0}) {
    const double ms = LatencyMs(rate, 99);
    steps.push_back({{"rate", rate}, {"value_ms", ms}, {"met", ms <= 50}});
  }
  return {{"goal", "p99_ms"}, {"limit_ms", 50}, {"best_rate", 870}, {"steps", steps}};
}

}  // namespace

Json SampleSweep() {
  std::mt19937 random(1);
  Json report = {{"schema", "headlight-loadtest/1"},
                 {"server", "127.0.0.1:8001"},
                 {"model", "encoder </script><!-- & \"quotes\""},
                 {"model_version", "3"},
                 {"precision", "bf16"},
                 {"started_at", "2026-11-25T04:00:00Z"},
                 {"interrupted", true}};
  report["request"] = {{"input", "token_ids"}, {"seq_lens", "uniform:1-128"},
                       {"mean_tokens", 64.5},  {"mean_bytes", 258},
                       {"dtype", "f32"},       {"weights", "none"}};
  report["connections"] = 4;
  report["arrivals"] = "poisson";
  report["timeouts_ms"] = {50, 200};
  report["cancel_ratio"] = 0.01;
  report["warmup_s"] = 2;
  report["seed"] = 0;
  const double rates[] = {100, 200, 400, 800, 950, 1200};
  for (double rate : rates) report["runs"].push_back(RunJson(rate, rate == 950, rate == 1200, random));
  report["search"] = SearchJson();
  return report;
}

Json SampleSingleRun() {
  Json run = {{"loop", "closed"}, {"concurrency", 8}, {"rate", nullptr},      {"measured_s", 10},
              {"sent", 8000},     {"replies", 7990},  {"requests_per_s", 799}};
  run["latency_ms"] = {{"intended", LatencyJson(700, 1)}};
  return {{"schema", "headlight-loadtest/1"}, {"model", "demo"}, {"runs", {run}}, {"search", nullptr}};
}

Json SampleRefusals() {
  Json report = SampleSingleRun();
  Json zeros = {{"mean", 0}, {"p50", 0}, {"p90", 0}, {"p99", 0}, {"p99_9", 0}, {"max", 0}};
  zeros["percentiles"] = Json::array();
  Json run = {{"loop", "closed"},    {"concurrency", 64},  {"rate", nullptr},
              {"measured_s", 10},    {"sent", 500},        {"replies", 0},
              {"requests_per_s", 0}, {"goodput_per_s", 0}, {"refused", 500}};
  run["refusals"]["UNAVAILABLE"] = {{"count", 500}, {"example", "the server is shutting down"}};
  run["latency_ms"] = {{"intended", zeros}, {"actual", zeros}};
  for (int t = 0; t < 10; ++t) {
    run["timeline"].push_back(
        {{"t_s", t}, {"sent", 50}, {"replies", 0}, {"refused", 50}, {"p50_ms", 0}, {"p99_ms", 0}});
  }
  run["server_share"] = {{"queue", 0}, {"compute", 0}, {"other", 0}};
  report["runs"].push_back(run);
  report["search"] = {{"goal", "p99_ms"}, {"limit_ms", 5}, {"best_rate", nullptr}};
  report["search"]["steps"].push_back({{"rate", 100}, {"value_ms", nullptr}, {"met", false}});
  return report;
}

client::AttentionMaps SampleMaps(int64_t num_layers, int64_t num_heads, int64_t len) {
  std::mt19937 random(static_cast<unsigned>(len));
  std::normal_distribution<float> normal;
  client::AttentionMaps maps{.title = "Attention of sample, version 1", .subtitle = "random weights"};
  for (int64_t i = 0; i < num_layers; ++i) maps.layers.push_back(i);
  for (int64_t i = 0; i < num_heads; ++i) maps.heads.push_back(i);
  const char* const words[] = {"[CLS]", "the", "quick", "brown",        "fox<&>",
                               "jump",  "##s", "over",  "\u5149\u7dda", "dog"};
  for (int64_t i = 0; i < len; ++i) maps.key_labels.emplace_back(words[i % 10]);
  maps.query_labels = maps.key_labels;
  for (int64_t map = 0; map < maps.num_maps(); ++map) {
    const int64_t offset = map % 5 - 2;
    const float sharpness = 1.0f + static_cast<float>(map % 3);
    for (int64_t query = 0; query < len; ++query) {
      std::vector<float> row;
      float sum = 0;
      for (int64_t key = 0; key < len; ++key) {
        const float diagonal = key == query + offset ? 2.0f * sharpness : key == 0 ? sharpness : 0.0f;
        row.push_back(std::exp(diagonal + 0.6f * normal(random)));
        sum += row.back();
      }
      for (float weight : row) maps.weights.push_back(weight / sum);
    }
  }
  return maps;
}

client::SummaryPicture SampleSummary(int64_t num_layers, int64_t num_heads) {
  std::mt19937 random(2);
  std::uniform_real_distribution<float> uniform;
  client::SummaryPicture picture{.title = "Attention statistics of sample, version 1",
                                 .subtitle = "random numbers"};
  for (int64_t i = 0; i < num_layers; ++i) picture.layers.push_back(i);
  for (int64_t i = 0; i < num_heads; ++i) picture.heads.push_back(i);
  const std::pair<const char*, const char*> names[] = {
      {"entropy", "nats"}, {"distance", "tokens"}, {"first token", "share"}};
  for (const auto& [name, unit] : names) {
    client::StatisticGrid grid{
        .name = name, .unit = unit, .explanation = std::string("What ") + name + " means."};
    for (int64_t i = 0; i < num_layers * num_heads; ++i) grid.values.push_back(4.2f * uniform(random));
    picture.statistics.push_back(grid);
  }
  return picture;
}

}  // namespace headlight::testing
