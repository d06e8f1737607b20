// SPDX-License-Identifier: Apache-2.0
#include "tests/core/model/test_model.h"

#include <cmath>
#include <random>

namespace headlight::testing {
namespace {

constexpr EmbeddingConfig kBertEmbedding = {
    .vocab_size = 50, .num_positions = 400, .num_token_types = 2, .norm = true};

NamedConfig Named(std::string name, ModelConfig config) { return {std::move(name), std::move(config)}; }

ModelConfig Encoder(int64_t embed_dim, int64_t num_heads, int64_t hidden_dim, NormPlacement placement,
                    Activation activation, int64_t num_layers) {
  ModelConfig config;
  config.block.attention = {.embed_dim = embed_dim, .num_heads = num_heads};
  config.block.norm_placement = placement;
  config.block.feed_forward = {.hidden_dim = hidden_dim, .activation = activation};
  config.num_layers = num_layers;
  return config;
}

}  // namespace

ModelConfig SmallEncoder() {
  ModelConfig config = Encoder(96, 4, 200, NormPlacement::kPost, Activation::kGeluErf, 2);
  config.embedding = kBertEmbedding;
  return config;
}

ModelConfig LocalAndGlobalLayers() {
  ModelConfig config = Encoder(64, 4, 90, NormPlacement::kPre, Activation::kGeluErf, 3);
  config.embedding = EmbeddingConfig{.vocab_size = 40, .norm = true};
  config.final_norm = true;
  config.block.feed_forward.gated = true;
  config.block.attention.rope = RopeConfig{.theta = 1e4};
  config.block.attention.window_left = config.block.attention.window_right = 8;
  BlockConfig global = config.block;
  global.attention.rope = RopeConfig{.theta = 1e6};
  global.attention.window_left = global.attention.window_right = std::nullopt;
  BlockConfig first = global;
  first.attention_norm = false;
  config.other_blocks = {global, first};
  config.layer_blocks = {2, 0, 1};
  return config;
}

ModelConfig LayersOfManyShapes() {
  ModelConfig config = Encoder(64, 4, 70, NormPlacement::kPre, Activation::kRelu, 3);
  config.final_norm = true;
  config.block.attention.alibi = true;
  BlockConfig wide = config.block;
  wide.attention = {.embed_dim = 64, .num_heads = 6, .num_kv_heads = 2, .head_dim = 24, .logit_softcap = 5.0};
  wide.norm_kind = NormKind::kRmsNorm;
  wide.norm_eps = 1e-3;
  wide.feed_forward = {.hidden_dim = 200, .activation = Activation::kSilu, .gated = true};
  config.other_blocks = {wide};
  config.layer_blocks = {1, 0, 1};
  return config;
}

std::vector<NamedConfig> ModelConfigs() {
  using enum NormPlacement;
  using enum Activation;
  std::vector<NamedConfig> configs;
  configs.push_back(Named("post_relu_one_layer", Encoder(64, 4, 128, kPost, kRelu, 1)));
  configs.push_back(Named("post_gelu_odd_widths", Encoder(37, 1, 71, kPost, kGeluErf, 2)));
  configs.push_back(Named("post_gelu_tanh", Encoder(48, 3, 100, kPost, kGeluTanh, 3)));
  configs.push_back(Named("pre_silu", Encoder(64, 2, 65, kPre, kSilu, 2)));
  configs.push_back(Named("pre_relu_odd_widths", Encoder(33, 3, 17, kPre, kRelu, 1)));
  configs.push_back(Named("tiny", Encoder(1, 1, 1, kPre, kGeluErf, 2)));
  configs.push_back(Named("bert", SmallEncoder()));

  ModelConfig final_norm = Encoder(40, 5, 80, kPost, kRelu, 2);
  final_norm.final_norm = true;
  final_norm.block.norm_eps = 1e-3;
  configs.push_back(Named("post_final_norm", final_norm));

  ModelConfig gated_post = Encoder(48, 4, 90, kPost, kGeluErf, 2);
  gated_post.block.feed_forward.gated = true;
  gated_post.block.norm_kind = NormKind::kRmsNorm;
  configs.push_back(Named("post_rms_gated_gelu", gated_post));

  ModelConfig gpt2 = Encoder(64, 4, 256, kPre, kGeluTanh, 3);
  gpt2.embedding = EmbeddingConfig{.vocab_size = 30, .num_positions = 350};
  gpt2.final_norm = gpt2.causal = gpt2.scale_by_inverse_layer = true;
  configs.push_back(Named("gpt2", gpt2));

  ModelConfig roberta = SmallEncoder();
  roberta.embedding = EmbeddingConfig{.vocab_size = 20,
                                      .num_positions = 402,
                                      .position_offset = 2,
                                      .padding_id = 1,
                                      .num_token_types = 1,
                                      .norm = true};
  configs.push_back(Named("roberta", roberta));

  ModelConfig llama = Encoder(64, 4, 172, kPre, kSilu, 2);
  llama.block.attention.num_kv_heads = 2;
  llama.block.attention.rope = RopeConfig{};
  llama.block.norm_kind = NormKind::kRmsNorm;
  llama.block.feed_forward.gated = true;
  llama.embedding = EmbeddingConfig{.vocab_size = 40};
  llama.final_norm = llama.causal = true;
  configs.push_back(Named("llama", llama));

  ModelConfig bare;
  bare.block.attention = {.embed_dim = 48, .num_heads = 4};
  configs.push_back(Named("bare", bare));
  bare.num_layers = 3;
  bare.causal = bare.final_norm = true;
  configs.push_back(Named("bare_stack", bare));
  bare.embedding = EmbeddingConfig{.vocab_size = 9, .num_token_types = 3};
  bare.num_layers = 2;
  configs.push_back(Named("bare_stack_on_ids", bare));

  ModelConfig sandwich = llama;
  sandwich.block.norm_placement = kSandwich;
  sandwich.embedding->scale = 8.0;
  configs.push_back(Named("sandwich_scaled_embeddings", sandwich));
  ModelConfig branch = llama;
  branch.block.norm_placement = kBranch;
  configs.push_back(Named("branch", branch));
  ModelConfig parallel = gpt2;
  parallel.block.norm_placement = kParallel;
  parallel.scale_by_inverse_layer = false;
  configs.push_back(Named("parallel", parallel));

  ModelConfig qwen3 = llama;
  qwen3.block.attention.qk_norm = QkNorm::kEachHead;
  qwen3.block.attention.head_dim = 20;
  configs.push_back(Named("norm_of_each_head", qwen3));
  ModelConfig olmo2 = branch;
  olmo2.block.attention.qk_norm = QkNorm::kAllHeads;
  olmo2.block.attention.qk_norm_eps = 1e-3;
  configs.push_back(Named("norm_of_all_heads", olmo2));

  ModelConfig mpnet = SmallEncoder();
  mpnet.block.attention.relative_bias = RelativeBiasConfig{};
  configs.push_back(Named("relative_bias", mpnet));

  ModelConfig sinks = llama;
  sinks.block.attention.sinks = true;
  configs.push_back(Named("sinks", sinks));

  ModelConfig deberta = SmallEncoder();
  deberta.block.attention.disentangled =
      DisentangledConfig{.num_buckets = 32, .max_distance = 60, .norm_eps = 1e-7};
  deberta.block.attention.scale = 1.0 / std::sqrt(3.0 * 24);
  configs.push_back(Named("disentangled", deberta));
  deberta.block.attention.disentangled = DisentangledConfig{.num_buckets = 40, .own_projections = true};
  configs.push_back(Named("disentangled_own_projections", deberta));

  for (const NormPlacement placement : {kSandwich, kBranch, kParallel}) {
    configs.push_back(
        Named(std::string(Name(placement)) + "_on_rows", Encoder(40, 4, 70, placement, kGeluErf, 2)));
  }

  ModelConfig shared = SmallEncoder();
  shared.embedding->dim = 24;
  shared.num_layers = 4;
  shared.layer_parameters = {0, 0, 2, 0};
  configs.push_back(Named("shared_layers_narrow_embeddings", shared));

  configs.push_back(Named("local_and_global", LocalAndGlobalLayers()));
  configs.push_back(Named("many_shapes", LayersOfManyShapes()));
  ModelConfig post = LayersOfManyShapes();
  post.block.norm_placement = post.other_blocks[0].norm_placement = kPost;
  post.causal = post.scale_by_inverse_layer = true;
  configs.push_back(Named("many_shapes_post", post));
  ModelConfig bare_shapes = LayersOfManyShapes();
  bare_shapes.block.norm_placement = bare_shapes.other_blocks[0].norm_placement = kNone;
  bare_shapes.layer_blocks = {0, 1, 0};
  configs.push_back(Named("many_shapes_bare", bare_shapes));
  return configs;
}

ModelInputs::ModelInputs(const ModelConfig& config, const std::vector<int64_t>& lengths,
                         const std::vector<uint64_t>& seeds)
    : width(config.block.attention.embed_dim), sequences(lengths.size()) {
  for (size_t i = 0; i < lengths.size(); ++i) {
    std::mt19937_64 rng(seeds[i]);
    cu_lens.push_back(cu_lens.back() + lengths[i]);
    for (int64_t token = 0; token < lengths[i]; ++token) {
      if (config.embedding) {
        token_ids.push_back(static_cast<int32_t>(rng() % config.embedding->vocab_size));
        if (config.embedding->num_token_types > 0) {
          token_types.push_back(static_cast<int32_t>(rng() % config.embedding->num_token_types));
        }
      } else {
        for (int64_t col = 0; col < width; ++col) {
          query.push_back(static_cast<float>(rng() >> 40) * 0x1p-23f - 1.0f);
        }
      }
    }
  }
  output.resize(cu_lens.back() * width);
}

ModelBatch ModelInputs::Batch() {
  ModelBatch batch;
  if (!query.empty()) batch.attention.query = {query.data(), tokens(), width, width};
  batch.attention.key = batch.attention.value = batch.attention.query;
  batch.attention.cu_q_lens = batch.attention.cu_kv_lens = cu_lens;
  batch.attention.sequences = sequences;
  batch.attention.output = {output.data(), tokens(), width, width};
  batch.token_ids = token_ids;
  batch.token_types = token_types;
  if (!weights_layer.empty()) {
    weights_layers.clear();
    for (const int64_t& layer : weights_layer) weights_layers.push_back({.layers = {&layer, 1}});
  }
  batch.weights_layers = weights_layers;
  return batch;
}

std::vector<float> ModelInputs::OutputOf(int64_t sequence) const {
  return {output.begin() + cu_lens[sequence] * width, output.begin() + cu_lens[sequence + 1] * width};
}

}  // namespace headlight::testing
