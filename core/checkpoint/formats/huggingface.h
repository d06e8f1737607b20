// SPDX-License-Identifier: Apache-2.0
//
// What the config.json files and checkpoints of Hugging Face transformers have in common.
#ifndef HEADLIGHT_CORE_CHECKPOINT_FORMATS_HUGGINGFACE_H_
#define HEADLIGHT_CORE_CHECKPOINT_FORMATS_HUGGINGFACE_H_

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "core/checkpoint/config_fields.h"
#include "core/checkpoint/shards.h"
#include "core/checkpoint/tensor_plan.h"
#include "core/model/config.h"
#include "core/tensor/shape.h"

namespace headlight {

// The activation that `key` names as transformers does: "gelu", "gelu_new", "silu", ...
Activation ReadHuggingFaceActivation(ConfigFields& fields, const std::string& key,
                                     const std::string& fallback);

// That of a name; nothing if none that is served has it.
std::optional<Activation> HuggingFaceActivation(const std::string& name);

// Accounts for the keys that any family's config may have beside its own: those that change nothing of hidden
// states are known to be so, others are served with one value alone, such as quantised weights, or layers
// that differ; and code that comes with the model is refused, whatever it computes, unless its family knows
// it.
void AccountForCommonKeys(ConfigFields& fields, bool knows_code = false);

// Whether "auto_map" is there and names classes alone that begin so, beside a tokenizer's: "NomicBert" of
// "modeling_hf_nomic_bert.NomicBertModel".
bool CodeIsOf(ConfigFields& fields, const std::string& classes);

// Whether a model that calls itself BERT is one of Jina's, which bring code of their own.
bool IsJinaBert(ConfigFields& fields);

// "is_causal", which transformers 5 reads in every family that is causal: only with the value true.
void RefuseNonCausal(ConfigFields& fields);

// Our own key "headlight" in their config.json, an object of what their files do not say: how a model's
// vectors are pooled ("pooling", "normalize_pooled"), and whether it is causal after all ("causal").
// Returns whether it says how to pool.
bool ReadOwnKeys(ConfigFields& fields, ModelConfig& config);

// What families differ in where they speak of rotary positions.
struct RopeOptions {
  int64_t max_position_embeddings = 0;
  double theta = 10000.0;                // where none is said
  const char* theta_key = "rope_theta";  // beside the object
  // Not 0: a part of each head may turn. It is said in the object, else beside it, else it is `part`.
  int64_t head_dim = 0;
  double part = 1.0;
  const char* part_key = "partial_rotary_factor";
  // Phi-3 has none but "longrope", which it called "su" at first, and a length of training that counts
  // whatever the object says.
  bool only_longrope = false;
  std::optional<int64_t> original_max_position_embeddings;
};

// The rotary positions of the LLaMA family, from "rope_parameters" (transformers 5) or "rope_theta" and
// "rope_scaling" (before).
RopeConfig ReadHuggingFaceRope(ConfigFields& fields, const RopeOptions& options);
RopeConfig ReadHuggingFaceRope(ConfigFields& fields, int64_t max_position_embeddings);

// The same where each kind of layers has its own, from "rope_parameters": {"<kind>": {...}, ...}, or from the
// key for theta and, for kinds that are `scaled`, "rope_scaling" (before).
RopeConfig ReadLayerRope(ConfigFields& fields, const std::string& kind, bool scaled,
                         const RopeOptions& options);

// Kinds of layers, as "layer_types" calls them.
inline constexpr char kFullAttention[] = "full_attention";
inline constexpr char kSlidingAttention[] = "sliding_attention";

// What stands before the encoder's names: one of `prefixes` under which the checkpoint has `tensor`, with
// what wrappers add, or the first if none fits. A model with a task head is saved with a prefix, a bare
// encoder without.
std::string FindPrefix(const Shards& checkpoint, const std::string& tensor,
                       std::initializer_list<const char*> prefixes);

// The table of tokens, called `name`. Where it is tied to a task's head, the files may have the head's name
// for it alone: "tie_word_embeddings" of config.json says so, `tied` where that is absent.
struct TokenTable {
  std::string name;
  std::string head;
  bool tied = false;
};
TokenTable ReadTokenTable(ConfigFields& fields, const std::string& name, const std::string& head, bool tied);
void WantTokenTable(const TokenTable& table, Shape shape, std::vector<float>& destination, TensorPlan& plan);

// What is ignored with an encoder's prefix: everything outside of it and the pooler inside. Without a prefix:
// the pooler and heads by their usual names. Constant buffers always.
void IgnoreHeadsAndBuffers(const std::string& prefix, TensorPlan& plan);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_CHECKPOINT_FORMATS_HUGGINGFACE_H_
