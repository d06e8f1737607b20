// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/formats/huggingface.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"

namespace headlight {
namespace {

using Problem = ConfigFields::Problem;

// transformers/activations.py; its "gelu_fast", "gelu_accurate" and "gelu_pytorch_tanh" are one formula with
// "gelu_new".
constexpr std::pair<absl::string_view, Activation> kActivationNames[] = {
    {"relu", Activation::kRelu},
    {"gelu", Activation::kGeluErf},
    {"gelu_python", Activation::kGeluErf},
    {"gelu_new", Activation::kGeluTanh},
    {"gelu_fast", Activation::kGeluTanh},
    {"gelu_pytorch_tanh", Activation::kGeluTanh},
    {"gelu_accurate", Activation::kGeluTanh},
    {"gelu_python_tanh", Activation::kGeluTanh},
    {"silu", Activation::kSilu},
    {"swish", Activation::kSilu}};

}  // namespace

Activation ReadHuggingFaceActivation(ConfigFields& fields, const std::string& key,
                                     const std::string& fallback) {
  const std::string got = fields.String(key, fallback);
  std::vector<absl::string_view> served;
  for (const auto& [name, activation] : kActivationNames) {
    if (got == name) return activation;
    served.push_back(name);
  }
  fields.Fail(Problem::kUnimplemented, key,
              absl::StrCat("got \"", got, "\", served are ", absl::StrJoin(served, ", ")));
  return Activation::kRelu;
}

void RefuseUnservedOptions(ConfigFields& fields) {
  if (fields.Has("quantization_config")) {
    fields.Fail(Problem::kUnimplemented, "quantization_config",
                "quantised weights are not served; save the model in f32, f16 or bf16");
  }
  if (fields.Bool("add_cross_attention", false)) {
    fields.Fail(Problem::kUnimplemented, "add_cross_attention", "got true, served is false");
  }
  if (!fields.Object("pruned_heads").empty()) {
    fields.Fail(Problem::kUnimplemented, "pruned_heads", "layers of different sizes are not served");
  }
  const std::string positions = fields.String("position_embedding_type", "absolute");
  if (positions != "absolute") {
    fields.Fail(Problem::kUnimplemented, "position_embedding_type",
                absl::StrCat("got \"", positions, "\", served is \"absolute\""));
  }
}

RopeConfig ReadHuggingFaceRope(ConfigFields& fields) {
  RopeConfig rope;
  rope.theta = fields.Number("rope_theta", rope.theta);
  const std::string key = fields.Has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  ConfigFields scaling = fields.Object(key);
  rope.theta = scaling.Number("rope_theta", rope.theta);
  const std::string type = scaling.String("rope_type", scaling.String("type", "default"));
  // Absent or 1 in this family.
  if (scaling.Number("partial_rotary_factor", fields.Number("partial_rotary_factor", 1.0)) != 1.0) {
    fields.Fail(Problem::kUnimplemented, "partial_rotary_factor", "served is 1");
  }
  if (type == "default") return rope;
  if (type == "linear") {
    rope.scaling = RopeConfig::Scaling::kLinear;
    rope.factor = scaling.Number("factor");
    return rope;
  }
  if (type == "llama3") {
    rope.scaling = RopeConfig::Scaling::kLlama3;
    rope.factor = scaling.Number("factor");
    rope.low_freq_factor = scaling.Number("low_freq_factor");
    rope.high_freq_factor = scaling.Number("high_freq_factor");
    rope.original_max_len = scaling.Int("original_max_position_embeddings", 1, int64_t{1} << 40);
    return rope;
  }
  scaling.Fail(Problem::kUnimplemented, "rope_type",
               absl::StrCat("got \"", type, "\", served are default, linear, llama3"));
  return rope;
}

std::string FindPrefix(const Shards& checkpoint, const std::string& tensor,
                       std::initializer_list<const char*> prefixes) {
  for (const char* prefix : prefixes) {
    if (checkpoint.Find(prefix + tensor) != nullptr) return prefix;
  }
  // The checkpoint lacks that tensor; then its other names tell, so that only what is wrong is reported.
  for (const char* prefix : prefixes) {
    const auto first = checkpoint.entries().lower_bound(prefix);
    if (*prefix != '\0' && first != checkpoint.entries().end() && absl::StartsWith(first->first, prefix)) {
      return prefix;
    }
  }
  return *prefixes.begin();
}

void IgnoreHeadsAndBuffers(const std::string& prefix, TensorPlan& plan) {
  plan.prefix = prefix;
  plan.ignored_prefixes.push_back(prefix + "pooler.");
  if (prefix.empty()) {
    for (const char* head :
         {"cls.", "classifier.", "qa_outputs.", "lm_head.", "score.", "pre_classifier.", "vocab_transform.",
          "vocab_layer_norm.", "vocab_projector.", "multiple_choice_head."}) {
      plan.ignored_prefixes.emplace_back(head);
    }
  }
  plan.ignored_suffixes = {"embeddings.position_ids", "embeddings.token_type_ids", ".attn.bias",
                           ".attn.masked_bias", ".rotary_emb.inv_freq"};
}

}  // namespace headlight
