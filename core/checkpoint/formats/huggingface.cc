// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/formats/huggingface.h"

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "core/checkpoint/formats/format.h"

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

std::optional<Activation> HuggingFaceActivation(const std::string& name) {
  for (const auto& [known, activation] : kActivationNames) {
    if (name == known) return activation;
  }
  return std::nullopt;
}

Activation ReadHuggingFaceActivation(ConfigFields& fields, const std::string& key,
                                     const std::string& fallback) {
  const std::string got = fields.String(key, fallback);
  if (const std::optional<Activation> known = HuggingFaceActivation(got)) return *known;
  std::vector<absl::string_view> served;
  for (const auto& [name, activation] : kActivationNames) served.push_back(name);
  fields.Fail(Problem::kUnimplemented, key,
              absl::StrCat("got \"", got, "\", served are ", absl::StrJoin(served, ", ")));
  return Activation::kRelu;
}

void RefuseNonCausal(ConfigFields& fields) {
  if (fields.Object("headlight").Has("causal")) return fields.WithoutEffect({"is_causal"});
  if (!fields.Has("is_causal") && !fields.IsNull("is_causal")) return;
  if (fields.Bool("is_causal", false)) return;
  fields.Fail(Problem::kUnimplemented, "is_causal",
              "got false or null, with which transformers masks later keys or does not, depending on how it "
              "computes attention; say what is meant with \"headlight\": {\"causal\": false}");
}

std::string FindPrefix(const Shards& checkpoint, const std::string& tensor,
                       std::initializer_list<const char*> prefixes) {
  for (const char* prefix : prefixes) {
    // What torch.compile, DataParallel and a module of one's own put around the encoder alone.
    for (const auto& [before, behind] :
         {std::pair("", ""), std::pair("_orig_mod.", ""), std::pair("", "_orig_mod."),
          std::pair("module.", ""), std::pair("", "module."), std::pair("model.", "")}) {
      std::string name = absl::StrCat(before, prefix, behind);
      if (checkpoint.Find(name + tensor) != nullptr) return name;
    }
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

TokenTable ReadTokenTable(ConfigFields& fields, const std::string& name, const std::string& head, bool tied) {
  return {.name = name, .head = head, .tied = fields.Bool("tie_word_embeddings", tied)};
}

void WantTokenTable(const TokenTable& table, Shape shape, std::vector<float>& destination, TensorPlan& plan) {
  WantAsIs(table.name, std::move(shape), destination, plan);
  if (table.tied) plan.wanted.back().names.push_back(table.head);
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
