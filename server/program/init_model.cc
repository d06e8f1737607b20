// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/checkpoint/folder.h"
#include "core/model/config.h"
#include "core/model/parameters.h"
#include "core/model/pooling.h"
#include "server/program/parse_arguments.h"
#include "server/program/program_commands.h"

namespace headlight {
namespace {

const std::map<std::string, Activation> kActivations = {{"relu", Activation::kRelu},
                                                        {"gelu", Activation::kGeluErf},
                                                        {"gelu-tanh", Activation::kGeluTanh},
                                                        {"silu", Activation::kSilu}};
const std::map<std::string, NormPlacement> kPlacements = {
    {"none", NormPlacement::kNone}, {"post", NormPlacement::kPost}, {"pre", NormPlacement::kPre}};
const std::map<std::string, NormKind> kNorms = {{"layer-norm", NormKind::kLayerNorm},
                                                {"rms-norm", NormKind::kRmsNorm}};
const std::map<std::string, std::vector<Pooling>> kPoolings = [] {
  std::map<std::string, std::vector<Pooling>> poolings = {{"none", {}}};
  for (const Pooling pooling : kAllPoolings) poolings[Name(pooling)] = {pooling};
  return poolings;
}();

const std::map<std::string, std::optional<Precision>> kPrecisions = {
    {"f32", Precision::kF32}, {"bf16", Precision::kBf16}, {"int8", Precision::kInt8}};

struct InitFlags {
  std::string out;
  int64_t embed_dim = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;  // 0: as num_heads
  int64_t num_layers = 1;
  int64_t hidden_dim = 0;  // 0: 4 * embed_dim
  bool gated = false;
  int64_t vocab_size = 0;  // 0: begins at embeddings
  int64_t max_positions = 512;
  double rope_theta = 0;  // 0: none
  bool causal = false;
  bool normalize = false;
  Activation activation = Activation::kGeluErf;
  NormPlacement placement = NormPlacement::kPost;
  NormKind norm = NormKind::kLayerNorm;
  std::vector<Pooling> pooling = {Pooling::kMean};
  std::optional<Precision> precision;  // none: config.json asks for none
  uint64_t seed = 0;
};

template <typename T>
void AddChoice(CLI::App& app, const std::string& flag, const std::map<std::string, T>& choices,
               const std::string& help, T& value) {
  app.add_option_function<std::string>(
         flag, [&value, &choices](const std::string& text) { value = choices.at(text); }, help)
      ->check(CLI::IsMember(choices));
}

void Declare(CLI::App& app, InitFlags& flags) {
  constexpr int64_t kMax = int64_t{1} << 31;  // ModelConfig::Validate knows better where it matters
  const auto number = [&](const std::string& flag, int64_t& value, const std::string& help) {
    return app.add_option(flag, value, help)->check(CLI::Range(int64_t{0}, kMax));
  };
  app.add_option("--out", flags.out, "Folder to make; it must not hold a config.json")->required();
  number("--embed-dim", flags.embed_dim, "Width of embeddings and outputs")->required();
  number("--num-heads", flags.num_heads, "Attention heads")->required();
  number("--num-kv-heads", flags.num_kv_heads, "Heads of keys and values [as --num-heads]");
  number("--num-layers", flags.num_layers, "Layers [1]");
  AddChoice(app, "--norm-placement", kPlacements,
            "none: attention alone; post: norms after, pre: norms before each part of a layer [post]",
            flags.placement);
  AddChoice(app, "--norm", kNorms, "Kind of norm [layer-norm]", flags.norm);
  number("--hidden-dim", flags.hidden_dim, "Width of the feed-forward network [4 * --embed-dim]");
  AddChoice(app, "--activation", kActivations, "Of the feed-forward network [gelu]", flags.activation);
  app.add_flag("--gated", flags.gated, "Feed-forward network with a gate, as LLaMA has it");
  number("--vocab-size", flags.vocab_size, "Token ids that it takes; 0: it takes embeddings [0]");
  number("--max-positions", flags.max_positions,
         "Rows of the position table, with --vocab-size and without --rope-theta [512]");
  app.add_option("--rope-theta", flags.rope_theta, "Rotary positions of this base; 0: none [0]");
  app.add_flag("--causal", flags.causal, "No token sees a later one");
  AddChoice(app, "--pooling", kPoolings, "What pooled output is [mean]", flags.pooling);
  app.add_flag("--normalize", flags.normalize, "Divide pooled vectors by their L2 norm");
  AddChoice(app, "--precision", kPrecisions,
            "Arithmetic that the model asks for, whatever the server's --precision says [none]",
            flags.precision);
  app.add_option("--seed", flags.seed, "The same seed gives the same weights [0]");
  app.footer(
      "Example: headlight-server init-model --embed-dim 384 --num-heads 12 --num-layers 6 --vocab-size 30522 "
      "--out models/small");
}

ModelConfig ConfigOf(const InitFlags& flags) {
  ModelConfig config;
  AttentionConfig& attention = config.block.attention;
  attention.embed_dim = flags.embed_dim;
  attention.num_heads = flags.num_heads;
  attention.num_kv_heads = flags.num_kv_heads;
  if (flags.rope_theta > 0) {
    attention.rope.emplace();
    attention.rope->theta = flags.rope_theta;
  }
  config.num_layers = flags.num_layers;
  config.block.norm_placement = flags.placement;
  config.block.norm_kind = flags.norm;
  if (flags.placement != NormPlacement::kNone) {
    config.block.feed_forward = {flags.hidden_dim > 0 ? flags.hidden_dim : 4 * flags.embed_dim,
                                 flags.activation, flags.gated};
  }
  config.final_norm = flags.placement == NormPlacement::kPre;  // else nothing would norm the last layer's sum
  if (flags.vocab_size > 0) {
    config.embedding.emplace();
    config.embedding->vocab_size = flags.vocab_size;
    config.embedding->num_positions = flags.rope_theta > 0 ? 0 : flags.max_positions;
    config.embedding->norm = flags.placement == NormPlacement::kPost;
  }
  attention.precision = flags.precision.value_or(Precision::kF32);
  config.causal = flags.causal;
  config.pooling = flags.pooling;
  config.normalize_pooled = flags.normalize;
  return config;
}

}  // namespace

int RunInitModel(int argc, const char* const* argv, std::ostream& out, std::ostream& err) {
  CLI::App app("Writes a folder with a model of random weights, for trying things out.",
               "headlight-server init-model");
  InitFlags flags;
  Declare(app, flags);
  if (const std::optional<int> ended = ParseArguments(app, argc, argv, out, err)) return *ended;
  const ModelConfig asked = ConfigOf(flags);
  const absl::Status valid = asked.Validate();
  if (!valid.ok()) {
    err << "headlight-server init-model: " << valid.message() << "\n";
    return 2;
  }
  const ModelConfig config = asked.Resolved();
  const ModelParameters weights = RandomModelParameters(config, flags.seed);
  const absl::Status saved = SaveModelFolder(flags.out, config, weights, flags.precision.has_value());
  if (!saved.ok()) {
    err << "headlight-server init-model: " << saved.message() << "\n";
    return 1;
  }
  out << flags.out << ": " << config.num_layers << " layers, " << weights.NumParameters()
      << " parameters, seed " << flags.seed << "\n";
  return 0;
}

}  // namespace headlight
