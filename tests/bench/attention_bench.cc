// SPDX-License-Identifier: Apache-2.0
//
// How fast the attention layer is, in process, as a fraction of what the chip's own GEMM reaches in the same
// run. Each layer run is followed by a GEMM run, so that both meet the same neighbours on a shared machine;
// medians are compared.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <memory>
#include <random>

#include "CLI/CLI.hpp"
#include "core/attention/multi_head_attention.h"
#include "core/base/status_macros.h"
#include "core/runtime/cpu_topology.h"
#include "nlohmann/json.hpp"
#include "tests/bench/bench_shapes.h"
#include "tests/bench/gemm_peak.h"

namespace headlight::bench {
namespace {

struct BenchOptions {
  int threads = DetectCpuTopology().ComputeThreads();
  int repetitions = 21;
  std::string kernel;
  std::string shapes = HEADLIGHT_DEFAULT_SHAPES;
  std::string weights = "none";
  std::string json;
};

struct BenchRow {
  double layer_s = 0;  // medians
  double gemm_s = 0;
  std::string kernel;
};

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

std::vector<float> RandomInput(int64_t size) {
  std::mt19937 twister(1);
  std::vector<float> values(size);
  for (float& value : values) value = static_cast<float>(twister() >> 8) * 0x1p-22f - 2.0f;  // [-2, 2)
  return values;
}

// A self-attention batch of the shape, with room for the attention weights that are asked for.
struct BenchBatch {
  BenchBatch(const BenchShape& shape, WeightsSink::Mode mode)
      : input(RandomInput(shape.tokens() * shape.config.embed_dim)), output(input.size()), cu_lens{0} {
    const int64_t maps = mode == WeightsSink::Mode::kNone   ? 0
                         : mode == WeightsSink::Mode::kMean ? 1
                                                            : shape.config.num_heads;
    for (int64_t length : shape.lengths) cu_lens.push_back(cu_lens.back() + length);
    for (int64_t length : shape.lengths) {
      sinks.emplace_back(maps * length * length);
      SequenceOptions options;
      options.visibility.causal = shape.causal;
      options.weights = {mode, sinks.back().data(), length * length, length};
      sequences.push_back(options);
    }
    const MatrixView view{input.data(), shape.tokens(), shape.config.embed_dim, shape.config.embed_dim};
    batch = {
        view, view, view, cu_lens, cu_lens, sequences, {output.data(), view.rows, view.cols, view.stride}};
  }

  std::vector<float> input;
  std::vector<float> output;
  std::vector<int64_t> cu_lens;
  std::vector<std::vector<float>> sinks;
  std::vector<SequenceOptions> sequences;
  AttentionBatch batch;
};

absl::StatusOr<BenchRow> RunShape(const BenchShape& shape, const BenchOptions& options, ComputeArena& arena,
                                  GemmPeak& gemm) {
  using Clock = std::chrono::steady_clock;
  HEADLIGHT_ASSIGN_OR_RETURN(
      const MultiHeadAttention layer,
      MultiHeadAttention::Create(shape.config, RandomWeights(shape.config, 1), options.kernel));
  const auto mode = options.weights == "full"   ? WeightsSink::Mode::kFull
                    : options.weights == "mean" ? WeightsSink::Mode::kMean
                                                : WeightsSink::Mode::kNone;
  BenchBatch data(shape, mode);
  const std::unique_ptr<Workspace> workspace = layer.NewWorkspace(arena);
  std::vector<double> layer_s, gemm_s;
  constexpr int kWarmUp = 2;
  for (int i = 0; i < options.repetitions + kWarmUp; ++i) {
    const Clock::time_point start = Clock::now();
    HEADLIGHT_RETURN_IF_ERROR(layer.Forward(data.batch, arena, *workspace));
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    const double peak_seconds = gemm.MeasureSeconds();
    if (i < kWarmUp) continue;
    layer_s.push_back(seconds);
    gemm_s.push_back(peak_seconds);
  }
  return BenchRow{Median(layer_s), Median(gemm_s), layer.kernel_name()};
}

std::string CpuName() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

absl::Status RunBench(const BenchOptions& options) {
  HEADLIGHT_ASSIGN_OR_RETURN(const std::vector<BenchShape> shapes, ReadShapes(options.shapes));
  ComputeArena arena(options.threads);
  GemmPeak gemm(options.threads);
  nlohmann::json rows = nlohmann::json::array();
  std::vector<double> peaks;
  std::printf("%-5s %-6s %-10s %5s %5s %5s %5s %-6s %-7s %9s %8s %8s %8s\n", "prec", "mask", "lengths",
              "embed", "heads", "kv", "dim", "weights", "kernel", "ms", "GFLOP/s", "peak", "fraction");
  for (const BenchShape& shape : shapes) {
    HEADLIGHT_ASSIGN_OR_RETURN(const BenchRow row, RunShape(shape, options, arena, gemm));
    const AttentionConfig& config = shape.config;
    const double flops = shape.ProjectionFlops() + shape.AttentionFlops();
    const double gflops = flops / row.layer_s / 1e9;
    const double peak_gflops = GemmPeak::kFlops / row.gemm_s / 1e9;
    peaks.push_back(peak_gflops);
    std::printf("%-5s %-6s %-10s %5ld %5ld %5ld %5ld %-7s %-7s %9.3f %8.1f %8.1f %8.3f\n", "f32",
                shape.causal ? "causal" : "none", shape.lengths_text.c_str(), config.embed_dim,
                config.num_heads, config.num_kv_heads, config.head_dim, options.weights.c_str(),
                row.kernel.c_str(), row.layer_s * 1e3, gflops, peak_gflops, gflops / peak_gflops);
    std::fflush(stdout);
    rows.push_back({{"precision", "f32"},
                    {"batch", shape.lengths.size()},
                    {"seq_len", *std::max_element(shape.lengths.begin(), shape.lengths.end())},
                    {"lengths", shape.lengths_text},
                    {"embed_dim", config.embed_dim},
                    {"num_heads", config.num_heads},
                    {"num_kv_heads", config.num_kv_heads},
                    {"head_dim", config.head_dim},
                    {"causal", shape.causal},
                    {"weights", options.weights},
                    {"kernel", row.kernel},
                    {"ms", row.layer_s * 1e3},
                    {"gflops", gflops},
                    {"fraction", gflops / peak_gflops}});
  }
  if (options.json.empty()) return absl::OkStatus();
  std::ofstream file(options.json);
  file << nlohmann::json{{"threads", options.threads},
                         {"cpu", CpuName()},
                         {"isa", MultiHeadAttention::IsaName()},
                         {"peak_gflops", {{"f32", Median(peaks)}}},
                         {"rows", rows}}
              .dump(2)
       << "\n";
  if (!file) return absl::InvalidArgumentError(absl::StrCat("--json: cannot write ", options.json));
  return absl::OkStatus();
}

}  // namespace
}  // namespace headlight::bench

int main(int argc, char** argv) {
  headlight::bench::BenchOptions options;
  CLI::App app("Speed of the attention layer as a fraction of the GEMM peak of the same run");
  app.add_option("--threads", options.threads, "Compute threads (default: what this process may use)");
  app.add_option("--repetitions", options.repetitions, "Measured runs of each shape; the median counts")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--kernel", options.kernel, "Kernel to force (default: the fastest that accepts the layer)");
  app.add_option("--shapes", options.shapes, "File of shapes")->capture_default_str();
  app.add_option("--weights", options.weights, "Attention weights to ask for")
      ->capture_default_str()
      ->check(CLI::IsMember({"none", "full", "mean"}));
  app.add_option("--json", options.json, "Also write the results to this file");
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = headlight::bench::RunBench(options);
  if (!status.ok()) std::cerr << "attention_bench: " << status.ToString() << "\n";
  return status.ok() ? 0 : 1;
}
