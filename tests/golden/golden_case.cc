// SPDX-License-Identifier: Apache-2.0
#include "tests/golden/golden_case.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/checkpoint/safetensors.h"
#include "core/model/heads/model_heads.h"
#include "core/model/model.h"
#include "core/model/pooling.h"
#include "core/product/arithmetic.h"
#include "core/runtime/compute_arena.h"
#include "tests/golden/rounded_parameters.h"

namespace headlight {
namespace {

// The elements of a tensor of the case as T, which must be what the file holds; empty if it is not there.
template <typename T>
absl::StatusOr<std::vector<T>> Read(const SafetensorsFile& file, const std::string& name,
                                    const std::string& dtype) {
  const auto found = file.entries().find(name);
  if (found == file.entries().end()) return std::vector<T>();
  const SafetensorsEntry& entry = found->second;
  if (entry.dtype != dtype) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": got ", entry.dtype, ", wanted ", dtype));
  }
  std::vector<T> values(entry.bytes.size() / sizeof(T));
  std::memcpy(values.data(), entry.bytes.data(), values.size() * sizeof(T));
  return values;
}

std::vector<int64_t> Cumulated(const std::vector<int64_t>& lens) {
  std::vector<int64_t> sums = {0};
  for (const int64_t len : lens) sums.push_back(sums.back() + len);
  return sums;
}

struct Inputs {
  std::vector<float> query, key, value;
  std::vector<int32_t> ids, token_types;
  std::vector<int64_t> lens, kv_lens;
};

absl::StatusOr<Inputs> ReadInputs(const SafetensorsFile& file) {
  Inputs inputs;
  HEADLIGHT_ASSIGN_OR_RETURN(inputs.query, Read<float>(file, "query", "F32"));
  HEADLIGHT_ASSIGN_OR_RETURN(inputs.key, Read<float>(file, "key", "F32"));
  HEADLIGHT_ASSIGN_OR_RETURN(inputs.value, Read<float>(file, "value", "F32"));
  HEADLIGHT_ASSIGN_OR_RETURN(const std::vector<int64_t> ids, Read<int64_t>(file, "ids", "I64"));
  HEADLIGHT_ASSIGN_OR_RETURN(const std::vector<int64_t> types, Read<int64_t>(file, "token_types", "I64"));
  inputs.ids.assign(ids.begin(), ids.end());
  inputs.token_types.assign(types.begin(), types.end());
  HEADLIGHT_ASSIGN_OR_RETURN(inputs.lens, Read<int64_t>(file, "lens", "I64"));
  HEADLIGHT_ASSIGN_OR_RETURN(inputs.kv_lens, Read<int64_t>(file, "kv_lens", "I64"));
  if (inputs.kv_lens.empty()) inputs.kv_lens = inputs.lens;
  return inputs;
}

// Sinks for all weights of all sequences, one after the other in `weights`.
void AskForWeights(const AttentionConfig& config, const Inputs& inputs, std::vector<SequenceOptions>& options,
                   std::vector<float>& weights) {
  int64_t size = 0;
  for (size_t i = 0; i < inputs.lens.size(); ++i) {
    size += config.num_heads * inputs.lens[i] * (inputs.kv_lens[i] + config.num_appended_keys());
  }
  weights.resize(size);
  float* next = weights.data();
  for (size_t i = 0; i < inputs.lens.size(); ++i) {
    const int64_t keys = inputs.kv_lens[i] + config.num_appended_keys();
    options[i].weights = {.mode = WeightsSink::Mode::kFull,
                          .data = next,
                          .head_stride = inputs.lens[i] * keys,
                          .query_stride = keys};
    next += config.num_heads * inputs.lens[i] * keys;
  }
}

// Sequences [first, end) of the inputs.
absl::Status ComputeSequences(const Model& model, const Inputs& inputs, size_t first, size_t end,
                              std::span<const SequenceOptions> options, ComputeArena& arena,
                              ModelWorkspace& workspace, GoldenRun& run) {
  const AttentionConfig& config = model.config().block.attention;
  const auto cumulated = [&](const std::vector<int64_t>& lens) {
    return Cumulated({lens.begin() + static_cast<int64_t>(first), lens.begin() + static_cast<int64_t>(end)});
  };
  const auto before = [&](const std::vector<int64_t>& lens) {
    return Cumulated({lens.begin(), lens.begin() + static_cast<int64_t>(first)}).back();
  };
  const std::vector<int64_t> cu_lens = cumulated(inputs.lens);
  const std::vector<int64_t> cu_kv_lens = cumulated(inputs.kv_lens);
  const int64_t row = before(inputs.lens), kv_row = before(inputs.kv_lens);
  const auto rows_of = [](const std::vector<float>& numbers, int64_t from, int64_t rows, int64_t cols) {
    return MatrixView{numbers.data() + from * cols, rows, cols, cols};
  };
  ModelBatch batch;
  if (model.config().embedding) {
    batch.token_ids = std::span(inputs.ids).subspan(row, cu_lens.back());
    if (!inputs.token_types.empty()) {
      batch.token_types = std::span(inputs.token_types).subspan(row, cu_lens.back());
    }
  } else {
    batch.attention.query = rows_of(inputs.query, row, cu_lens.back(), config.embed_dim);
    batch.attention.key = batch.attention.value = batch.attention.query;  // self attention, unless
    if (!inputs.key.empty()) {
      batch.attention.key = rows_of(inputs.key, kv_row, cu_kv_lens.back(), config.kdim);
      batch.attention.value = rows_of(inputs.value, kv_row, cu_kv_lens.back(), config.vdim);
    }
  }
  batch.attention.output = {run.output.data() + row * config.embed_dim, cu_lens.back(), config.embed_dim,
                            config.embed_dim};
  batch.attention.cu_q_lens = cu_lens;
  batch.attention.cu_kv_lens = cu_kv_lens;
  batch.attention.sequences = options.subspan(first, end - first);
  return model.Forward(batch, arena, workspace);
}

absl::Status Compute(const Model& model, const Inputs& inputs, const GoldenHow& how, GoldenRun& run) {
  const AttentionConfig& config = model.config().block.attention;
  std::vector<SequenceOptions> options(inputs.lens.size());
  if (!run.expected_weights.empty()) AskForWeights(config, inputs, options, run.weights);
  run.output.resize(Cumulated(inputs.lens).back() * config.embed_dim);
  ComputeArena arena(how.num_threads);
  const std::unique_ptr<ModelWorkspace> workspace = model.NewWorkspace(arena);
  const size_t at_once = how.batched ? inputs.lens.size() : 1;
  for (size_t first = 0; first < inputs.lens.size(); first += at_once) {
    HEADLIGHT_RETURN_IF_ERROR(
        ComputeSequences(model, inputs, first, first + at_once, options, arena, *workspace, run));
  }
  return absl::OkStatus();
}

// Nobody waits for less than everything.
class Always final : public Interruption {
 public:
  bool MayGoOn() const override { return true; }
};

// Of hidden states [tokens, embed_dim].
std::vector<float> OutputOf(const Model& model, OutputKind kind, MatrixView hidden,
                            const std::vector<int64_t>& cu_lens, const std::vector<int32_t>& ids) {
  const ModelConfig& config = model.config();
  const auto sequences = static_cast<int64_t>(cu_lens.size()) - 1;
  const auto through = [](const PackedRowSteps& steps, MatrixView rows) {
    std::vector<float> out(rows.rows * steps.out_dim());
    steps.Run(rows, {out.data(), rows.rows, steps.out_dim(), steps.out_dim()}, Always());
    return out;
  };
  if (kind == OutputKind::kPooled || kind == OutputKind::kScores) {
    const bool scores = kind == OutputKind::kScores;
    std::vector<Pooling> poolings = config.pooling;
    if (scores) poolings = {PoolingOf(model.heads().For(kind).config().scores_of)};
    const int64_t width = static_cast<int64_t>(poolings.size()) * hidden.cols;
    std::vector<float> raw(sequences * width);
    PoolSequences(hidden, cu_lens, poolings, false, {raw.data(), sequences, width, width});
    std::vector<float> out = through(scores ? model.heads().For(kind).steps() : model.heads().pooled_steps(),
                                     {raw.data(), sequences, width, width});
    const int64_t dim = config.pooled_dim();
    if (!scores && config.normalize_pooled) NormalizeRows({out.data(), sequences, dim, dim});
    return out;
  }
  const PackedHead& head = model.heads().For(kind);
  std::vector<float> kept;
  for (int64_t i = 0; i < sequences; ++i) {
    const int64_t first = std::min(cu_lens[i] + head.config().skipped_tokens, cu_lens[i + 1]);
    kept.insert(kept.end(), hidden.Row(first), hidden.Row(cu_lens[i + 1]));
  }
  const int64_t rows = static_cast<int64_t>(kept.size()) / hidden.cols;
  std::vector<float> out = through(head.steps(), {kept.data(), rows, hidden.cols, hidden.cols});
  const int64_t width = head.steps().out_dim();
  if (kind == OutputKind::kTokenVectors) NormalizeRows({out.data(), rows, width, width});
  if (head.config().kind == HeadKind::kTokenWeights) {
    std::vector<float> weights(sequences * config.embedding->vocab_size);
    for (int64_t i = 0; i < sequences; ++i) {
      const auto begin = static_cast<size_t>(cu_lens[i]);
      const auto len = static_cast<size_t>(cu_lens[i + 1]) - begin;
      for (const SparseEntry& entry :
           SparseOfTokens(std::span(out).subspan(begin, len), std::span(ids).subspan(begin, len),
                          head.config().silent_ids, 0)) {
        weights[i * config.embedding->vocab_size + entry.id] = entry.weight;
      }
    }
    return weights;
  }
  if (head.config().kind != HeadKind::kLanguageModel) return out;
  const VocabProducts& vocab = head.vocab();
  const bool sparse = kind == OutputKind::kSparse;
  const int64_t out_rows = sparse ? sequences : rows;
  std::vector<float> logits(out_rows * vocab.vocab_size());
  const MutableMatrixView to = {logits.data(), out_rows, vocab.vocab_size(), vocab.vocab_size()};
  const MatrixView from = {out.data(), rows, width, width};
  if (sparse) {
    vocab.SparseWeights(from, cu_lens, 0, vocab.num_panels(), to, Always());
  } else {
    vocab.Logits(from, 0, vocab.num_panels(), to, Always());
  }
  return logits;
}

absl::Status ComputeOutputs(const Model& model, const SafetensorsFile& file, const Inputs& inputs,
                            GoldenRun& run) {
  const std::vector<int64_t> cu_lens = Cumulated(inputs.lens);
  for (const OutputKind kind : kAllOutputKinds) {
    HEADLIGHT_ASSIGN_OR_RETURN(std::vector<float> expected,
                               Read<float>(file, absl::StrCat("outputs.", Name(kind)), "F32"));
    if (expected.empty()) continue;
    if (!model.config().Gives(kind)) {
      return absl::NotFoundError(absl::StrCat("outputs.", Name(kind), ": the model has none: ",
                                              model.config().heads.WhyNot(kind), model.config().no_pooling));
    }
    const MatrixView hidden = {run.output.data(), cu_lens.back(), run.embed_dim, run.embed_dim};
    run.outputs.push_back({kind, OutputOf(model, kind, hidden, cu_lens, inputs.ids), std::move(expected)});
  }
  return absl::OkStatus();
}

// In the precision that the config asks for if any kernel is able to, even where this CPU is faster in f32.
absl::StatusOr<Model> CreateInItsPrecision(const ModelConfig& config, const ModelParameters& weights) {
  absl::StatusOr<Model> model = Model::Create(config, weights);
  if (!model.ok() || model->attention().precision() == config.block.attention.precision) return model;
  for (const ProductKind& kind : ProductKinds()) {
    absl::StatusOr<Model> named = Model::Create(config, weights, kind.name);
    if (named.ok()) return named;
  }
  return model;
}

}  // namespace

absl::StatusOr<GoldenRun> RunGoldenCase(const std::string& folder, const std::string& case_file,
                                        Precision precision, const GoldenHow& how) {
  HEADLIGHT_ASSIGN_OR_RETURN(LoadedModelFolder loaded, LoadModelFolder(folder));
  HEADLIGHT_ASSIGN_OR_RETURN(const auto file, SafetensorsFile::Open(case_file));
  HEADLIGHT_ASSIGN_OR_RETURN(const Inputs inputs, ReadInputs(*file));
  GoldenRun run;
  HEADLIGHT_ASSIGN_OR_RETURN(run.expected_output, Read<float>(*file, "output", "F32"));
  HEADLIGHT_ASSIGN_OR_RETURN(run.expected_weights, Read<float>(*file, "weights", "F32"));
  ModelConfig config = loaded.summary.config;
  config.SetPrecision(precision);
  if (how.rounded_before) {
    testing::RoundParameters(how.parameters, config.Resolved(), loaded.weights);
  } else {
    config.SetParametersPrecision(how.parameters);
  }
  HEADLIGHT_ASSIGN_OR_RETURN(const Model model, how.kernel.empty()
                                                    ? CreateInItsPrecision(config, loaded.weights)
                                                    : Model::Create(config, loaded.weights, how.kernel));
  run.precision = model.attention().precision();
  run.embed_dim = config.block.attention.embed_dim;
  run.summary = std::move(loaded.summary);
  HEADLIGHT_RETURN_IF_ERROR(Compute(model, inputs, how, run));
  HEADLIGHT_RETURN_IF_ERROR(ComputeOutputs(model, *file, inputs, run));
  return run;
}

double MaxAbsError(const std::vector<float>& got, const std::vector<float>& expected) {
  if (got.size() != expected.size()) return std::numeric_limits<double>::infinity();
  double largest = 0.0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double error = std::abs(static_cast<double>(got[i]) - static_cast<double>(expected[i]));
    if (!(error <= largest)) largest = error;  // a NaN is an error too
  }
  return largest;
}

double Cosine(const std::vector<float>& got, const std::vector<float>& expected) {
  if (got.size() != expected.size()) return 0.0;
  double product = 0.0;
  double got_norm = 0.0;
  double expected_norm = 0.0;
  for (size_t i = 0; i < got.size(); ++i) {
    product += static_cast<double>(got[i]) * static_cast<double>(expected[i]);
    got_norm += static_cast<double>(got[i]) * static_cast<double>(got[i]);
    expected_norm += static_cast<double>(expected[i]) * static_cast<double>(expected[i]);
  }
  return product / std::sqrt(got_norm * expected_norm);
}

}  // namespace headlight
