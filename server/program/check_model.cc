// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "core/attention/batch.h"
#include "core/base/status_macros.h"
#include "core/base/text.h"
#include "core/checkpoint/folder.h"
#include "core/checkpoint/memory_estimate.h"
#include "core/model/model.h"
#include "core/model/precision_error.h"
#include "core/model/pooling.h"
#include "core/runtime/compute_arena.h"
#include "server/models/loaded_model.h"
#include "server/models/precision_choice.h"
#include "server/program/parse_arguments.h"
#include "server/program/program_commands.h"

namespace headlight {
namespace {

void PrintRow(std::ostream& out, const std::string& name, const std::string& value) {
  out << absl::StrFormat("%-18s %s\n", name, value);
}

const char* NameOf(NormKind kind) { return kind == NormKind::kLayerNorm ? "LayerNorm" : "RMSNorm"; }

std::string NormText(const BlockConfig& block) {
  const std::string kind = NameOf(block.norm_kind);
  switch (block.norm_placement) {
    case NormPlacement::kNone:
      return "none: attention alone";
    case NormPlacement::kPost:
      return absl::StrCat(kind, " after each part (post), eps ", block.norm_eps);
    case NormPlacement::kPre:
      return absl::StrCat(kind, " before each part (pre), eps ", block.norm_eps);
    case NormPlacement::kSandwich:
      return absl::StrCat(kind, " before and after each part (sandwich), eps ", block.norm_eps);
    case NormPlacement::kBranch:
      return absl::StrCat(kind, " after each part, before it is added (branch), eps ", block.norm_eps);
    case NormPlacement::kParallel:
      return absl::StrCat(kind, " before both parts, which read the same rows (parallel), eps ",
                          block.norm_eps);
  }
  return "";
}

std::string FeedForwardText(const BlockConfig& block) {
  if (block.norm_placement == NormPlacement::kNone) return "none";
  static constexpr const char* kNames[] = {"ReLU", "GELU (erf)", "GELU (tanh)", "SiLU"};
  const FeedForwardConfig& config = block.feed_forward;
  return absl::StrCat(block.attention.embed_dim, " -> ", config.hidden_dim, " -> ", block.attention.embed_dim,
                      ", ", kNames[static_cast<int>(config.activation)], config.gated ? ", gated" : "");
}

std::string InputText(const ModelConfig& config) {
  const AttentionConfig& attention = config.block.attention;
  if (!config.embedding) {
    std::string text = absl::StrCat("embeddings [tokens, ", attention.embed_dim, "]");
    if (attention.kdim != attention.embed_dim || attention.vdim != attention.embed_dim) {
      absl::StrAppend(&text, ", keys ", attention.kdim, " wide, values ", attention.vdim);
    }
    return text;
  }
  std::string text = absl::StrCat("token ids below ", config.embedding->vocab_size);
  if (config.embedding->dim != attention.embed_dim) {
    absl::StrAppend(&text, ", embeddings ", config.embedding->dim, " wide, projected");
  }
  if (config.embedding->scale != 1.0) absl::StrAppend(&text, ", times ", config.embedding->scale);
  if (config.embedding->max_seq_len() != INT64_MAX) {
    absl::StrAppend(&text, ", sequences up to ", config.embedding->max_seq_len(), " tokens");
  }
  if (config.embedding->num_token_types > 0) {
    absl::StrAppend(&text, ", ", config.embedding->num_token_types, " token types");
  }
  return text;
}

const char* ActivationText(RowActivation activation) {
  switch (activation) {
    case RowActivation::kIdentity:
      return "";
    case RowActivation::kRelu:
      return " (ReLU)";
    case RowActivation::kGeluErf:
      return " (GELU)";
    case RowActivation::kGeluTanh:
      return " (GELU, tanh)";
    case RowActivation::kSilu:
      return " (SiLU)";
    case RowActivation::kTanh:
      return " (tanh)";
    case RowActivation::kSigmoid:
      return " (sigmoid)";
  }
  return "";
}

std::string PoolingText(const ModelConfig& config) {
  if (config.pooling.empty()) return absl::StrCat("none: ", config.no_pooling);
  std::string text = Names(config.pooling);
  for (const RowStep& step : config.pooled_steps) {
    absl::StrAppend(&text, step.kind == RowStep::Kind::kDense
                               ? absl::StrCat(", dense to ", step.out_dim, ActivationText(step.activation))
                               : ", L2-normalised");
  }
  return absl::StrCat(text, config.normalize_pooled ? ", L2-normalised" : "");
}

std::string OutputsText(const ModelConfig& config) {
  std::string text;
  for (const OutputKind kind : kAllOutputKinds) {
    if (!config.Gives(kind)) continue;
    const int64_t width = config.OutputWidth(kind);
    absl::StrAppend(&text, text.empty() ? "" : ", ", Name(kind), " ", width);
    if (kind == OutputKind::kScores) {
      absl::StrAppend(&text, ActivationText(config.heads.Find(kind)->steps.back().activation));
    }
  }
  return text;
}

std::string RopeText(const RopeConfig& rope, int64_t head_dim) {
  std::string text = absl::StrCat("RoPE theta ", rope.theta);
  if (rope.rotary_dim != head_dim) absl::StrAppend(&text, " of ", rope.rotary_dim, " dimensions");
  if (rope.interleaved) absl::StrAppend(&text, " interleaved");
  switch (rope.scaling) {
    case RopeConfig::Scaling::kNone:
      break;
    case RopeConfig::Scaling::kLinear:
      absl::StrAppend(&text, " scaled linearly by ", rope.factor);
      break;
    case RopeConfig::Scaling::kNtk:
      absl::StrAppend(&text, " scaled (NTK) by ", rope.factor);
      break;
    case RopeConfig::Scaling::kLlama3:
      absl::StrAppend(&text, " scaled as Llama 3 by ", rope.factor, " (low ", rope.low_freq_factor, ", high ",
                      rope.high_freq_factor, ", trained to ", rope.original_max_len, ")");
      break;
    case RopeConfig::Scaling::kYarn:
      absl::StrAppend(&text, " scaled (YaRN) by ", rope.factor, " (fast ", rope.beta_fast, ", slow ",
                      rope.beta_slow, ", trained to ", rope.original_max_len, ")");
      break;
    case RopeConfig::Scaling::kByPair:
      absl::StrAppend(&text, " scaled by a factor for each pair");
      break;
  }
  if (rope.magnitude != 1.0) absl::StrAppend(&text, " times ", rope.magnitude);
  if (rope.max_len > 0) absl::StrAppend(&text, " up to ", rope.max_len, " tokens");
  return text;
}

std::string DistanceText(const AttentionConfig& attention) {
  std::string text;
  if (attention.relative_bias) {
    absl::StrAppend(&text, ", bias by ", attention.relative_bias->num_buckets, " buckets of distance up to ",
                    attention.relative_bias->max_distance);
  }
  if (attention.disentangled) {
    absl::StrAppend(&text, ", disentangled (", attention.disentangled->query_to_position ? "c2p " : "",
                    attention.disentangled->key_to_position ? "p2c " : "", "over ",
                    attention.disentangled->num_buckets, " buckets on each side)");
  }
  return text;
}

std::string AttentionText(const ModelConfig& config, const AttentionConfig& attention) {
  std::string text = absl::StrCat(attention.num_heads, " heads of ", attention.head_dim);
  if (attention.num_kv_heads != attention.num_heads) {
    absl::StrAppend(&text, ", ", attention.num_kv_heads, " key/value heads");
  }
  if (attention.rope) absl::StrAppend(&text, ", ", RopeText(*attention.rope, attention.head_dim));
  if (attention.qk_norm != QkNorm::kNone) {
    absl::StrAppend(&text, ", RMS norm of queries and keys ",
                    attention.qk_norm == QkNorm::kEachHead ? "by head" : "over all heads", ", eps ",
                    attention.qk_norm_eps);
  }
  if (attention.alibi) absl::StrAppend(&text, ", ALiBi");
  absl::StrAppend(&text, DistanceText(attention));
  if (attention.window_left) absl::StrAppend(&text, ", window_left ", *attention.window_left);
  if (attention.window_right) absl::StrAppend(&text, ", window_right ", *attention.window_right);
  if (attention.logit_softcap > 0) absl::StrAppend(&text, ", softcap ", attention.logit_softcap);
  if (*attention.scale != 1.0 / std::sqrt(static_cast<double>(attention.head_dim))) {
    absl::StrAppend(&text, ", scale ", *attention.scale);
  }
  if (config.scale_by_inverse_layer) absl::StrAppend(&text, ", scores divided by the number of the layer");
  if (config.causal) absl::StrAppend(&text, ", causal");
  return text;
}

// The numbers of the layers that are `block`: "0-3, 5".
std::string LayersOf(const ModelConfig& config, const BlockConfig& block) {
  std::vector<std::string> ranges;
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    if (&config.LayerBlock(layer) != &block) continue;
    const int64_t first = layer;
    while (layer + 1 < config.num_layers && &config.LayerBlock(layer + 1) == &block) ++layer;
    ranges.push_back(first == layer ? absl::StrCat(first) : absl::StrCat(first, "-", layer));
  }
  return absl::StrJoin(ranges, ", ");
}

// What layers are: all of them, or those of each kind.
void PrintLayers(const ModelConfig& config, std::ostream& out) {
  const bool alike = config.other_blocks.empty();
  config.ForEachBlock([&](const BlockConfig& block, int64_t) {
    if (!alike) PrintRow(out, "layers", LayersOf(config, block));
    PrintRow(out, "attention", AttentionText(config, block.attention));
    PrintRow(out, "norms", NormText(block));
    PrintRow(out, "feed-forward", FeedForwardText(block));
  });
}

void PrintSummary(const ModelSummary& summary, const ModelConfig& config, std::ostream& out) {
  const MemoryEstimate memory = EstimateMemory(config, summary.table_dtype);
  PrintRow(out, "layout", summary.format);
  PrintRow(out, "input", InputText(config));
  PrintRow(out, "layers",
           absl::StrCat(config.num_layers,
                        config.layer_parameters.empty() ? "" : ", some with the same parameters"));
  PrintRow(out, "embed_dim", absl::StrCat(config.block.attention.embed_dim));
  PrintLayers(config, out);
  if (config.final_norm) {
    PrintRow(out, "final norm",
             absl::StrCat(NameOf(*config.final_norm_kind), ", eps ", *config.final_norm_eps));
  }
  PrintRow(out, "pooling", PoolingText(config));
  PrintRow(out, "outputs", OutputsText(config));
  if (!config.heads.labels.empty()) PrintRow(out, "labels", Listed(config.heads.labels));
  for (const RefusedOutput& refused : config.heads.refused) {
    if (!config.Gives(refused.kind)) PrintRow(out, absl::StrCat("no ", Name(refused.kind)), refused.why);
  }
  PrintRow(out, "parameters", absl::StrCat(summary.num_parameters));
  PrintRow(out, "FLOPs per token",
           absl::StrCat(ProjectionFlopsPerToken(config),
                        " in projections and feed-forward networks; attention adds to them with length"));
  PrintRow(out, "memory",
           absl::StrCat(memory.packed_bytes, " bytes, at most ", memory.peak_bytes, " while loading"));
  PrintRow(out, "ignored tensors",
           summary.ignored_tensors.empty() ? "none" : absl::StrJoin(summary.ignored_tensors, ", "));
  PrintRow(out, "assumed", summary.assumed.empty() ? "nothing" : absl::StrJoin(summary.assumed, ", "));
  PrintRow(out, "not understood",
           summary.not_understood.empty() ? "nothing" : Listed(summary.not_understood));
}

// Computes a sequence of a few tokens. Errors as Model::Forward.
absl::Status RunOnce(const Model& model) {
  constexpr int64_t kTokens = 16;
  const ModelConfig& config = model.config();
  const AttentionConfig& attention = config.block.attention;
  const int64_t tokens = config.embedding ? std::min(kTokens, config.embedding->max_seq_len()) : kTokens;
  const std::array<int64_t, 2> bounds = {0, tokens};
  const std::array<SequenceOptions, 1> sequences;
  const int64_t width = std::max({attention.embed_dim, attention.kdim, attention.vdim});
  const std::vector<float> input(config.embedding ? 0 : tokens * width);
  const std::vector<int32_t> ids(config.embedding ? tokens : 0);
  std::vector<float> output(tokens * attention.embed_dim);
  ModelBatch batch;
  if (config.embedding) {
    batch.token_ids = ids;
  } else {
    batch.attention.query = {input.data(), tokens, attention.embed_dim, attention.embed_dim};
    batch.attention.key = {input.data(), tokens, attention.kdim, attention.kdim};
    batch.attention.value = {input.data(), tokens, attention.vdim, attention.vdim};
  }
  batch.attention.cu_q_lens = bounds;
  batch.attention.cu_kv_lens = bounds;
  batch.attention.sequences = sequences;
  batch.attention.output = {output.data(), tokens, attention.embed_dim, attention.embed_dim};
  ComputeArena arena(1);
  const std::unique_ptr<ModelWorkspace> workspace = model.NewWorkspace(arena);
  return model.Forward(batch, arena, *workspace);
}

// What stands on the command line, which is meant for this model: it wins over what config.json asks for.
struct CheckOptions {
  std::optional<Precision> precision;
  std::optional<Precision> parameters_precision;
  bool strict = false;
};

absl::Status Check(const std::string& dir, const CheckOptions& options, std::ostream& out) {
  HEADLIGHT_ASSIGN_OR_RETURN(const std::unique_ptr<const ModelFolder> folder, ModelFolder::Open(dir));
  const ModelSummary& summary = folder->summary();
  ModelConfig config = summary.config;
  if (options.precision) config.SetPrecision(*options.precision);
  if (options.parameters_precision) config.SetParametersPrecision(*options.parameters_precision);
  PrintSummary(summary, config, out);
  if (options.strict) HEADLIGHT_RETURN_IF_ERROR(CheckUnderstood(summary));
  HEADLIGHT_ASSIGN_OR_RETURN(const auto loaded, PackModel(dir, "1", summary.format, config, *folder, ""));
  HEADLIGHT_RETURN_IF_ERROR(RunOnce(loaded->model));
  const AttentionLayer& attention = loaded->model.attention();
  PrintRow(out, "kernel", std::string(attention.kernel_name()));
  PrintRow(out, "precision", PrecisionText(attention));
  if (!attention.precision_note().empty()) PrintRow(out, "", std::string(attention.precision_note()));
  PrintRow(out, "packed", absl::StrCat(loaded->model.packed_bytes(), " bytes"));
  PrintRow(out, "error against f32",
           absl::StrFormat("max abs %.3g, rms %.3g, cosine %.6f", loaded->precision_error.max_abs,
                           loaded->precision_error.rms, loaded->precision_error.cosine));
  const std::string warning = PrecisionWarning(loaded->precision_error, attention.parameters_precision());
  if (!warning.empty()) PrintRow(out, "", warning);
  return absl::OkStatus();
}

void AddPrecision(CLI::App& app, const std::string& name, const std::string& help,
                  std::optional<Precision>& precision) {
  app.add_option_function<std::string>(
      name,
      [name, &precision](const std::string& text) {
        const absl::StatusOr<PrecisionChoice> plain = ParsePrecisionChoice(text);
        if (!plain.ok() || !plain->by_model.empty()) {
          throw CLI::ValidationError(name, absl::StrCat("got ", text, ", wanted f32|bf16|int8"));
        }
        precision = plain->otherwise;
      },
      help);
}

}  // namespace

int RunCheckModel(int argc, const char* const* argv, std::ostream& out, std::ostream& err) {
  CLI::App app("Checks a model's folder as the server would load it, and says what is in it.",
               "headlight-server check-model");
  std::string dir;
  CheckOptions options;
  app.add_option("dir", dir, "Folder with config.json and *.safetensors")->required()->type_name("DIR");
  AddPrecision(app, "--precision", "f32, bf16 or int8 [what config.json asks for, else f32]",
               options.precision);
  AddPrecision(
      app, "--parameters-precision",
      "What parameters are held in: bf16, int8, or f32 for what the arithmetic has [what config.json asks "
      "for, else f32]",
      options.parameters_precision);
  app.add_flag("--strict", options.strict, "Keys of config.json that are not understood are errors");
  app.footer("Exit code: 0 it can be served, 1 it cannot and the problems are listed, 2 wrong usage.");
  if (const std::optional<int> ended = ParseArguments(app, argc, argv, out, err)) return *ended;
  const absl::Status status = Check(dir, options, out);
  if (status.ok()) return 0;
  err << "headlight-server check-model: " << status.message() << "\n";
  return 1;
}

}  // namespace headlight
