// SPDX-License-Identifier: Apache-2.0
#include "tests/core/bits/bit_cases.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <random>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/attention/layer.h"
#include "core/base/status_macros.h"
#include "core/base/uniform_source.h"
#include "core/model/model.h"
#include "core/model/parameters.h"
#include "core/product/arithmetic.h"
#include "core/runtime/compute_arena.h"
#include "core/simd/targets.h"
#include "tests/core/model/test_model.h"
#include "tests/core/testing/test_problem.h"
#include "tests/golden/golden_case.h"
#include "tests/golden/rounded_parameters.h"
#include "tests/testing/slow_crc32c.h"

namespace headlight::testing {
namespace {

template <typename T>
void Extend(uint32_t& crc, const std::vector<T>& numbers) {
  crc = ExtendSlowCrc32c(crc, numbers.data(), numbers.size() * sizeof(T));
}

absl::Status CheckPrecision(Precision got, const BitsRun& run) {
  if (got == run.precision) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat("computed in ", Name(got)));
}

// Sequences of a batch that are computed together.
std::vector<std::vector<size_t>> Batches(size_t sequences, bool batched) {
  std::vector<std::vector<size_t>> batches(batched ? 1 : sequences);
  for (size_t i = 0; i < sequences; ++i) batches[batched ? 0 : i].push_back(i);
  return batches;
}

class Draws {
 public:
  explicit Draws(uint64_t seed) : twister_(seed) {}

  int64_t Int(int64_t min, int64_t max) {
    return min + static_cast<int64_t>(twister_() % static_cast<uint64_t>(max - min + 1));
  }
  bool OneIn(int64_t n) { return Int(1, n) == 1; }
  uint64_t Seed() { return twister_(); }
  std::vector<float> Floats(int64_t size, float amplitude) {
    return UniformSource(Seed()).Draw(size, amplitude);
  }

 private:
  std::mt19937_64 twister_;
};

struct Problem {
  TestLayer layer;
  std::vector<TestSequence> sequences;
  std::vector<SinkRequest> requests;
};

absl::StatusOr<uint32_t> Compute(const Problem& problem, const BitsRun& run) {
  AttentionConfig config = problem.layer.config;
  AttentionParameters parameters = problem.layer.weights;
  config.precision = run.precision;
  if (run.rounded_before) {
    RoundParameters(run.parameters, config, parameters);
  } else {
    config.parameters_precision = run.parameters;
  }
  HEADLIGHT_ASSIGN_OR_RETURN(const AttentionLayer layer,
                             AttentionLayer::Create(config, parameters, run.kernel));
  HEADLIGHT_RETURN_IF_ERROR(CheckPrecision(layer.precision(), run));
  ComputeArena arena(run.num_threads);
  const std::unique_ptr<Workspace> workspace = layer.NewWorkspace(arena);
  uint32_t crc = 0;
  for (const std::vector<size_t>& sequences : Batches(problem.sequences.size(), run.batched)) {
    std::vector<const TestSequence*> of_batch;
    std::vector<SinkRequest> requests;
    for (const size_t i : sequences) {
      of_batch.push_back(&problem.sequences[i]);
      requests.push_back(problem.requests[i]);
    }
    TestBatch batch(config, of_batch, requests);
    HEADLIGHT_RETURN_IF_ERROR(layer.Forward(batch.batch(), arena, *workspace));
    for (size_t i = 0; i < sequences.size(); ++i) {
      const TestResults results = batch.Results(static_cast<int64_t>(i));
      Extend(crc, results.output);
      Extend(crc, results.weights);
      Extend(crc, results.keys);
      Extend(crc, results.received_mass);
    }
  }
  return crc;
}

TestSequence DrawSequence(Draws& draws, const AttentionConfig& config, int64_t q_len, int64_t kv_len,
                          float amplitude) {
  TestSequence sequence;
  sequence.q_len = q_len;
  sequence.kv_len = kv_len;
  sequence.query = draws.Floats(q_len * config.embed_dim, amplitude);
  sequence.key = draws.Floats(kv_len * config.kdim, amplitude);
  sequence.value = draws.Floats(kv_len * config.vdim, amplitude);
  return sequence;
}

// Forbids some keys, all of them to some queries; one of numbers adds terms, large ones too.
TestMask DrawMask(Draws& draws, int64_t num_heads, int64_t q_len, int64_t kv_len) {
  const bool of_numbers = draws.OneIn(2);
  const int64_t heads = draws.OneIn(2) ? 1 : num_heads;
  TestMask mask(of_numbers ? DType::kF32 : DType::kBool, heads, q_len, kv_len);
  for (int64_t head = 0; head < heads; ++head) {
    for (int64_t query = 0; query < q_len; ++query) {
      const bool forbids_all = draws.OneIn(8);
      for (int64_t key = 0; key < kv_len; ++key) {
        const int64_t kind = forbids_all ? 0 : draws.Int(0, 9);
        if (!of_numbers) {
          mask.SetAllowed(head, query, key, kind > 2);
        } else if (kind < 2) {
          mask.SetTerm(head, query, key, -std::numeric_limits<float>::infinity());
        } else {
          mask.SetTerm(head, query, key, kind == 2 ? -1e9f : static_cast<float>(draws.Int(-64, 64)) / 16);
        }
      }
    }
  }
  return mask;
}

SinkRequest DrawSink(Draws& draws, const AttentionConfig& config, const TestSequence& sequence) {
  SinkRequest request;
  request.mode = kSinkModes[draws.Int(0, std::size(kSinkModes) - 1)];
  if (draws.OneIn(3)) request.heads = {draws.Int(0, config.num_heads - 1)};
  if (draws.OneIn(3)) {
    request.query_begin = draws.Int(0, sequence.q_len - 1);
    request.query_end = draws.Int(request.query_begin, sequence.q_len);
  }
  request.top_k = draws.Int(1, draws.OneIn(3) ? sequence.kv_len + 1 : 8);
  return request;
}

RopeConfig DrawRope(Draws& draws, int64_t head_dim) {
  RopeConfig rope;
  rope.theta = draws.OneIn(2) ? 10000.0 : 500.0;
  rope.rotary_dim = 2 * draws.Int(std::min<int64_t>(2, head_dim / 2), head_dim / 2);
  rope.interleaved = draws.OneIn(2);
  rope.scaling = static_cast<RopeConfig::Scaling>(draws.Int(0, 4));
  if (rope.scaling == RopeConfig::Scaling::kNtk && rope.rotary_dim == 2) rope.scaling = {};
  if (rope.scaling != RopeConfig::Scaling::kNone) rope.factor = static_cast<double>(draws.Int(4, 32)) / 4;
  rope.original_max_len = draws.Int(16, 200);
  return rope;
}

AttentionConfig DrawConfig(Draws& draws) {
  constexpr int64_t kHeadColumns = 512;
  AttentionConfig config;
  config.head_dim = kHeadDims[draws.Int(0, std::size(kHeadDims) - 1)];
  config.num_heads = draws.Int(1, std::min<int64_t>(8, kHeadColumns / config.head_dim));
  do {
    config.num_kv_heads = draws.Int(1, config.num_heads);
  } while (config.num_heads % config.num_kv_heads != 0);
  config.embed_dim = draws.OneIn(2) ? config.num_heads * config.head_dim : draws.Int(1, 300);
  if (draws.OneIn(3)) config.logit_softcap = static_cast<double>(draws.Int(1, 60)) / 2;
  config.alibi = draws.OneIn(4);
  config.sinks = draws.OneIn(4);
  if (draws.OneIn(4)) config.window_left = draws.Int(0, 100);
  if (draws.OneIn(4)) config.window_right = draws.Int(0, 100);
  if (draws.OneIn(4)) config.scale = static_cast<double>(draws.Int(-16, 64)) / 64;
  if (draws.OneIn(4)) config.relative_bias = RelativeBiasConfig{.max_distance = draws.Int(20, 200)};
  if (draws.OneIn(8)) {
    config.num_kv_heads = config.num_heads;
    config.disentangled = DisentangledConfig{.num_buckets = draws.Int(2, 80),
                                             .query_to_position = !draws.OneIn(4),
                                             .key_to_position = !draws.OneIn(4),
                                             .own_projections = draws.OneIn(2)};
    if (draws.OneIn(2)) config.disentangled->norm_eps = 1e-7;
    return config;
  }
  if (draws.OneIn(2)) config.kdim = draws.Int(1, 200);
  if (draws.OneIn(2)) config.vdim = draws.Int(1, 200);
  if (draws.OneIn(2)) config.rope = DrawRope(draws, config.head_dim);
  config.qk_norm = static_cast<QkNorm>(draws.OneIn(2) ? 0 : draws.Int(1, 2));
  config.add_bias_kv = draws.OneIn(4);
  config.add_zero_attn = draws.OneIn(4);
  return config;
}

Problem DrawProblem(uint64_t seed) {
  Draws draws(seed);
  Problem problem;
  AttentionParameters& weights = problem.layer.weights;
  problem.layer.config = DrawConfig(draws).Resolved();
  weights = RandomParameters(problem.layer.config, draws.Seed());
  for (std::vector<float>* bias : {&weights.bq, &weights.bk, &weights.bv, &weights.bo}) {
    if (draws.OneIn(4)) bias->clear();
  }
  const AttentionConfig& config = problem.layer.config;
  const int64_t sequences = draws.Int(1, 4);
  for (int64_t i = 0; i < sequences; ++i) {
    const int64_t longest = draws.OneIn(8) ? 700 : 150;
    const int64_t q_len = draws.OneIn(4) ? 1 : draws.Int(1, 150);
    const int64_t kv_len = draws.OneIn(2) ? q_len : draws.Int(1, longest);
    // The scores of some run away, and are done again exactly.
    const float amplitude = draws.OneIn(4) ? 16.0f : 1.0f;
    TestSequence sequence = DrawSequence(draws, config, q_len, kv_len, amplitude);
    sequence.visibility.causal = draws.OneIn(3);
    if (draws.OneIn(5)) sequence.visibility.window_left = draws.Int(0, 200);
    if (draws.OneIn(5)) sequence.visibility.window_right = draws.Int(0, 200);
    if (draws.OneIn(3)) sequence.mask = DrawMask(draws, config.num_heads, q_len, kv_len);
    problem.requests.push_back(DrawSink(draws, config, sequence));
    problem.sequences.push_back(std::move(sequence));
  }
  return problem;
}

// Lengths around tiles and panels; every third sequence causal, a mode of weights each in turn.
Problem SemanticProblem(const AttentionConfig& config, bool masked, uint64_t seed) {
  constexpr int64_t kLengths[][2] = {{1, 1},   {5, 3},   {64, 64}, {130, 130},
                                     {31, 31}, {70, 20}, {1, 520}, {40, 600}};
  Draws draws(seed);
  Problem problem;
  problem.layer.config = config.Resolved();
  problem.layer.weights = RandomParameters(problem.layer.config, seed);
  for (const auto& [q_len, kv_len] : kLengths) {
    const size_t i = problem.sequences.size();
    TestSequence sequence = DrawSequence(draws, problem.layer.config, q_len, kv_len, 1.0f);
    sequence.visibility.causal = i % 3 == 0;
    if (masked) sequence.mask = DrawMask(draws, config.num_heads, q_len, kv_len);
    problem.sequences.push_back(std::move(sequence));
    problem.requests.push_back({.mode = kSinkModes[(i + seed) % std::size(kSinkModes)]});
  }
  return problem;
}

struct Semantic {
  const char* name;
  AttentionConfig config;
  bool masked = false;
};

std::vector<Semantic> Semantics() {
  using Scaling = RopeConfig::Scaling;
  const AttentionConfig plain = {.embed_dim = 64, .num_heads = 2};
  const auto with = [&](auto&& change) {
    AttentionConfig config = plain;
    change(config);
    return config;
  };
  return {
      {"cross-attention",
       {.embed_dim = 75, .num_heads = 6, .num_kv_heads = 3, .head_dim = 17, .kdim = 33, .vdim = 29}},
      {"grouped-queries", {.embed_dim = 128, .num_heads = 8, .num_kv_heads = 2, .head_dim = 64}},
      {"windows", with([](AttentionConfig& c) { c.window_left = 20, c.window_right = 5; })},
      {"masks", plain, /*masked=*/true},
      {"rope-interleaved-llama3", with([](AttentionConfig& c) {
         c.rope = RopeConfig{.interleaved = true, .scaling = Scaling::kLlama3, .factor = 8.0};
         c.rope->original_max_len = 64;
       })},
      {"rope-partial-yarn", with([](AttentionConfig& c) {
         c.rope = RopeConfig{.rotary_dim = 20, .scaling = Scaling::kYarn, .factor = 4.0};
         c.rope->original_max_len = 64;
       })},
      {"alibi", with([](AttentionConfig& c) { c.alibi = true; })},
      {"relative-bias", with([](AttentionConfig& c) { c.relative_bias = RelativeBiasConfig{}; })},
      {"disentangled", with([](AttentionConfig& c) {
         c.disentangled = DisentangledConfig{.num_buckets = 32, .max_distance = 60, .norm_eps = 1e-7};
       })},
      {"softcap-and-sinks", with([](AttentionConfig& c) { c.logit_softcap = 8.0, c.sinks = true; })},
      {"qk-norm", with([](AttentionConfig& c) { c.qk_norm = QkNorm::kAllHeads; })},
      // Scores of a few hundred: exact rows, and powers at both ends of what f32 holds.
      {"appended-keys-and-large-scores",
       with([](AttentionConfig& c) { c.add_bias_kv = c.add_zero_attn = true, c.scale = 200.0; })},
  };
}

constexpr const char* kFamilies[] = {"mha-packed",   "mha-separate", "mha-no-bias", "encoder-layer-pre",
                                     "encoder-post", "bert",         "roberta",     "distilbert",
                                     "gpt2",         "llama",        "mistral",     "qwen2",
                                     "qwen3",        "olmo2",        "phi3",        "gemma3-text",
                                     "gpt-neox",     "mpnet",        "electra",     "albert",
                                     "modernbert",   "nomic_bert",   "nomic-old",   "gte",
                                     "new",          "jina-bert",    "deberta",     "deberta-v2"};

absl::StatusOr<uint32_t> ComputeFamily(const std::string& family, const BitsRun& run) {
  const std::string folder = absl::StrCat(HEADLIGHT_GOLDEN_MODELS, "/", family);
  HEADLIGHT_ASSIGN_OR_RETURN(const GoldenRun golden,
                             RunGoldenCase(folder, folder + ".case.safetensors", run.precision,
                                           {.kernel = run.kernel,
                                            .num_threads = run.num_threads,
                                            .batched = run.batched,
                                            .parameters = run.parameters,
                                            .rounded_before = run.rounded_before}));
  HEADLIGHT_RETURN_IF_ERROR(CheckPrecision(golden.precision, run));
  uint32_t crc = 0;
  Extend(crc, golden.output);
  Extend(crc, golden.weights);
  for (const GoldenOutput& output : golden.outputs) Extend(crc, output.output);
  return crc;
}

absl::StatusOr<uint32_t> ComputeModel(const ModelConfig& unresolved, const BitsRun& run) {
  const std::vector<int64_t> kLengths = {1, 37, 64, 150, 3};
  ModelConfig config = unresolved.Resolved();
  ModelParameters parameters = RandomModelParameters(config, 11);
  config.SetPrecision(run.precision);
  if (run.rounded_before) {
    RoundParameters(run.parameters, config, parameters);
  } else {
    config.SetParametersPrecision(run.parameters);
  }
  HEADLIGHT_ASSIGN_OR_RETURN(const Model model, Model::Create(config, parameters, run.kernel));
  HEADLIGHT_RETURN_IF_ERROR(CheckPrecision(model.attention().precision(), run));
  ComputeArena arena(run.num_threads);
  const std::unique_ptr<ModelWorkspace> workspace = model.NewWorkspace(arena);
  uint32_t crc = 0;
  for (const std::vector<size_t>& sequences : Batches(kLengths.size(), run.batched)) {
    std::vector<int64_t> lengths;
    std::vector<uint64_t> seeds;
    for (const size_t i : sequences) {
      lengths.push_back(kLengths[i]);
      seeds.push_back(i + 1);
    }
    ModelInputs inputs(config, lengths, seeds);
    HEADLIGHT_RETURN_IF_ERROR(model.Forward(inputs.Batch(), arena, *workspace));
    Extend(crc, inputs.output);
  }
  return crc;
}

}  // namespace

std::vector<BitsCase> GoldenBits() {
  std::vector<BitsCase> cases;
  for (const Semantic& semantic : Semantics()) {
    const uint64_t seed = cases.size();
    cases.push_back({semantic.name, [semantic, seed](const BitsRun& run) {
                       return Compute(SemanticProblem(semantic.config, semantic.masked, seed), run);
                     }});
  }
  for (const std::string family : kFamilies) {
    cases.push_back({family, [family](const BitsRun& run) { return ComputeFamily(family, run); }});
  }
  return cases;
}

BitsCase RandomProblemBits(uint64_t seed) {
  return {absl::StrCat("problem-", seed),
          [seed](const BitsRun& run) { return Compute(DrawProblem(seed), run); }};
}

std::vector<BitsCase> ModelConfigBits() {
  std::vector<BitsCase> cases;
  for (const NamedConfig& named : ModelConfigs()) {
    cases.push_back({absl::StrCat("model-", named.name),
                     [config = named.config](const BitsRun& run) { return ComputeModel(config, run); }});
  }
  return cases;
}

std::vector<std::string> KernelsOfF32() {
  MatchSimdToOneDnn();
  std::vector<std::string> kernels;
  for (const ProductKind& kind : ProductKinds()) {
    if (kind.Accepts(Precision::kF32).ok()) kernels.push_back(kind.name);
  }
  return kernels;
}

std::vector<std::string> KernelsOfTheSameBits() {
  MatchSimdToOneDnn();
  std::vector<std::string> kernels;
  for (const ProductKind& kind : ProductKinds()) {
    if (&kind.provider != &kMatmulProvider && kind.Accepts(Precision::kF32).ok())
      kernels.push_back(kind.name);
  }
  return kernels;
}

bool HasFusedMultiplyAdds() {
  MatchSimdToOneDnn();
  return absl::StartsWith(SimdTargetName(), "AVX");
}

}  // namespace headlight::testing
