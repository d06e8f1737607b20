// SPDX-License-Identifier: Apache-2.0
#include "server/attend/describe_model.h"

#include <iterator>

#include "core/attention/config.h"
#include "core/attention/layer.h"
#include "core/model/config.h"
#include "server/attend/output_kinds.h"
#include "server/attend/pooling_modes.h"

namespace headlight {
namespace {

v1::Rope::Scaling ScalingOf(RopeConfig::Scaling scaling) {
  switch (scaling) {
    case RopeConfig::Scaling::kNone:
      return v1::Rope::SCALING_NONE;
    case RopeConfig::Scaling::kLinear:
      return v1::Rope::SCALING_LINEAR;
    case RopeConfig::Scaling::kNtk:
      return v1::Rope::SCALING_NTK;
    case RopeConfig::Scaling::kLlama3:
      return v1::Rope::SCALING_LLAMA3;
    case RopeConfig::Scaling::kYarn:
      return v1::Rope::SCALING_YARN;
    case RopeConfig::Scaling::kByPair:
      return v1::Rope::SCALING_BY_PAIR;
  }
  return v1::Rope::SCALING_NONE;
}

void DescribeRope(const RopeConfig& rope, v1::Rope& out) {
  out.set_theta(rope.theta);
  out.set_rotary_dim(rope.rotary_dim);
  out.set_interleaved(rope.interleaved);
  out.set_scaling(ScalingOf(rope.scaling));
  out.set_factor(rope.factor);
  out.set_low_freq_factor(rope.low_freq_factor);
  out.set_high_freq_factor(rope.high_freq_factor);
  out.set_original_max_len(rope.original_max_len);
  out.set_magnitude(rope.magnitude);
}

// What changes a model's scores beside its weights.
void DescribeScores(const AttentionConfig& config, v1::Model& out) {
  if (config.rope) DescribeRope(*config.rope, *out.mutable_rope());
  out.set_alibi(config.alibi);
  out.set_logit_softcap(config.logit_softcap);
  if (config.window_left) out.set_window_left(*config.window_left);
  if (config.window_right) out.set_window_right(*config.window_right);
  out.set_add_bias_kv(config.add_bias_kv);
  out.set_add_zero_attn(config.add_zero_attn);
  out.set_num_appended_keys(config.num_appended_keys());
}

// What surrounds the attention layers.
void DescribeStack(const ModelConfig& config, v1::Model& out) {
  out.set_num_layers(config.num_layers);
  if (config.block.norm_placement != NormPlacement::kNone) {
    out.set_hidden_dim(config.block.feed_forward.hidden_dim);
  }
  out.set_causal(config.causal);
  out.set_takes_key(TakesKey(config));
  if (config.embedding) {
    out.set_takes_token_ids(true);
    out.set_vocab_size(config.embedding->vocab_size);
    out.set_num_token_types(config.embedding->num_token_types);
    const int64_t max_seq_len = config.embedding->max_seq_len();
    out.set_max_seq_len(max_seq_len == INT64_MAX ? 0 : max_seq_len);
  }
  if (config.pooling.size() == 1) out.set_pooling(ToProto(config.pooling.front()));
  for (const Pooling pooling : config.pooling) out.add_pooling_parts(ToProto(pooling));
  out.set_pooled_dim(config.pooled_dim());
  out.set_no_pooling(config.no_pooling);
  out.set_normalize_pooled(config.normalize_pooled);
}

void DescribeHeads(const ModelConfig& config, v1::Model& out) {
  for (const OutputKind kind : kAllOutputKinds) {
    if (config.Gives(kind)) out.add_outputs(ToProto(kind));
  }
  for (const OutputKind kind : {OutputKind::kScores, OutputKind::kTokenScores}) {
    if (config.Gives(kind)) out.set_num_labels(config.OutputWidth(kind));
  }
  if (out.num_labels() > 0)
    out.mutable_labels()->Assign(config.heads.labels.begin(), config.heads.labels.end());
  out.set_token_vector_dim(config.OutputWidth(OutputKind::kTokenVectors));
  for (const RefusedOutput& refused : config.heads.refused) {
    if (config.Gives(refused.kind)) continue;
    v1::RefusedOutput& described = *out.add_refused_outputs();
    described.set_kind(ToProto(refused.kind));
    described.set_reason(refused.why);
  }
}

}  // namespace

void Describe(const LoadedModel& model, int64_t max_message_bytes, v1::Model& out) {
  const AttentionConfig& config = model.model.config().block.attention;
  const AttentionLayer& attention = model.model.attention();
  out.set_name(model.name);
  out.set_version(model.version);
  out.set_embed_dim(config.embed_dim);
  out.set_num_heads(config.num_heads);
  out.set_num_kv_heads(config.num_kv_heads);
  out.set_head_dim(config.head_dim);
  out.set_kdim(config.kdim);
  out.set_vdim(config.vdim);
  out.set_scale(*config.scale);
  out.set_num_parameters(model.model.num_parameters());
  out.set_precision(Name(attention.precision()));
  out.set_precision_asked(Name(config.precision));
  out.set_precision_note(attention.precision_note());
  if (attention.parameters_precision() != attention.precision()) {
    out.set_parameters_precision(Name(attention.parameters_precision()));
  }
  out.mutable_precision_error()->set_max_abs(model.precision_error.max_abs);
  out.mutable_precision_error()->set_rms(model.precision_error.rms);
  out.mutable_precision_error()->set_cosine(model.precision_error.cosine);
  DescribeScores(config, out);
  DescribeStack(model.model.config(), out);
  DescribeHeads(model.model.config(), out);
  out.set_layout(model.layout);
  out.set_kernel(attention.kernel_name());
  out.set_max_message_bytes(max_message_bytes);
}

}  // namespace headlight
