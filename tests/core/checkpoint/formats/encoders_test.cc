// SPDX-License-Identifier: Apache-2.0
//
// The encoders beside BERT's own family: what their config.json files say, what is refused, and where tensors
// go that are fused, shared or wanted by several layers. That whole models are right is for the golden ones
// to tell.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/checkpoint/formats/huggingface.h"
#include "tests/core/checkpoint/formats/format_folder.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using testing::CountedFrom;
using ::testing::ElementsAre;
using testing::FormatFolder;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;
using testing::TransposedFrom;

// What a reader makes of a config alone, and its problems.
struct ReadConfig {
  Format format;
  absl::Status status;
};

ReadConfig Read(FormatReader read, const std::string& config) {
  FormatFolder folder;
  folder.Add("unrelated", {1});
  ConfigFields fields = folder.Fields(config).value();
  ReadConfig result = {.format = read(fields, folder.Checkpoint().value())};
  AccountForCommonKeys(fields, result.format.knows_code);
  result.status = fields.status();
  return result;
}

void AddLinear(FormatFolder& folder, const std::string& name, int64_t in, int64_t out, float first) {
  folder.Add(name + ".weight", {out, in}, first);
  folder.Add(name + ".bias", {out}, first + 50);
}

void AddNorm(FormatFolder& folder, const std::string& name, int64_t width) {
  folder.Add(name + ".weight", {width}, 1);
  folder.Add(name + ".bias", {width}, 2);
}

struct RefusedCase {
  FormatReader read;
  const char* config;
  const char* message;
};

TEST(EncodersTest, WhatIsNotServedIsRefusedByName) {
  const RefusedCase cases[] = {
      {ReadMpnet, R"({"relative_attention_num_buckets": 64})", "relative_attention_num_buckets: got 64"},
      {ReadElectra, R"({"position_embedding_type": "relative_key"})", "position_embedding_type: got"},
      {ReadElectra, R"({"is_decoder": true, "is_causal": false})", "is_causal: got"},
      {ReadAlbert, R"({"position_embedding_type": "relative_key_query"})", "position_embedding_type: got"},
      {ReadAlbert, R"({"num_hidden_groups": 13})", "num_hidden_groups: got 13"},
      {ReadModernBert, R"({"layer_types": ["full_attention"]})", "layer_types: got 1, wanted one for each"},
      {ReadModernBert, R"({"num_hidden_layers": 1, "layer_types": ["chunked"]})",
       "layer_types: got \"chunked\""},
      {ReadModernBert, R"({"rope_scaling": {"type": "linear", "factor": 2}})", "rope_scaling: got"},
      {ReadModernBert, R"({"rope_parameters": {"rope_type": "default"}})",
       "rope_parameters.rope_type: got it"},
      {ReadModernBert, R"({"local_rope_theta": null})", "local_rope_theta: got null"},
      {ReadModernBert, R"({"sliding_window": 4})", "sliding_window: got 4"},
      {ReadModernBert, R"({"head_dim": 32})", "head_dim: got 32, served is 64"},
      {ReadModernBert, R"({"original_max_position_embeddings": 32})",
       "original_max_position_embeddings: got 32"},
      {ReadNomicBert, R"({"n_embd": 8, "n_inner": 4, "activation_function": "glu", "rotary_emb_base": 1,
          "rotary_emb_fraction": 1.0})",
       "activation_function: got \"glu\""},
      {ReadNomicBert, R"({"n_embd": 8, "n_inner": 4, "activation_function": "swiglu"})",
       "rotary_emb_base: missing"},
      {ReadNomicBert, R"({"n_embd": 8, "n_head": 2, "n_inner": 4, "activation_function": "swiglu",
          "rotary_emb_base": 1, "rotary_emb_fraction": 0.0})",
       "rotary_emb_fraction: got that of 0"},
      {ReadNomicBert, R"({"n_embd": 8, "prenorm": true})", "prenorm: got true"},
      {ReadNomicBert, R"({"n_embd": 8, "use_rms_norm": true})", "use_rms_norm: got true"},
      {ReadNomicBert, R"({"n_embd": 8, "causal": true})", "causal: got true"},
      {ReadNomicBert, R"({"n_embd": 8, "parallel_block": true})", "parallel_block: got true"},
      {ReadNomicBert, R"({"n_embd": 8, "rotary_emb_interleaved": true})", "rotary_emb_interleaved: got true"},
      {ReadNomicBert, R"({"n_embd": 8, "rotary_emb_scale_base": 512})", "rotary_emb_scale_base: got 512"},
      {ReadNomicBert, R"({"n_embd": 8, "moe_every_n_layers": 2})", "moe_every_n_layers: got 2"},
      {ReadNomicBert, R"({"auto_map": {"AutoModel": "modeling_hf_nomic_bert.NomicBertModel"}})", "auto_map"},
      {ReadGte, R"({"rope_scaling": {"type": "ntk", "factor": 2}})", "ntk"},
      {ReadNew, R"({"rope_scaling": {"type": "linear", "factor": 2}})", "rope_scaling.type: got \"linear\""},
      {ReadNew, R"({"rope_scaling": {"type": "ntk", "factor": 2, "mixed_b": 0.6}})", "rope_scaling.mixed_b"},
      {ReadNew, R"({"position_embedding_type": "absolute"})", "position_embedding_type: got"},
      {ReadNew, R"({"layer_norm_type": "rms_norm"})", "layer_norm_type: got"},
      {ReadNew, R"({"logn_attention_scale": true})", "logn_attention_scale: got true"},
      {ReadNew, R"({"auto_map": {"AutoModel": "elsewhere.OtherModel"}})", "auto_map"},
      {ReadBert, R"({"position_embedding_type": "alibi", "feed_forward_type": "swiglu"})",
       "feed_forward_type: got \"swiglu\""},
      {ReadBert, R"({"feed_forward_type": "geglu"})", "position_embedding_type: wanted \"alibi\""},
      {ReadBert, R"({"position_embedding_type": "alibi", "is_decoder": true})", "is_decoder: got true"},
      {ReadBert, R"({"position_embedding_type": "alibi", "feed_forward_type": "geglu", "auto_map":
          {"AutoModel": "jinaai/jina-bert-v2-qk-post-norm--modeling_bert.JinaBertModel"}})",
       "qk-post-norm"},
      {ReadBert, R"({"auto_map": {"AutoModel": "modeling_mine.BertModel"}})", "auto_map"},
      {ReadDeberta, R"({"talking_head": true})", "talking_head: got true"},
      {ReadDebertaV2, R"({"pos_att_type": "c2p|c2p"})", "pos_att_type: got one of them twice"},
      {ReadDebertaV2, R"({"pos_att_type": ["p2p"]})", "pos_att_type: got \"p2p\""},
      {ReadDebertaV2, R"({"norm_rel_ebd": "rms"})", "norm_rel_ebd: got \"rms\""},
      {ReadDebertaV2, R"({"conv_kernel_size": 3})", "conv_kernel_size: got"},
      {ReadDebertaV2, R"({"embedding_size": 128})", "embedding_size: got 128"},
      {ReadDebertaV2, R"({"attention_head_size": 32})", "attention_head_size: got 32"},
  };
  for (const RefusedCase& refused : cases) {
    EXPECT_THAT(std::string(Read(refused.read, refused.config).status.message()), HasSubstr(refused.message))
        << refused.config;
  }
}

TEST(EncodersTest, CodeThatIsKnownIsAccepted) {
  EXPECT_THAT(Read(ReadNew, R"({"auto_map": {"AutoConfig": "Alibaba-NLP/new-impl--configuration.NewConfig",
                  "AutoModel": "Alibaba-NLP/new-impl--modeling.NewModel"}})")
                  .status,
              IsOk());
  EXPECT_THAT(Read(ReadGte, R"({"auto_map": {"AutoModel": "modeling_hf_alibaba_nlp_gte.GteModel"},
                  "rope_scaling": {"type": "ntk", "factor": 2}})")
                  .status,
              IsOk());
  EXPECT_THAT(Read(ReadBert, R"({"position_embedding_type": "alibi", "auto_map": {"AutoModel":
                  "jinaai/jina-bert-implementation--modeling_bert.JinaBertModel"}})")
                  .status,
              IsOk());
  EXPECT_THAT(Read(ReadNomicBert, R"({"n_embd": 8, "n_head": 2, "n_inner": 4, "activation_function": "swiglu",
                  "rotary_emb_base": 1000, "rotary_emb_fraction": 1.0, "auto_map": {"AutoModel":
                  "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel"}})")
                  .status,
              IsOk());
}

TEST(EncodersTest, CodeOfATokenizerSaysNothingOfTheModel) {
  const ReadConfig bert =
      Read(ReadBert, R"({"auto_map": {"AutoTokenizer": ["mine.JinaBertTokenizer", null]}})");
  EXPECT_THAT(bert.status, IsOk());
  EXPECT_FALSE(bert.format.config.block.attention.alibi);
}

TEST(EncodersTest, AbsentKeysAreWhatTheClassesSay) {
  ModelConfig config = Read(ReadMpnet, "{}").format.config;
  EXPECT_EQ(config.embedding->vocab_size, 30527);
  EXPECT_EQ(config.embedding->num_token_types, 0);
  config = Read(ReadElectra, "{}").format.config;
  EXPECT_EQ(config.block.attention.embed_dim, 256);
  EXPECT_EQ(config.block.attention.num_heads, 4);
  EXPECT_EQ(config.embedding->dim, 128);
  config = Read(ReadAlbert, "{}").format.config;
  EXPECT_EQ(config.block.attention.embed_dim, 4096);
  EXPECT_EQ(config.block.feed_forward.activation, Activation::kGeluTanh);
  config = Read(ReadModernBert, "{}").format.config;
  EXPECT_EQ(config.num_layers, 22);
  EXPECT_EQ(config.block.attention.rope->theta, 160000.0);
  EXPECT_EQ(config.block.norm_eps, 1e-5);
  config = Read(ReadNomicBert, "{}").format.config;
  EXPECT_EQ(config.block.attention.rope->theta, 1000.0);
  EXPECT_EQ(config.block.feed_forward.activation, Activation::kSilu);
  config = Read(ReadGte, "{}").format.config;
  EXPECT_EQ(config.block.attention.rope->theta, 160000.0);
  EXPECT_EQ(config.embedding->vocab_size, 250048);
  config = Read(ReadNew, "{}").format.config;
  EXPECT_EQ(config.block.attention.rope->theta, 10000.0);
  EXPECT_EQ(config.embedding->vocab_size, 30528);
  config = Read(ReadDebertaV2, "{}").format.config;
  EXPECT_EQ(config.num_layers, 24);
  EXPECT_EQ(config.block.norm_eps, 1e-7);
  EXPECT_EQ(config.block.attention.disentangled, std::nullopt);
}

TEST(MpnetTest, AllLayersHaveTheSameBiasOfDistances) {
  FormatFolder folder;
  folder.Add("embeddings.word_embeddings.weight", {5, 4});
  folder.Add("embeddings.position_embeddings.weight", {7, 4});
  AddNorm(folder, "embeddings.LayerNorm", 4);
  folder.Add("encoder.relative_attention_bias.weight", {32, 2}, 1000);
  for (int layer = 0; layer < 2; ++layer) {
    const std::string name = absl::StrCat("encoder.layer.", layer, ".");
    for (const char* part : {"q", "k", "v", "o"})
      AddLinear(folder, name + "attention.attn." + part, 4, 4, 100);
    AddNorm(folder, name + "attention.LayerNorm", 4);
    AddLinear(folder, name + "intermediate.dense", 4, 6, 600);
    AddLinear(folder, name + "output.dense", 6, 4, 700);
    AddNorm(folder, name + "output.LayerNorm", 4);
  }
  const auto model = folder.Read(ReadMpnet, R"({"hidden_size": 4, "num_attention_heads": 2,
      "num_hidden_layers": 2, "intermediate_size": 6, "vocab_size": 5, "max_position_embeddings": 7,
      "pad_token_id": 0})");
  ASSERT_THAT(model, IsOk());
  for (const BlockParameters& layer : model->parameters.layers) {
    EXPECT_EQ(layer.attention.relative_bias, CountedFrom(1000, 64));
  }
  EXPECT_EQ(model->config.embedding->padding_id, 1);  // whatever the key says
  EXPECT_EQ(model->config.embedding->position_offset, 2);
}

TEST(AlbertTest, LayersShareWhatIsInTheirGroup) {
  const ModelConfig config = Read(ReadAlbert, R"({"hidden_size": 4, "num_attention_heads": 2,
      "num_hidden_layers": 5, "num_hidden_groups": 2, "inner_group_num": 2})")
                                 .format.config;
  EXPECT_EQ(config.num_layers, 10);
  EXPECT_THAT(config.layer_parameters, ElementsAre(0, 1, 0, 1, 0, 1, 6, 7, 6, 7));
  EXPECT_TRUE(config.embedding->projected);
}

TEST(ModernBertTest, LayersDifferInWindowsPositionsAndTheFirstNorm) {
  const ModelConfig config = Read(ReadModernBert, R"({"num_hidden_layers": 5, "local_attention": 9,
      "global_rope_theta": 500.0, "local_rope_theta": 20.0})")
                                 .format.config;
  EXPECT_THAT(config.Validate(), IsOk());
  EXPECT_THAT(config.layer_blocks, ElementsAre(0, 1, 1, 2, 1));
  EXPECT_FALSE(config.block.attention_norm);
  EXPECT_EQ(config.block.attention.rope->theta, 500.0);
  EXPECT_EQ(config.block.attention.window_left, std::nullopt);
  EXPECT_TRUE(config.other_blocks[0].attention_norm);
  EXPECT_EQ(config.other_blocks[0].attention.rope->theta, 20.0);
  EXPECT_EQ(config.other_blocks[0].attention.window_left, 4);
  EXPECT_EQ(config.other_blocks[0].attention.window_right, 4);
  EXPECT_TRUE(config.other_blocks[1].attention_norm);
  EXPECT_EQ(config.other_blocks[1].attention.window_left, std::nullopt);
}

TEST(ModernBertTest, FusedMatricesAreTakenApart) {
  FormatFolder folder;
  folder.Add("embeddings.tok_embeddings.weight", {5, 4});
  for (const char* norm : {"embeddings.norm", "layers.0.mlp_norm", "final_norm"}) {
    folder.Add(absl::StrCat(norm, ".weight"), {4}, 10);
  }
  folder.Add("layers.0.attn.Wqkv.weight", {12, 4}, 100);
  folder.Add("layers.0.attn.Wo.weight", {4, 4}, 200);
  folder.Add("layers.0.mlp.Wi.weight", {6, 4}, 300);
  folder.Add("layers.0.mlp.Wo.weight", {4, 3}, 400);
  folder.Prefix("model.");
  const auto model = folder.Read(ReadModernBert, R"({"hidden_size": 4, "num_attention_heads": 2,
      "num_hidden_layers": 1, "intermediate_size": 3, "vocab_size": 5})");
  ASSERT_THAT(model, IsOk());
  const BlockParameters& block = model->parameters.layers[0];
  EXPECT_EQ(block.attention.wq, TransposedFrom(100, 4, 4));
  EXPECT_EQ(block.attention.wk, TransposedFrom(116, 4, 4));
  EXPECT_EQ(block.attention.wv, TransposedFrom(132, 4, 4));
  EXPECT_TRUE(block.attention.bq.empty());
  EXPECT_EQ(block.feed_forward.gate, TransposedFrom(300, 4, 3));
  EXPECT_EQ(block.feed_forward.up, TransposedFrom(312, 4, 3));
  EXPECT_EQ(block.feed_forward.down, TransposedFrom(400, 3, 4));
  EXPECT_TRUE(block.attention_norm.gain.empty());
}

TEST(NomicBertTest, BeyondWhatItWasTrainedWithPositionsAreNotServed) {
  const char kKeys[] = R"({"n_embd": 8, "n_head": 2, "n_inner": 4, "activation_function": "swiglu",
      "rotary_emb_base": 1000, "rotary_emb_fraction": 0.5, "rotary_scaling_factor": %s, "vocab_size": 7,
      "pad_vocab_size_multiple": 4})";
  std::string scaled = kKeys;
  scaled.replace(scaled.find("%s"), 2, "2");
  ModelConfig config = Read(ReadNomicBert, scaled).format.config;
  EXPECT_EQ(config.block.attention.rope->max_len, 2048);
  EXPECT_EQ(config.block.attention.rope->rotary_dim, 2);
  EXPECT_EQ(config.embedding->vocab_size, 8);
  std::string unscaled = kKeys;
  unscaled.replace(unscaled.find("%s"), 2, "null");
  EXPECT_EQ(Read(ReadNomicBert, unscaled).format.config.block.attention.rope->max_len, 0);
}

TEST(GteTest, NtkGrowsTheBaseAndDividesAllFrequencies) {
  const ModelConfig config =
      Read(ReadNew, R"({"hidden_size": 8, "num_attention_heads": 2, "rope_theta": 100.0,
      "rope_scaling": {"type": "ntk", "factor": 4.0}})")
          .format.config;
  const RopeConfig& rope = *config.block.attention.rope;
  EXPECT_EQ(rope.theta, 400.0);
  EXPECT_EQ(rope.scaling, RopeConfig::Scaling::kLinear);
  EXPECT_EQ(rope.factor, std::pow(4.0, 2.0 / 4.0));
}

TEST(DebertaTest, TheTableHasARowForEachBucket) {
  const char kKeys[] = R"({"hidden_size": 8, "num_attention_heads": 2, "relative_attention": true,
      "share_att_key": true, "position_biased_input": false, "norm_rel_ebd": "layer_norm")";
  ModelConfig config = Read(ReadDebertaV2, absl::StrCat(kKeys, R"(, "pos_att_type": "p2c|c2p",
      "position_buckets": 256})"))
                           .format.config;
  DisentangledConfig wanted = {.num_buckets = 256, .max_distance = 512, .norm_eps = 1e-7};
  EXPECT_EQ(config.block.attention.disentangled, wanted);
  EXPECT_EQ(config.block.attention.scale, 1.0 / std::sqrt(4.0 * 3));
  EXPECT_EQ(config.embedding->num_positions, 0);
  config = Read(ReadDebertaV2, absl::StrCat(kKeys, R"(, "pos_att_type": ["c2p"],
      "max_relative_positions": 40})"))
               .format.config;
  wanted = {.num_buckets = 40, .max_distance = 0, .key_to_position = false, .norm_eps = 1e-7};
  EXPECT_EQ(config.block.attention.disentangled, wanted);
  EXPECT_EQ(config.block.attention.scale, 1.0 / std::sqrt(4.0 * 2));
}

TEST(DebertaTest, TheFirstOneHasFusedHeadsAndProjectsDistancesOnItsOwn) {
  FormatFolder folder;
  folder.Add("embeddings.word_embeddings.weight", {5, 4});
  AddNorm(folder, "embeddings.LayerNorm", 4);
  folder.Add("encoder.rel_embeddings.weight", {12, 4}, 1000);
  const std::string layer = "encoder.layer.0.";
  folder.Add(layer + "attention.self.in_proj.weight", {12, 4}, 100);
  folder.Add(layer + "attention.self.q_bias", {4}, 10);
  folder.Add(layer + "attention.self.v_bias", {4}, 20);
  folder.Add(layer + "attention.self.pos_proj.weight", {4, 4}, 200);
  AddLinear(folder, layer + "attention.self.pos_q_proj", 4, 4, 300);
  AddLinear(folder, layer + "attention.output.dense", 4, 4, 400);
  AddNorm(folder, layer + "attention.output.LayerNorm", 4);
  AddLinear(folder, layer + "intermediate.dense", 4, 6, 600);
  AddLinear(folder, layer + "output.dense", 6, 4, 700);
  AddNorm(folder, layer + "output.LayerNorm", 4);
  const auto model = folder.Read(ReadDeberta, R"({"hidden_size": 4, "num_attention_heads": 2,
      "num_hidden_layers": 1, "intermediate_size": 6, "vocab_size": 5, "max_relative_positions": 6,
      "relative_attention": true, "position_biased_input": false, "pos_att_type": "c2p|p2c"})");
  ASSERT_THAT(model, IsOk());
  const AttentionParameters& attention = model->parameters.layers[0].attention;
  // The first input's numbers: of both heads, whose rows are two of queries, two of keys and two of values.
  const auto first = [](const std::vector<float>& matrix) {
    return std::vector<float>(matrix.begin(), matrix.begin() + 4);
  };
  EXPECT_THAT(first(attention.wq), ElementsAre(100, 104, 124, 128));
  EXPECT_THAT(first(attention.wk), ElementsAre(108, 112, 132, 136));
  EXPECT_THAT(first(attention.wv), ElementsAre(116, 120, 140, 144));
  EXPECT_EQ(attention.bq, CountedFrom(10, 4));
  EXPECT_TRUE(attention.bk.empty());
  EXPECT_EQ(attention.distances, CountedFrom(1000, 48));
  EXPECT_EQ(attention.distance_wk, TransposedFrom(200, 4, 4));
  EXPECT_TRUE(attention.distance_bk.empty());
  EXPECT_EQ(attention.distance_wq, TransposedFrom(300, 4, 4));
  EXPECT_EQ(attention.distance_bq, CountedFrom(350, 4));
}

TEST(DebertaTest, WithoutRelativeAttentionTheScaleStillCountsTheTerms) {
  const ModelConfig config = Read(ReadDebertaV2, R"({"hidden_size": 8, "num_attention_heads": 2,
      "pos_att_type": ["c2p", "p2c"]})")
                                 .format.config;
  EXPECT_EQ(config.block.attention.disentangled, std::nullopt);
  EXPECT_EQ(config.block.attention.scale, 1.0 / std::sqrt(4.0 * 3));
}

TEST(JinaBertTest, HasAlibiForPositionsAndGatesOfItsOwn) {
  const char kCode[] = R"("auto_map": {"AutoModel": "modeling_bert.JinaBertModel"})";
  ModelConfig config = Read(ReadBert, absl::StrCat("{", kCode, R"(, "position_embedding_type": "alibi",
      "feed_forward_type": "reglu", "hidden_act": "silu"})"))
                           .format.config;
  EXPECT_TRUE(config.block.attention.alibi);
  EXPECT_EQ(config.embedding->num_positions, 0);
  EXPECT_TRUE(config.block.feed_forward.gated);
  EXPECT_EQ(config.block.feed_forward.activation, Activation::kRelu);
  config = Read(ReadBert, absl::StrCat("{", kCode, R"(, "position_embedding_type": "alibi",
      "hidden_act": "silu"})"))
               .format.config;
  EXPECT_FALSE(config.block.feed_forward.gated);
  EXPECT_EQ(config.block.feed_forward.activation, Activation::kSilu);
}

}  // namespace
}  // namespace headlight
