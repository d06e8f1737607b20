// SPDX-License-Identifier: Apache-2.0
//
// What a model looks like, apart from its numbers: a stack of blocks around attention layers, from embeddings
// or token ids to hidden states.
#ifndef HEADLIGHT_CORE_MODEL_CONFIG_H_
#define HEADLIGHT_CORE_MODEL_CONFIG_H_

#include <algorithm>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "core/attention/config.h"
#include "core/model/heads/head_config.h"

namespace headlight {

// A stack of layers has at most this many: a few times the deepest published one.
inline constexpr int64_t kMaxLayers = 1024;

enum class NormKind : uint8_t {
  kLayerNorm,  // (x - mean) / sqrt(variance + eps) * gain + bias (Ba et al. 2016, arXiv:1607.06450)
  kRmsNorm,    // x / sqrt(mean(x^2) + eps) * gain (Zhang and Sennrich 2019, arXiv:1910.07467)
};

enum class NormPlacement : uint8_t {
  kNone,      // attention alone: no residual, no norm, no feed-forward
  kPost,      // x = norm(x + f(x)) (Vaswani et al. 2017)
  kPre,       // x = x + f(norm(x))
  kSandwich,  // x = x + norm'(f(norm(x))) (Gemma 3)
  kBranch,    // x = x + norm(f(x)) (OLMo 2)
  kParallel,  // x = x + attention(norm(x)) + feed_forward(norm'(x)) (GPT-NeoX)
};

enum class Activation : uint8_t {
  kRelu,
  kGeluErf,   // x * (1 + erf(x / sqrt(2))) / 2 (Hendrycks and Gimpel 2016, arXiv:1606.08415)
  kGeluTanh,  // x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2, the same paper's approximation
  kSilu,      // x / (1 + exp(-x))
};

const char* Name(NormPlacement placement);  // "none", "post", ...

// y = activation(x Wup + bup) Wdown + bdown; gated: y = (activation(x Wgate + bgate) * (x Wup + bup)) Wdown +
// bdown (Shazeer 2020, arXiv:2002.05202).
struct FeedForwardConfig {
  int64_t hidden_dim = 0;
  Activation activation = Activation::kRelu;
  bool gated = false;

  bool operator==(const FeedForwardConfig&) const = default;
};

// One layer: attention and, unless norm_placement is kNone, residuals, two norms and a feed-forward network.
struct BlockConfig {
  AttentionConfig attention;  // its precision is that of the feed-forward network too
  NormPlacement norm_placement = NormPlacement::kNone;
  NormKind norm_kind = NormKind::kLayerNorm;
  double norm_eps = 1e-5;
  bool attention_norm = true;      // false, with kPre only: attention reads x itself (ModernBERT's layer 0)
  FeedForwardConfig feed_forward;  // used unless norm_placement is kNone
};

// x[i] = scale * tokens[id] (+ positions[position]) (+ token_types[type]), then the norm if there is one,
// then the projection if there is one: x Wprojection + bprojection.
struct EmbeddingConfig {
  static constexpr int64_t kMaxDim = 8192;  // where there is a projection

  int64_t vocab_size = 0;
  int64_t dim = 0;         // width of the tables and the norm; default embed_dim
  bool projected = false;  // there is a projection, as there is anyway where dim is not embed_dim
  double scale = 1.0;
  int64_t num_positions = 0;    // rows of the position table; 0: none (RoPE, ALiBi or nothing)
  int64_t position_offset = 0;  // the first token of a sequence stands at this row of the table
  // As RoBERTa counts: tokens of this id stand at row `*padding_id` and do not advance the position.
  std::optional<int64_t> padding_id;
  int64_t num_token_types = 0;  // rows of the token type table; 0: none
  bool norm = false;            // LayerNorm with the block's norm_eps

  // Longest sequence that rotary positions are served for (RopeConfig::max_len); Resolved() finds it.
  int64_t max_turned_len = INT64_MAX;

  // Longest sequence that there are positions for; INT64_MAX where nothing bounds it.
  int64_t max_seq_len() const {
    return num_positions == 0 ? max_turned_len : std::min(max_turned_len, num_positions - position_offset);
  }
};

// How the hidden states of a sequence's n tokens become one vector.
enum class Pooling : uint8_t {
  kCls,           // that of the first token
  kMean,          // their mean
  kMax,           // the largest of each column
  kMeanSqrtLen,   // their sum divided by sqrt(n)
  kWeightedMean,  // their mean with the weights 1, 2, ..., n (Muennighoff 2022, arXiv:2202.08904)
  kLast,          // that of the last token
};

// Fields at their defaults are a single attention layer on embeddings.
struct ModelConfig {
  std::optional<EmbeddingConfig> embedding;  // present: the model begins at token ids
  BlockConfig block;                         // of every layer, or of those that layer_blocks leaves to it
  // What other layers are. They differ in windows, positions, scores, heads, the feed-forward network and
  // norms; embed_dim, kdim, vdim, appended keys, precision and norm_placement are those of `block`.
  std::vector<BlockConfig> other_blocks;
  // One entry for each layer: 0 for `block`, i for other_blocks[i - 1]. Empty: all 0.
  std::vector<int32_t> layer_blocks;
  // One entry for each layer: the layer, itself or an earlier one that has its own, whose parameters it has
  // (ALBERT). Empty: all have their own.
  std::vector<int32_t> layer_parameters;
  int64_t num_layers = 1;
  bool final_norm = false;  // a norm after the last layer
  // Of that norm; default `block`'s.
  std::optional<NormKind> final_norm_kind;
  std::optional<double> final_norm_eps;
  bool scale_by_inverse_layer = false;  // layer i divides its scores by i + 1 (GPT-2's option of that name)
  bool causal = false;                  // no query sees a later key, whatever the request says
  // What a request for the model's own pooling gets: vectors made so, side by side. Empty: that is refused,
  // and `no_pooling` says why and what to do.
  std::vector<Pooling> pooling = {Pooling::kMean};
  std::string no_pooling;
  // What the vectors of the model's own pooling pass through then, before a request's `dimensions` cut them.
  std::vector<RowStep> pooled_steps;
  bool normalize_pooled = false;  // pooled vectors, cut, are divided by their L2 norm
  HeadsConfig heads;              // what hidden states go through where a request asks for it

  // INVALID_ARGUMENT naming the field that contradicts the others or leaves the supported range. Beyond one
  // layer, or with residuals, kdim and vdim must be embed_dim.
  absl::Status Validate() const;

  // A copy with every default filled in (attention of all blocks resolved). Requires Validate().ok().
  ModelConfig Resolved() const;

  // Of the products of all layers.
  int64_t LargestDepth() const;

  // Of a vector of the model's own pooling, before pooled_steps and behind them; 0: it has none.
  int64_t raw_pooled_dim() const;
  int64_t pooled_dim() const { return OutDim(pooled_steps, raw_pooled_dim()); }

  // Whether a request may ask for this output, and how wide its rows are: of kSparse the ids that there are.
  bool Gives(OutputKind kind) const;
  int64_t OutputWidth(OutputKind kind) const;

  // What one layer is. Its attention has besides what depends on the layer; requires a resolved config.
  const BlockConfig& LayerBlock(int64_t layer) const;
  // The layer whose parameters it has.
  int64_t ParametersOf(int64_t layer) const {
    return layer_parameters.empty() ? layer : layer_parameters[layer];
  }
  AttentionConfig LayerAttention(int64_t layer) const;

  // Calls visit(block, how many layers with parameters of their own are such) for each block that any layer
  // is.
  void ForEachBlock(absl::FunctionRef<void(const BlockConfig& block, int64_t num_layers)> visit) const;

  // What layers turn by, each once.
  std::set<RopeConfig> RopeConfigs() const;

  // Whether all layers have the same num_heads: else no mask can have one for each head.
  bool LayersAgreeOnHeads() const;

  void SetPrecision(Precision precision);             // of all blocks
  void SetParametersPrecision(Precision parameters);  // the same
};

// Whether keys and values may come from elsewhere than the queries: layers of a stack attend to their own
// input.
bool TakesKey(const ModelConfig& config);

// Multiply-adds count as two. Of the projections and the feed-forward networks of all layers, per token.
int64_t ProjectionFlopsPerToken(const ModelConfig& config);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_MODEL_CONFIG_H_
