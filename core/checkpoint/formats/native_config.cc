// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/formats/native_config.h"

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/text.h"
#include "core/checkpoint/formats/format.h"
#include "core/model/pooling.h"

namespace headlight {
namespace {

template <typename T>
using Spelling = std::pair<const char*, T>;

constexpr Spelling<Activation> kActivations[] = {{"relu", Activation::kRelu},
                                                 {"gelu", Activation::kGeluErf},
                                                 {"gelu_tanh", Activation::kGeluTanh},
                                                 {"silu", Activation::kSilu}};
constexpr Spelling<Precision> kPrecisions[] = {
    {"f32", Precision::kF32}, {"bf16", Precision::kBf16}, {"int8", Precision::kInt8}};
constexpr Spelling<NormPlacement> kPlacements[] = {
    {"none", NormPlacement::kNone},     {"post", NormPlacement::kPost},
    {"pre", NormPlacement::kPre},       {"sandwich", NormPlacement::kSandwich},
    {"branch", NormPlacement::kBranch}, {"parallel", NormPlacement::kParallel}};
constexpr Spelling<NormKind> kNormKinds[] = {{"layer_norm", NormKind::kLayerNorm},
                                             {"rms_norm", NormKind::kRmsNorm}};
constexpr Spelling<RopeConfig::Scaling> kScalings[] = {
    {"none", RopeConfig::Scaling::kNone}, {"linear", RopeConfig::Scaling::kLinear},
    {"ntk", RopeConfig::Scaling::kNtk},   {"llama3", RopeConfig::Scaling::kLlama3},
    {"yarn", RopeConfig::Scaling::kYarn}, {"by_pair", RopeConfig::Scaling::kByPair}};

template <typename T>
const char* Spell(std::span<const Spelling<T>> spellings, T value) {
  for (const auto& [spelling, meaning] : spellings) {
    if (meaning == value) return spelling;
  }
  return "";
}

template <typename T, size_t n>
T ReadSpelled(ConfigFields& fields, const std::string& key, const Spelling<T> (&spellings)[n], T fallback) {
  const std::string got = fields.String(key, Spell<T>(spellings, fallback));
  std::vector<std::string> served;
  for (const auto& [spelling, meaning] : spellings) {
    if (got == spelling) return meaning;
    served.emplace_back(spelling);
  }
  fields.Fail(ConfigFields::Problem::kInvalid, key,
              absl::StrCat("got \"", got, "\", wanted one of ", absl::StrJoin(served, ", ")));
  return fallback;
}

nlohmann::ordered_json PoolingJson(const std::vector<Pooling>& poolings) {
  if (poolings.size() < 2) return Names(poolings);
  nlohmann::ordered_json names = nlohmann::ordered_json::array();
  for (const Pooling pooling : poolings) names.push_back(Name(pooling));
  return names;
}

RopeConfig ReadRope(ConfigFields fields) {
  RopeConfig rope;
  rope.theta = fields.Number("theta", rope.theta);
  rope.rotary_dim = fields.Int("rotary_dim", 0, kMaxDimension, 0);
  rope.interleaved = fields.Bool("interleaved", false);
  rope.scaling = ReadSpelled(fields, "scaling", kScalings, RopeConfig::Scaling::kNone);
  rope.factor = fields.Number("factor", rope.factor);
  rope.low_freq_factor = fields.Number("low_freq_factor", rope.low_freq_factor);
  rope.high_freq_factor = fields.Number("high_freq_factor", rope.high_freq_factor);
  rope.beta_fast = fields.Number("beta_fast", rope.beta_fast);
  rope.beta_slow = fields.Number("beta_slow", rope.beta_slow);
  rope.truncate = fields.Bool("truncate", rope.truncate);
  rope.original_max_len = fields.Int("original_max_len", 1, INT64_MAX, rope.original_max_len);
  rope.pair_factors = fields.Numbers("pair_factors");
  rope.magnitude = fields.Number("magnitude", rope.magnitude);
  rope.max_len = fields.Int("max_len", 0, INT64_MAX, rope.max_len);
  fields.FailUnknownKeys();
  return rope;
}

EmbeddingConfig ReadEmbedding(ConfigFields fields) {
  EmbeddingConfig embedding;
  embedding.vocab_size = fields.Int("vocab_size", 1, kMaxDimension);
  embedding.num_positions = fields.Int("num_positions", 0, kMaxDimension, 0);
  embedding.position_offset = fields.Int("position_offset", 0, kMaxDimension, 0);
  embedding.padding_id = fields.OptionalInt("padding_id", 0, kMaxDimension);
  embedding.num_token_types = fields.Int("num_token_types", 0, kMaxDimension, 0);
  embedding.norm = fields.Bool("norm", false);
  embedding.dim = fields.Int("dim", 0, kMaxDimension, 0);
  embedding.projected = fields.Bool("projected", false);
  embedding.scale = fields.Number("scale", embedding.scale);
  fields.FailUnknownKeys();
  return embedding;
}

}  // namespace

void ReadAttentionOptions(ConfigFields& fields, AttentionConfig& attention) {
  attention.num_heads = fields.Int("num_heads", 1, kMaxDimension);
  attention.scale = fields.OptionalNumber("scale");
  if (fields.Has("rope")) attention.rope = ReadRope(fields.Object("rope"));
  attention.alibi = fields.Bool("alibi", false);
  attention.logit_softcap = fields.Number("logit_softcap", 0.0);
  attention.window_left = fields.OptionalInt("window_left", 0, INT64_MAX);
  attention.window_right = fields.OptionalInt("window_right", 0, INT64_MAX);
}

void ReadPoolingOptions(ConfigFields& fields, ModelConfig& config) {
  if (fields.Has("pooling")) {
    const std::vector<std::string> names = fields.StringOrStrings("pooling");
    config.pooling.clear();
    for (const std::string& name : names) {
      const std::optional<Pooling> pooling = PoolingNamed(name);
      if (pooling) config.pooling.push_back(*pooling);
      if (pooling || (name == "none" && names.size() == 1)) continue;
      fields.Fail(ConfigFields::Problem::kInvalid, "pooling",
                  absl::StrCat("got ", Quoted(name), ", wanted none, or one or more of ", PoolingNames()));
    }
    config.no_pooling = config.pooling.empty() ? "its config.json says none" : "";
  }
  config.normalize_pooled = fields.Bool("normalize_pooled", config.normalize_pooled);
}

void ReadModelOptions(ConfigFields& fields, ModelConfig& config) {
  config.causal = fields.Bool("causal", false);
  ReadPoolingOptions(fields, config);
}

std::optional<Precision> ReadPrecision(ConfigFields& fields, const std::string& key) {
  if (!fields.Has(key)) return std::nullopt;
  return ReadSpelled(fields, key, kPrecisions, Precision::kF32);
}

NormKind ReadNormKind(ConfigFields& fields, const std::string& key) {
  return ReadSpelled(fields, key, kNormKinds, NormKind::kLayerNorm);
}

Activation ReadActivation(ConfigFields& fields, Activation fallback) {
  return ReadSpelled(fields, "activation", kActivations, fallback);
}

ModelConfig ReadNativeConfig(ConfigFields& fields) {
  ModelConfig config;
  BlockConfig& block = config.block;
  AttentionConfig& attention = block.attention;
  attention.embed_dim = fields.Int("embed_dim", 1, kMaxDimension);
  ReadAttentionOptions(fields, attention);
  attention.num_kv_heads = fields.Int("num_kv_heads", 0, kMaxDimension, 0);
  attention.head_dim = fields.Int("head_dim", 0, kMaxDimension, 0);
  attention.kdim = fields.Int("kdim", 0, kMaxDimension, 0);
  attention.vdim = fields.Int("vdim", 0, kMaxDimension, 0);
  attention.add_zero_attn = fields.Bool("add_zero_attn", false);
  attention.add_bias_kv = fields.Bool("add_bias_kv", false);
  config.num_layers = fields.Int("num_layers", 1, kMaxLayers, 1);
  block.norm_placement = ReadSpelled(fields, "norm_placement", kPlacements, NormPlacement::kNone);
  block.norm_kind = ReadNormKind(fields, "norm_kind");
  block.norm_eps = fields.Number("norm_eps", block.norm_eps);
  block.feed_forward.hidden_dim = fields.Int("hidden_dim", 0, kMaxDimension, 0);
  block.feed_forward.activation = ReadActivation(fields, Activation::kRelu);
  block.feed_forward.gated = fields.Bool("gated", false);
  config.final_norm = fields.Bool("final_norm", false);
  if (fields.Has("final_norm_kind")) config.final_norm_kind = ReadNormKind(fields, "final_norm_kind");
  config.final_norm_eps = fields.OptionalNumber("final_norm_eps");
  config.scale_by_inverse_layer = fields.Bool("scale_by_inverse_layer", false);
  ReadModelOptions(fields, config);
  if (fields.Has("embedding")) config.embedding = ReadEmbedding(fields.Object("embedding"));
  return config;
}

std::string NativeConfigText(const ModelConfig& config, bool with_precision) {
  const BlockConfig& block = config.block;
  const AttentionConfig& attention = block.attention;
  nlohmann::ordered_json json = {
      {"format", "headlight"},
      {"layout", "native"},
      {"embed_dim", attention.embed_dim},
      {"num_heads", attention.num_heads},
      {"num_kv_heads", attention.num_kv_heads},
      {"head_dim", attention.head_dim},
      {"kdim", attention.kdim},
      {"vdim", attention.vdim},
      {"scale", *attention.scale},
      {"add_zero_attn", attention.add_zero_attn},
      {"add_bias_kv", attention.add_bias_kv},
      {"alibi", attention.alibi},
      {"logit_softcap", attention.logit_softcap},
      {"num_layers", config.num_layers},
      {"norm_placement", Spell<NormPlacement>(kPlacements, block.norm_placement)},
      {"norm_kind", Spell<NormKind>(kNormKinds, block.norm_kind)},
      {"norm_eps", block.norm_eps},
      {"hidden_dim", block.feed_forward.hidden_dim},
      {"activation", Spell<Activation>(kActivations, block.feed_forward.activation)},
      {"gated", block.feed_forward.gated},
      {"final_norm", config.final_norm},
      {"scale_by_inverse_layer", config.scale_by_inverse_layer},
      {"causal", config.causal},
      {"pooling", PoolingJson(config.pooling)},
      {"normalize_pooled", config.normalize_pooled}};
  if (config.final_norm) {
    json["final_norm_kind"] = Spell<NormKind>(kNormKinds, *config.final_norm_kind);
    json["final_norm_eps"] = *config.final_norm_eps;
  }
  if (with_precision) json["precision"] = Name(attention.precision);
  if (with_precision && attention.parameters_precision != Precision::kF32) {
    json["parameters_precision"] = Name(attention.parameters_precision);
  }
  if (attention.window_left) json["window_left"] = *attention.window_left;
  if (attention.window_right) json["window_right"] = *attention.window_right;
  if (attention.rope) {
    const RopeConfig& rope = *attention.rope;
    json["rope"] = {{"theta", rope.theta},
                    {"rotary_dim", rope.rotary_dim},
                    {"interleaved", rope.interleaved},
                    {"scaling", Spell<RopeConfig::Scaling>(kScalings, rope.scaling)},
                    {"factor", rope.factor},
                    {"low_freq_factor", rope.low_freq_factor},
                    {"high_freq_factor", rope.high_freq_factor},
                    {"beta_fast", rope.beta_fast},
                    {"beta_slow", rope.beta_slow},
                    {"truncate", rope.truncate},
                    {"original_max_len", rope.original_max_len},
                    {"pair_factors", rope.pair_factors},
                    {"magnitude", rope.magnitude},
                    {"max_len", rope.max_len}};
  }
  if (config.embedding) {
    const EmbeddingConfig& embedding = *config.embedding;
    json["embedding"] = {{"vocab_size", embedding.vocab_size},
                         {"num_positions", embedding.num_positions},
                         {"position_offset", embedding.position_offset},
                         {"num_token_types", embedding.num_token_types},
                         {"norm", embedding.norm},
                         {"dim", embedding.dim},
                         {"projected", embedding.projected},
                         {"scale", embedding.scale}};
    if (embedding.padding_id) json["embedding"]["padding_id"] = *embedding.padding_id;
  }
  return json.dump(2) + "\n";
}

}  // namespace headlight
