// SPDX-License-Identifier: Apache-2.0
//
// The keys of config.json that no family calls its own.
#include <string>

#include "absl/strings/match.h"
#include "core/checkpoint/config_fields.h"
#include "core/checkpoint/formats/huggingface.h"
#include "core/checkpoint/formats/native_config.h"

namespace headlight {
namespace {

using Problem = ConfigFields::Problem;

// Keys that change nothing of hidden states, by what they are for. They are what PreTrainedConfig of
// transformers 4.30, 4.57 and 5.24 knows.
constexpr const char* kOrigin[] = {
    "architectures", "model_type",           "name_or_path", "_name_or_path", "_commit_hash",
    "dtype",         "transformers_version", "torch_dtype",  "_num_labels",   "task_specific_params"};
// How it is run: in parts, on which device, with which implementation of the same formula, with which of its
// intermediate results.
constexpr const char* kExecution[] = {"_attn_implementation",
                                      "_attn_implementation_autoset",
                                      "_attn_implementation_internal",
                                      "_experts_implementation_internal",
                                      "_output_attentions",
                                      "attn_implementation",
                                      "chunk_size_feed_forward",
                                      "experts_implementation",
                                      "gradient_checkpointing",
                                      "output_attentions",
                                      "output_hidden_states",
                                      "return_dict",
                                      "tf_legacy_loss",
                                      "tie_last_hidden_states",
                                      "torchscript",
                                      "use_bfloat16",
                                      "use_cache",
                                      "use_return_dict"};
// What only a task's head reads, or ties to the table of tokens.
constexpr const char* kHeads[] = {
    "classifier_dropout", "finetuning_task",     "id2label",           "label2id", "num_labels",
    "problem_type",       "tie_encoder_decoder", "tie_word_embeddings"};
// Training draws parameters and drops values.
constexpr const char* kTraining[] = {"initializer_range"};
// Of the tokenizer: ids come from there. Where a position depends on one, its family reads it.
constexpr const char* kTokens[] = {"bos_token_id", "decoder_start_token_id", "eos_token_id",   "pad_token_id",
                                   "prefix",       "sep_token_id",           "tokenizer_class"};
// Which token is drawn next.
constexpr const char* kGeneration[] = {"assistant_confidence_threshold",
                                       "assistant_lookbehind",
                                       "bad_words_ids",
                                       "begin_suppress_tokens",
                                       "diversity_penalty",
                                       "do_sample",
                                       "early_stopping",
                                       "encoder_no_repeat_ngram_size",
                                       "encoder_repetition_penalty",
                                       "epsilon_cutoff",
                                       "eta_cutoff",
                                       "exponential_decay_length_penalty",
                                       "forced_bos_token_id",
                                       "forced_eos_token_id",
                                       "length_penalty",
                                       "max_length",
                                       "min_length",
                                       "no_repeat_ngram_size",
                                       "num_assistant_tokens",
                                       "num_assistant_tokens_schedule",
                                       "num_beam_groups",
                                       "num_beams",
                                       "num_return_sequences",
                                       "output_scores",
                                       "remove_invalid_values",
                                       "repetition_penalty",
                                       "return_dict_in_generate",
                                       "suppress_tokens",
                                       "target_lookbehind",
                                       "temperature",
                                       "top_k",
                                       "top_p",
                                       "typical_p"};

// Code that comes with a model may compute anything, whatever the model calls itself. That of a tokenizer is
// run elsewhere.
bool IsTokenizer(const std::string& key) { return key == "AutoTokenizer" || key == "AutoProcessor"; }

void RefuseCode(ConfigFields& fields, bool known) {
  ConfigFields code = fields.Object("auto_map");
  for (const std::string& key : code.keys()) {
    code.WithoutEffect({key.c_str()});
    if (known || IsTokenizer(key)) continue;
    fields.Fail(Problem::kUnimplemented, "auto_map",
                "the model brings code of its own, which is not run and may compute something else than "
                "model_type says; is it known to compute the same, delete the key");
    return;
  }
}

}  // namespace

bool CodeIsOf(ConfigFields& fields, const std::string& classes) {
  ConfigFields code = fields.Object("auto_map");
  bool any = false;
  for (const std::string& key : code.keys()) {
    if (IsTokenizer(key)) continue;
    for (const std::string& name : code.StringOrStrings(key)) {
      if (!absl::StartsWith(name.substr(name.rfind('.') + 1), classes)) return false;
      any = true;
    }
  }
  return any;
}

void AccountForCommonKeys(ConfigFields& fields, bool knows_code) {
  for (const std::span<const char* const> keys :
       {std::span<const char* const>(kOrigin), std::span<const char* const>(kExecution),
        std::span<const char* const>(kHeads), std::span<const char* const>(kTraining),
        std::span<const char* const>(kTokens), std::span<const char* const>(kGeneration)}) {
    fields.WithoutEffect(keys);
  }
  RefuseCode(fields, knows_code);
  for (const char* key : {"quantization_config", "compression_config"}) {
    if (!fields.Has(key)) continue;
    fields.Fail(Problem::kUnimplemented, key,
                "quantised weights are not served; save the model in f32, f16 or bf16");
  }
  fields.Only("is_encoder_decoder", {"false"});
  fields.Only("add_cross_attention", {"false"});
  fields.Only("cross_attention_hidden_size", {"null"});
  fields.Only("pruned_heads", {"{}"});
  fields.Only("per_layer_config", {"{}"});
}

bool ReadOwnKeys(ConfigFields& fields, ModelConfig& config) {
  if (!fields.Has("headlight")) return false;
  ConfigFields own = fields.Object("headlight");
  config.causal = own.Bool("causal", config.causal);
  ReadPoolingOptions(own, config);
  own.FailUnknownKeys();
  return own.Has("pooling");
}

}  // namespace headlight
