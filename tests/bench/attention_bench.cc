// SPDX-License-Identifier: Apache-2.0
//
// How fast the attention layer, or a whole model, is, in process, as a fraction of what the chip's own GEMM
// reaches in the same run. Each layer run is followed by GEMM runs, so that both meet the same neighbours on
// a shared machine; medians are compared.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <random>

#include "CLI/CLI.hpp"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/attention/layer.h"
#include "core/base/status_macros.h"
#include "core/checkpoint/folder.h"
#include "core/model/model.h"
#include "core/model/pooling.h"
#include "core/model/precision_error.h"
#include "core/runtime/cpu_topology.h"
#include "core/tensor/buffer.h"
#include "nlohmann/json.hpp"
#include "tests/bench/bench_shapes.h"
#include "tests/bench/families.h"
#include "tests/bench/gemm_peak.h"
#include "tests/bench/median.h"
#include "tests/bench/model_batch.h"

namespace headlight::bench {
namespace {

constexpr int64_t kTopK = 8;

struct BenchOptions {
  int threads = DetectCpuTopology().ComputeThreads();
  int beside_threads = 0;
  int repetitions = 21;
  std::vector<std::string> precisions = {"f32"};
  std::vector<std::string> parameters = {"f32"};  // precisions that they are held in
  bool reads = false;
  std::string kernel;
  std::string shapes = HEADLIGHT_DEFAULT_SHAPES;
  std::string weights = "none";
  std::string json;
  std::vector<std::string> families;
  std::string model;
  std::string lengths = "32x128";
};

const std::map<std::string, Precision> kPrecisions = {
    {"f32", Precision::kF32}, {"bf16", Precision::kBf16}, {"int8", Precision::kInt8}};
const std::map<std::string, WeightsSink::Mode> kModes = {
    {"none", WeightsSink::Mode::kNone},       {"full", WeightsSink::Mode::kFull},
    {"mean", WeightsSink::Mode::kMean},       {"top-k", WeightsSink::Mode::kTopK},
    {"summary", WeightsSink::Mode::kSummary}, {"grid", WeightsSink::Mode::kGrid}};

// Of scores and weighted values of all layers, for the pairs of tokens of one sequence that see each other.
double AttentionFlops(const ModelConfig& config, int64_t seq_len) {
  double flops = 0;
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    const AttentionConfig& attention = config.LayerBlock(layer).attention;
    const Visibility visibility{.causal = config.causal,
                                .window_left = attention.window_left,
                                .window_right = attention.window_right};
    int64_t pairs = 0;
    for (int64_t query = 0; query < seq_len; ++query) {
      const KeyRange keys = VisibleKeys(visibility, query, seq_len, seq_len);
      pairs += keys.end - keys.begin;
    }
    flops += 4.0 * static_cast<double>(attention.q_width() * pairs);
  }
  return flops;
}

Buffer RandomInput(int64_t size) {
  std::mt19937 twister(1);
  Buffer values = Buffer::Allocate(size * int64_t{sizeof(float)});
  for (int64_t i = 0; i < size; ++i) {
    values.floats()[i] = static_cast<float>(twister() >> 8) * 0x1p-22f - 2.0f;  // [-2, 2)
  }
  return values;
}

// A self-attention batch of the shape, with room for the attention weights that are asked for: in one buffer,
// as those of a server's reply.
struct BenchBatch {
  BenchBatch(const BenchShape& shape, WeightsSink::Mode mode)
      : input(RandomInput(shape.tokens() * shape.config.embed_dim)),
        output(Buffer::Allocate(input.size_bytes())),
        cu_lens{0} {
    int64_t squares = 0;
    for (int64_t length : shape.lengths) squares += length * std::max(length, int64_t{2 * kTopK});
    sinks =
        Buffer::Allocate(squares * shape.config.num_heads * int64_t{sizeof(float)});  // FULL needs the most
    for (int64_t length : shape.lengths) {
      cu_lens.push_back(cu_lens.back() + length);
      SequenceOptions options;
      options.visibility.causal = shape.causal;
      if (shape.left_mask) options.mask = LeftMask(length);
      options.weights = MakeSink(mode, shape.config.num_heads, length).Simplified(length, length);
      sequences.push_back(options);
    }
    const MatrixView view{input.floats(), shape.tokens(), shape.config.embed_dim, shape.config.embed_dim};
    batch = {
        view, view, view, cu_lens, cu_lens, sequences, {output.floats(), view.rows, view.cols, view.stride}};
  }

  // -10000 on the first 64 keys, for all heads and queries.
  MaskView LeftMask(int64_t length) {
    std::vector<float>& terms = masks.emplace_back(length, 0.0f);
    std::fill_n(terms.begin(), std::min<int64_t>(length, 64), -10000.0f);
    return {.data = terms.data(), .dtype = DType::kF32};
  }

  WeightsSink MakeSink(WeightsSink::Mode mode, int64_t num_heads, int64_t length) {
    using Mode = WeightsSink::Mode;
    if (mode == Mode::kNone) return {};
    const int64_t cols = mode == Mode::kTopK      ? kTopK
                         : mode == Mode::kSummary ? int64_t{kNumHeadStatistics}
                         : mode == Mode::kGrid    ? std::min(kMaxGridCells, length)
                                                  : length;
    const int64_t rows = mode == Mode::kSummary ? 1 : mode == Mode::kGrid ? cols : length;
    const int64_t maps = mode == Mode::kMean ? 1 : num_heads;
    WeightsSink sink{.mode = mode, .head_stride = rows * cols, .query_stride = cols};
    sink.data = Take(maps * rows * cols);
    if (mode == Mode::kTopK) {
      sink.top_k = kTopK;
      sink.keys = reinterpret_cast<int32_t*>(Take(maps * rows * cols));
    }
    if (mode == Mode::kSummary) {
      sink.received_mass = Take(num_heads * length);
      sink.received_stride = length;
    }
    return sink;
  }

  float* Take(int64_t num_floats) {
    sinks_used += num_floats;
    return sinks.floats() + sinks_used - num_floats;
  }

  Buffer input;
  Buffer output;
  std::vector<int64_t> cu_lens;
  Buffer sinks;
  int64_t sinks_used = 0;
  std::list<std::vector<float>> masks;
  std::vector<SequenceOptions> sequences;
  AttentionBatch batch;
};

// What is measured once for all rows, and the peaks that rows have seen.
class Bench {
 public:
  explicit Bench(const BenchOptions& options)
      : options_(options), arena_(options.threads), beside_arena_(options.beside_threads) {
    for (const auto& [name, precision] : kPrecisions) {
      try {
        peaks_.emplace(name, std::make_unique<GemmPeak>(precision, options.threads));
      } catch (const std::exception&) {  // a type that this CPU has no product for
      }
    }
  }

  absl::Status Run() {
    std::vector<BenchShape> shapes;
    if (options_.families.empty() && options_.model.empty()) {
      HEADLIGHT_ASSIGN_OR_RETURN(shapes, ReadShapes(options_.shapes));
    }
    const double stream_gbps = MeasureStreamBandwidth(arena_) / 1e9;
    if (!shapes.empty())
      std::printf("%-5s %-6s %-10s %5s %5s %5s %5s %-7s %-12s %9s %8s %8s %8s\n", "prec", "mask", "lengths",
                  "embed", "heads", "kv", "dim", "weights", "kernel", "ms", "GFLOP/s", "peak", "fraction");
    for (const std::string& precision : options_.precisions) {
      for (BenchShape shape : shapes) {
        shape.config.precision = kPrecisions.at(precision);
        HEADLIGHT_RETURN_IF_ERROR(RunShape(precision, shape));
      }
      for (const std::string& parameters : options_.parameters) {
        for (const std::string& family : options_.families) {
          HEADLIGHT_RETURN_IF_ERROR(RunFamily(precision, parameters, family));
        }
        if (!options_.model.empty()) HEADLIGHT_RETURN_IF_ERROR(RunFolder(precision, parameters));
      }
    }
    nlohmann::json peaks = nlohmann::json::object();
    for (const auto& [name, gflops] : seen_gflops_) peaks[name] = Median(gflops);
    std::printf("%d threads, streaming stores %.1f GB/s\n", options_.threads, stream_gbps);
    if (options_.json.empty()) return absl::OkStatus();
    std::ofstream file(options_.json);
    file << nlohmann::json{{"threads", options_.threads},      {"cpu", CpuName()},
                           {"isa", AttentionLayer::IsaName()}, {"peak_gflops", peaks},
                           {"stream_gbps", stream_gbps},       {"rows", rows_}}
                .dump(2)
         << "\n";
    if (!file) return absl::InvalidArgumentError(absl::StrCat("--json: cannot write ", options_.json));
    return absl::OkStatus();
  }

 private:
  using Clock = std::chrono::steady_clock;

  static std::string CpuName() {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);) {
      if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
    }
    return "unknown";
  }

  // The peaks that a row is compared with: of its projections, and of attention itself.
  absl::StatusOr<std::map<std::string, std::vector<double>>> PeaksOf(const std::string& precision) const {
    std::map<std::string, std::vector<double>> seconds = {{precision, {}}};
    if (precision == "int8") seconds["bf16"];
    for (const auto& [name, measured] : seconds) {
      if (!peaks_.contains(name)) return absl::UnimplementedError("this CPU has no matmul in " + name);
    }
    return seconds;
  }

  absl::Status RunShape(const std::string& precision, const BenchShape& shape) {
    HEADLIGHT_ASSIGN_OR_RETURN(
        const AttentionLayer layer,
        AttentionLayer::Create(shape.config, RandomParameters(shape.config, 1), options_.kernel));
    BenchBatch data(shape, kModes.at(options_.weights));
    std::optional<BenchBatch> plain;
    const std::unique_ptr<Workspace> workspace = layer.NewWorkspace(arena_);
    const std::unique_ptr<Workspace> beside_workspace = layer.NewWorkspace(beside_arena_);
    const auto forward = [&](const BenchBatch& batch) {
      return [&] { return layer.Forward(batch.batch, arena_, *workspace); };
    };
    std::function<absl::Status()> other;
    if (options_.beside_threads > 0) {
      other = [&] { return layer.Forward(data.batch, beside_arena_, *beside_workspace); };
    } else if (options_.weights != "none") {
      other = forward(plain.emplace(shape, WeightsSink::Mode::kNone));
    }
    HEADLIGHT_ASSIGN_OR_RETURN(const Measured measured, Measure(precision, forward(data), other));
    Report(precision, shape, layer, measured);
    return absl::OkStatus();
  }

  // Medians.
  struct Measured {
    double seconds;
    std::map<std::string, double> peak_flops;  // per second, by precision
    // Of what ran in turns with it: its time, and how often that went into the other's.
    double other_seconds = 0;
    double ratio = 0;
  };

  absl::StatusOr<Measured> Measure(const std::string& precision, const std::function<absl::Status()>& body,
                                   const std::function<absl::Status()>& other = nullptr) {
    HEADLIGHT_ASSIGN_OR_RETURN(auto peak_s, PeaksOf(precision));
    std::vector<double> body_s, other_s, ratios;
    constexpr int kWarmUp = 2;
    const auto seconds_of = [](const std::function<absl::Status()>& run) -> absl::StatusOr<double> {
      const Clock::time_point start = Clock::now();
      HEADLIGHT_RETURN_IF_ERROR(run());
      return std::chrono::duration<double>(Clock::now() - start).count();
    };
    // A product between any two runs, so that each finds the caches as the others do.
    const auto add_peaks = [&](bool counts) {
      for (auto& [name, measured] : peak_s) {
        const double peak_seconds = peaks_.at(name)->MeasureSeconds();
        if (counts) measured.push_back(peak_seconds);
      }
    };
    for (int i = 0; i < options_.repetitions + kWarmUp; ++i) {
      const bool counts = i >= kWarmUp;
      HEADLIGHT_ASSIGN_OR_RETURN(const double seconds, seconds_of(body));
      if (counts) body_s.push_back(seconds);
      add_peaks(counts);
      if (!other) continue;
      HEADLIGHT_ASSIGN_OR_RETURN(const double beside, seconds_of(other));
      add_peaks(counts);
      if (!counts) continue;
      other_s.push_back(beside);
      ratios.push_back(seconds / beside);
    }
    Measured result{.seconds = Median(body_s), .peak_flops = {}};
    for (const auto& [name, measured] : peak_s) {
      result.peak_flops[name] = GemmPeak::kFlops / Median(measured);
      seen_gflops_[name].push_back(result.peak_flops[name] / 1e9);
    }
    if (other) {
      result.other_seconds = Median(other_s);
      result.ratio = Median(ratios);
    }
    return result;
  }

  absl::Status RunFamily(const std::string& precision, const std::string& held, const std::string& family) {
    ModelConfig config = Families().at(family);
    config.SetPrecision(kPrecisions.at(precision));
    config.SetParametersPrecision(kPrecisions.at(held));
    const ModelParameters parameters = RandomModelParameters(config, 1);
    HEADLIGHT_ASSIGN_OR_RETURN(const Model model, Model::Create(config, parameters, options_.kernel));
    HEADLIGHT_RETURN_IF_ERROR(RunModel(family, model));
    HEADLIGHT_ASSIGN_OR_RETURN(const PrecisionError error, MeasurePrecisionError(model, parameters));
    if (model.attention().parameters_precision() == Precision::kF32) return absl::OkStatus();
    std::printf("      error against f32: rms %.3g, cosine %.6f\n", error.rms, error.cosine);
    rows_.back()["cosine"] = error.cosine;
    return absl::OkStatus();
  }

  absl::Status RunFolder(const std::string& precision, const std::string& held) {
    HEADLIGHT_ASSIGN_OR_RETURN(LoadedModelFolder folder, LoadModelFolder(options_.model));
    folder.summary.config.SetPrecision(kPrecisions.at(precision));
    folder.summary.config.SetParametersPrecision(kPrecisions.at(held));
    HEADLIGHT_ASSIGN_OR_RETURN(const Model model,
                               Model::Create(folder.summary.config, folder.weights, options_.kernel));
    return RunModel(options_.model, model);
  }

  // From ids (or embeddings) to pooled vectors; no longer than the position table.
  absl::Status RunModel(const std::string& name, const Model& model) {
    int64_t num_sequences = 0, seq_len = 0;
    const std::vector<std::string> sizes = absl::StrSplit(options_.lengths, 'x');
    if (sizes.size() != 2 || !absl::SimpleAtoi(sizes[0], &num_sequences) ||
        !absl::SimpleAtoi(sizes[1], &seq_len) || num_sequences < 1 || seq_len < 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("--lengths: got ", options_.lengths, ", wanted BATCHxSEQ_LEN"));
    }
    const ModelConfig& config = model.config();
    if (config.embedding) seq_len = std::min(seq_len, config.embedding->max_seq_len());
    ModelBenchBatch data(config, num_sequences, seq_len);
    const std::string precision = Name(model.attention().precision());
    const std::unique_ptr<ModelWorkspace> workspace = model.NewWorkspace(arena_);
    const MutableMatrixView& hidden = data.batch.attention.output;
    const auto forward = [&] {
      const absl::Status status = model.Forward(data.batch, arena_, *workspace);
      PoolSequences(Const(hidden), data.cu_lens, {{Pooling::kMean}}, config.normalize_pooled,
                    {data.pooled.data(), num_sequences, data.width, data.width});
      return status;
    };
    std::function<absl::Status()> read;
    if (options_.reads) {
      if (!reader_) reader_.emplace();
      read = [&] {
        reader_->Read(arena_);
        return absl::OkStatus();
      };
    }
    HEADLIGHT_ASSIGN_OR_RETURN(const Measured measured, Measure(precision, forward, read));
    const AttentionConfig& attention = config.block.attention;
    const double projection_flops =
        static_cast<double>(ProjectionFlopsPerToken(config) * num_sequences * seq_len);
    const double attention_flops = AttentionFlops(config, seq_len) * static_cast<double>(num_sequences);
    const std::string attention_precision = precision == "int8" ? "bf16" : precision;
    const double ideal_s = projection_flops / measured.peak_flops.at(precision) +
                           attention_flops / measured.peak_flops.at(attention_precision);
    const double gflops = (projection_flops + attention_flops) / measured.seconds / 1e9;
    const double peak = (projection_flops + attention_flops) / ideal_s / 1e9;
    const double fraction = ideal_s / measured.seconds;
    std::printf(
        "%-5s %s, %ldx%ld tokens, %ld layers, embed %ld, heads %ld, hidden %ld, kernel %s: %.3f ms, "
        "%.1f GFLOP/s of %.1f, fraction %.3f\n",
        PrecisionText(model.attention()).c_str(), name.c_str(), num_sequences, seq_len, config.num_layers,
        attention.embed_dim, attention.num_heads, config.block.feed_forward.hidden_dim,
        model.attention().kernel_name().c_str(), measured.seconds * 1e3, gflops, peak, fraction);
    if (const std::string& note = model.attention().precision_note(); !note.empty()) {
      std::printf("      %s\n", note.c_str());
    }
    std::fflush(stdout);
    rows_.push_back({{"model", name},
                     {"precision", precision},
                     {"parameters_precision", Name(model.attention().parameters_precision())},
                     {"batch", num_sequences},
                     {"seq_len", seq_len},
                     {"embed_dim", attention.embed_dim},
                     {"num_heads", attention.num_heads},
                     {"num_layers", config.num_layers},
                     {"kernel", model.attention().kernel_name()},
                     {"ms", measured.seconds * 1e3},
                     {"gflops", gflops},
                     {"peak_gflops", peak},
                     {"fraction", fraction}});
    if (options_.reads) ReportReads(model, measured, ideal_s);
    return absl::OkStatus();
  }

  // What reading the parameters once takes at the bandwidth of the reads in between, which take the place of
  // other models: they leave nothing of this one in the caches. The longer of that and the arithmetic is the
  // least that a pass can take.
  void ReportReads(const Model& model, const Measured& measured, double arithmetic_s) {
    const double bytes = static_cast<double>(ProjectionFlopsPerToken(model.config()) / 2 *
                                             BytesPerWeight(model.attention().parameters_precision()));
    const double bandwidth = MemoryReader::kBytes / measured.other_seconds;
    const double read_s = bytes / bandwidth;
    const double of_bandwidth = read_s / measured.seconds;
    const double of_bound = std::max(read_s, arithmetic_s) / measured.seconds;
    std::printf(
        "      parameters of %.1f MB at %.2f GB/s of %.2f, fraction %.3f; of the slower of both %.3f\n",
        bytes / 1e6, bytes / measured.seconds / 1e9, bandwidth / 1e9, of_bandwidth, of_bound);
    rows_.back()["parameter_bytes"] = bytes;
    rows_.back()["read_gbps"] = bandwidth / 1e9;
    rows_.back()["fraction_of_reads"] = of_bandwidth;
    rows_.back()["fraction_of_bound"] = of_bound;
  }

  void Report(const std::string& precision, const BenchShape& shape, const AttentionLayer& layer,
              const Measured& measured) {
    const double seconds = measured.seconds;
    const std::map<std::string, double>& peak_flops = measured.peak_flops;
    const AttentionConfig& config = shape.config;
    const std::string attention_precision = precision == "int8" ? "bf16" : precision;
    const double ideal_s = shape.ProjectionFlops() / peak_flops.at(precision) +
                           shape.AttentionFlops() / peak_flops.at(attention_precision);
    const double gflops = (shape.ProjectionFlops() + shape.AttentionFlops()) / seconds / 1e9;
    const double fraction = ideal_s / seconds;
    std::printf("%-5s %-6s %-10s %5ld %5ld %5ld %5ld %-7s %-12s %9.3f %8.1f %8.1f %8.3f", precision.c_str(),
                shape.mask.c_str(), shape.lengths_text.c_str(), config.embed_dim, config.num_heads,
                config.num_kv_heads, config.head_dim, options_.weights.c_str(), layer.kernel_name().c_str(),
                seconds * 1e3, gflops, peak_flops.at(precision) / 1e9, fraction);
    if (options_.beside_threads > 0) {
      std::printf("  %.3f times as fast as on %d threads", 1.0 / measured.ratio, options_.beside_threads);
    } else if (measured.ratio > 0) {
      std::printf("  %.3f times none's %.3f ms", measured.ratio, measured.other_seconds * 1e3);
    }
    std::printf("\n");
    if (!layer.precision_note().empty()) std::printf("      %s\n", layer.precision_note().c_str());
    std::fflush(stdout);
    rows_.push_back({{"precision", precision},
                     {"batch", shape.lengths.size()},
                     {"seq_len", *std::max_element(shape.lengths.begin(), shape.lengths.end())},
                     {"lengths", shape.lengths_text},
                     {"embed_dim", config.embed_dim},
                     {"num_heads", config.num_heads},
                     {"num_kv_heads", config.num_kv_heads},
                     {"head_dim", config.head_dim},
                     {"causal", shape.causal},
                     {"mask", shape.mask},
                     {"weights", options_.weights},
                     {"kernel", layer.kernel_name()},
                     {"ms", seconds * 1e3},
                     {"gflops", gflops},
                     {"fraction", fraction}});
    if (options_.beside_threads > 0) {
      rows_.back()["beside_threads"] = options_.beside_threads;
      rows_.back()["speedup"] = 1.0 / measured.ratio;
    } else if (measured.ratio > 0) {
      rows_.back()["none_ms"] = measured.other_seconds * 1e3;
      rows_.back()["ratio_to_none"] = measured.ratio;
    }
  }

  const BenchOptions& options_;
  ComputeArena arena_;
  ComputeArena beside_arena_;
  std::map<std::string, std::unique_ptr<GemmPeak>> peaks_;
  std::map<std::string, std::vector<double>> seen_gflops_;
  std::optional<MemoryReader> reader_;
  nlohmann::json rows_ = nlohmann::json::array();
};

// The GEMM's OpenMP threads spin for a while after each product, by default, and would take the layer's
// cores. OpenMP reads its settings before main.
void MakeOpenMpPassive(char** argv) {
  if (std::getenv("OMP_WAIT_POLICY") != nullptr) return;
  setenv("OMP_WAIT_POLICY", "passive", 1);
  execv("/proc/self/exe", argv);
}

}  // namespace
}  // namespace headlight::bench

int main(int argc, char** argv) {
  headlight::bench::MakeOpenMpPassive(argv);
  headlight::bench::BenchOptions options;
  CLI::App app("Speed of the attention layer as a fraction of the GEMM peak of the same run");
  app.add_option("--threads", options.threads, "Compute threads (default: what this process may use)");
  app.add_option("--beside-threads", options.beside_threads,
                 "Also run each shape, in turns, on so many threads, and say how much faster --threads is")
      ->check(CLI::PositiveNumber);
  app.add_option("--repetitions", options.repetitions, "Measured runs of each shape; the median counts")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--precision", options.precisions, "Precisions, separated by commas")
      ->delimiter(',')
      ->capture_default_str()
      ->check(CLI::IsMember(headlight::bench::kPrecisions));
  app.add_option("--parameters-precision", options.parameters,
                 "What whole models hold parameters in, separated by commas")
      ->delimiter(',')
      ->capture_default_str()
      ->check(CLI::IsMember(headlight::bench::kPrecisions));
  app.add_flag("--reads", options.reads,
               "Of whole models: read a large block between runs, and compare with its bandwidth");
  app.add_option("--kernel", options.kernel, "Kernel to force (default: the fastest that accepts the layer)");
  app.add_option("--shapes", options.shapes, "File of shapes")->capture_default_str();
  app.add_option("--weights", options.weights, "Attention weights to ask for")
      ->capture_default_str()
      ->check(CLI::IsMember(headlight::bench::kModes));
  std::vector<std::string> names;
  for (const auto& [name, config] : headlight::bench::Families()) names.push_back(name);
  app.add_option("--family", options.families,
                 "Instead of shapes: random models of these, from ids to pooled vectors")
      ->delimiter(',')
      ->check(CLI::IsMember(names));
  app.add_option("--model", options.model,
                 "Instead of shapes: the model of this folder, from ids (or embeddings) to pooled vectors");
  app.add_option("--lengths", options.lengths, "What whole models compute: BATCHxSEQ_LEN")
      ->capture_default_str();
  app.add_option("--json", options.json, "Also write the results to this file");
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = headlight::bench::Bench(options).Run();
  if (!status.ok()) std::cerr << "attention_bench: " << status.ToString() << "\n";
  return status.ok() ? 0 : 1;
}
