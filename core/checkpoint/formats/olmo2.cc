// SPDX-License-Identifier: Apache-2.0
//
// OLMo 2 (OLMo team 2024, arXiv:2501.00656): LLaMA whose norms are behind attention and the feed-forward
// network and before the sum, with norms of queries and keys, of all heads together.
#include "core/checkpoint/formats/llama.h"

namespace headlight {

Format ReadOlmo2(ConfigFields& fields, const Shards& checkpoint) {
  LlamaOptions options = {.norm_placement = NormPlacement::kBranch, .qk_norm = QkNorm::kAllHeads};
  options.qkv_bias = options.output_bias = fields.Bool("attention_bias", false);
  fields.Only("clip_qkv", {"null"});  // the first OLMo's
  return ReadLlamaLike(fields, checkpoint, {.vocab_size = 50304, .norm_eps = 1e-5}, options);
}

}  // namespace headlight
