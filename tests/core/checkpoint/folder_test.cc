// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/checkpoint/safetensors_writer.h"
#include "core/model/model.h"
#include "tests/core/checkpoint/as_dtype.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::headlight::testing::IsOk;
using ::headlight::testing::StatusIs;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kUnimplemented = absl::StatusCode::kUnimplemented;

// A folder of its own for each test, gone with it.
class ModelFolderTest : public ::testing::Test {
 protected:
  ModelFolderTest()
      : folder_(absl::StrCat(::testing::TempDir(), "/model_folder_test.", getpid(), ".",
                             ::testing::UnitTest::GetInstance()->current_test_info()->name())) {
    std::filesystem::create_directories(folder_);
  }
  ~ModelFolderTest() override { std::filesystem::remove_all(folder_); }

  void WriteFile(const std::string& name, const std::string& text) const {
    const std::string path = folder_ + "/" + name;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream(path) << text;
  }

  void WriteTensors(const std::map<std::string, Shape>& shapes) const {
    std::vector<float> numbers(100000, 0.25f);
    std::map<std::string, TensorToWrite> tensors;
    for (const auto& [name, shape] : shapes) tensors[name] = {shape, numbers.data()};
    ASSERT_THAT(WriteSafetensors(folder_ + "/model.safetensors", tensors), IsOk());
  }

  // A torch.nn.MultiheadAttention of width 8, with this config.
  absl::StatusOr<ModelSummary> InspectAttention(const std::string& config) const {
    WriteFile("config.json", config);
    WriteTensors({{"in_proj_weight", {24, 8}},
                  {"in_proj_bias", {24}},
                  {"out_proj.weight", {8, 8}},
                  {"out_proj.bias", {8}}});
    return InspectModelFolder(folder_);
  }

  // A BERT of one layer, of which `changes` replaces keys of the config or, beginning with a comma, adds
  // some.
  absl::StatusOr<ModelSummary> InspectBert(const std::map<std::string, std::string>& changes) const {
    std::map<std::string, std::string> keys = {{"model_type", R"("bert")"},      {"hidden_size", "8"},
                                               {"num_hidden_layers", "1"},       {"num_attention_heads", "2"},
                                               {"intermediate_size", "12"},      {"vocab_size", "20"},
                                               {"max_position_embeddings", "16"}};
    for (const auto& [key, value] : changes) keys[key] = value;
    std::string text = "{";
    for (const auto& [key, value] : keys) {
      if (!value.empty()) absl::StrAppend(&text, text.size() > 1 ? "," : "", "\"", key, "\":", value);
    }
    WriteFile("config.json", text + "}");
    WriteTensors(BertTensors());
    return InspectModelFolder(folder_);
  }

  static std::map<std::string, Shape> BertTensors() {
    std::map<std::string, Shape> shapes = {{"embeddings.word_embeddings.weight", {20, 8}},
                                           {"embeddings.position_embeddings.weight", {16, 8}},
                                           {"embeddings.token_type_embeddings.weight", {2, 8}},
                                           {"embeddings.LayerNorm.gamma", {8}},
                                           {"embeddings.LayerNorm.beta", {8}}};
    const std::string layer = "encoder.layer.0.";
    const auto linear = [&](const std::string& name, int64_t in, int64_t out) {
      shapes[layer + name + ".weight"] = {out, in};
      shapes[layer + name + ".bias"] = {out};
    };
    linear("attention.self.query", 8, 8);
    linear("attention.self.key", 8, 8);
    linear("attention.self.value", 8, 8);
    linear("attention.output.dense", 8, 8);
    linear("intermediate.dense", 8, 12);
    linear("output.dense", 12, 8);
    for (const char* norm : {"attention.output.LayerNorm", "output.LayerNorm"}) {
      shapes[layer + norm + ".weight"] = {8};
      shapes[layer + norm + ".bias"] = {8};
    }
    return shapes;
  }

  const std::string folder_;
};

TEST_F(ModelFolderTest, ShapesTellWhatTheConfigLeavesOut) {
  const auto summary = InspectAttention(
      R"({"format": "headlight", "layout": "torch.nn.MultiheadAttention", "num_heads": 2, "precision": "bf16",
          "parameters_precision": "int8", "window_left": 3, "rope": {"theta": 500}, "causal": true,
          "pooling": "cls", "scale": 0.5})");
  ASSERT_THAT(summary, IsOk());
  EXPECT_EQ(summary->format, "torch.nn.MultiheadAttention");
  EXPECT_EQ(summary->num_parameters, 24 * 8 + 24 + 8 * 8 + 8);
  EXPECT_EQ(summary->precision, Precision::kBf16);
  const ModelConfig& config = summary->config;
  EXPECT_EQ(config.block.attention.embed_dim, 8);
  EXPECT_EQ(config.block.attention.head_dim, 4);
  EXPECT_EQ(config.block.attention.precision, Precision::kBf16);
  EXPECT_EQ(summary->parameters_precision, Precision::kInt8);
  EXPECT_EQ(config.block.attention.parameters_precision, Precision::kInt8);
  EXPECT_EQ(config.block.attention.window_left, 3);
  EXPECT_EQ(config.block.attention.rope->theta, 500.0);
  EXPECT_EQ(config.block.attention.scale, 0.5);
  EXPECT_TRUE(config.causal);
  EXPECT_THAT(config.pooling, ElementsAre(Pooling::kCls));
}

TEST_F(ModelFolderTest, OldNamesOfLayerNormAreUnderstood) {
  const auto summary = InspectBert({});
  ASSERT_THAT(summary, IsOk());
  EXPECT_EQ(summary->format, "bert");
  EXPECT_EQ(summary->config.embedding->vocab_size, 20);
}

struct WrongConfig {
  const char* name;
  const char* text;
  absl::StatusCode code;
  const char* message;
};

class WrongConfigTest : public ModelFolderTest, public ::testing::WithParamInterface<WrongConfig> {};

TEST_P(WrongConfigTest, IsRefusedByName) {
  EXPECT_THAT(InspectAttention(GetParam().text),
              StatusIs(GetParam().code, AllOf(StartsWith(folder_), HasSubstr(GetParam().message))));
}

#define ATTENTION R"({"format": "headlight", "layout": "torch.nn.MultiheadAttention")"
INSTANTIATE_TEST_SUITE_P(
    Cases, WrongConfigTest,
    ::testing::Values(
        WrongConfig{"MissingKey", ATTENTION "}", kInvalid, "num_heads: missing"},
        WrongConfig{"WrongType", ATTENTION R"(, "num_heads": "2"})", kInvalid, "num_heads: got \"2\""},
        WrongConfig{"FractionalInteger", ATTENTION R"(, "num_heads": 2.5})", kInvalid, "num_heads: got 2.5"},
        WrongConfig{"HeadsThatDoNotDivide", ATTENTION R"(, "num_heads": 3})", kInvalid,
                    "num_heads: got 3, wanted a divisor of embed_dim 8"},
        WrongConfig{"Negative", ATTENTION R"(, "num_heads": -2})", kInvalid, "num_heads: got -2"},
        WrongConfig{"UnknownKey", ATTENTION R"(, "num_heads": 2, "nheads": 2})", kInvalid,
                    "\"nheads\": unknown key, wanted one of"},
        WrongConfig{"UnknownKeyInside", ATTENTION R"(, "num_heads": 2, "rope": {"base": 2}})", kInvalid,
                    "rope.\"base\": unknown key"},
        WrongConfig{"UnknownPrecision", ATTENTION R"(, "num_heads": 2, "precision": "fp8"})", kInvalid,
                    "precision: got \"fp8\", wanted one of f32, bf16, int8"},
        WrongConfig{"UnknownLayout", R"({"format": "headlight", "layout": "keras", "num_heads": 2})",
                    kUnimplemented, "layout: got \"keras\", served are native, torch.nn.MultiheadAttention"},
        WrongConfig{"UnknownFormat", R"({"format": "onnx"})", kInvalid, "format: got \"onnx\""},
        WrongConfig{"UnknownModelType", R"({"model_type": "t5"})", kUnimplemented,
                    "model_type: got \"t5\", served are albert"},
        WrongConfig{"NoKindOfConfig", R"({"num_heads": 2})", kInvalid, "neither is there"},
        WrongConfig{"NotJson", "num_heads: 2", kInvalid, "config.json"},
        WrongConfig{"NotAnObject", "[2]", kInvalid, "wanted a JSON object"},
        WrongConfig{"UnknownActivation",
                    R"({"format": "headlight", "layout": "torch.nn.TransformerEncoder", "num_heads": 2,
                        "activation": "mish"})",
                    kInvalid, "activation: got \"mish\", wanted one of relu, gelu, gelu_tanh, silu"},
        WrongConfig{"OtherTensorsThanTheLayout",
                    R"({"format": "headlight", "layout": "torch.nn.MultiheadAttention", "num_heads": 2,
                        "prefix": "attn"})",
                    kInvalid, "no matrix attn.in_proj_weight"}),
    [](const auto& info) { return info.param.name; });
#undef ATTENTION

TEST_F(ModelFolderTest, HuggingFaceOptionsThatAreNotServedAreNamed) {
  EXPECT_THAT(InspectBert({{"hidden_act", R"("quick_gelu")"}}),
              StatusIs(kUnimplemented, HasSubstr("hidden_act: got \"quick_gelu\", served are relu, gelu")));
  EXPECT_THAT(InspectBert({{"position_embedding_type", R"("relative_key")"}}),
              StatusIs(kUnimplemented, HasSubstr("position_embedding_type: got \"relative_key\"")));
  EXPECT_THAT(InspectBert({{"quantization_config", R"({"bits": 4})"}}),
              StatusIs(kUnimplemented, HasSubstr("quantization_config")));
  EXPECT_THAT(InspectBert({{"add_cross_attention", "true"}}),
              StatusIs(kUnimplemented, HasSubstr("add_cross_attention")));
  EXPECT_THAT(
      InspectBert({{"hidden_size", R"("8")"}, {"num_hidden_layers", "0"}}),
      StatusIs(kInvalid, AllOf(HasSubstr("hidden_size: got \"8\""), HasSubstr("num_hidden_layers: got 0"))));
  EXPECT_THAT(InspectBert({{"num_hidden_layers", "1000000000"}}),
              StatusIs(kInvalid, HasSubstr("num_hidden_layers: got 1000000000")));
}

TEST_F(ModelFolderTest, ScalingsOfRotaryPositionsThatAreNotServedAreNamed) {
  for (const char* type : {"proportional", "axial", "su"}) {
    EXPECT_THAT(
        InspectAttention(absl::StrCat(
            R"({"model_type": "llama", "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1,
                        "intermediate_size": 12, "vocab_size": 20, "rope_scaling": {"type": ")",
            type, R"(", "factor": 2.0}})")),
        StatusIs(kUnimplemented,
                 HasSubstr(absl::StrCat("rope_scaling.rope_type: got \"", type, "\", served are default"))));
  }
}

TEST_F(ModelFolderTest, ADecoderOfBertIsCausal) {
  const auto summary = InspectBert({{"is_decoder", "true"}});
  ASSERT_THAT(summary, IsOk());
  EXPECT_TRUE(summary->config.causal);
}

TEST_F(ModelFolderTest, AllTensorsThatDoNotFitStandInOneError) {
  ASSERT_THAT(InspectBert({}), IsOk());
  std::map<std::string, Shape> tensors = BertTensors();
  tensors.erase("encoder.layer.0.output.dense.bias");
  tensors.erase("embeddings.LayerNorm.gamma");
  tensors["encoder.layer.0.intermediate.dense.weight"] = {8, 12};
  tensors["encoder.layer.1.output.dense.bias"] = {8};
  tensors["pooler.dense.weight"] = {8, 8};
  WriteTensors(tensors);
  EXPECT_THAT(
      InspectModelFolder(folder_),
      StatusIs(
          kInvalid,
          AllOf(
              StartsWith(folder_), HasSubstr("4 tensors do not fit"),
              HasSubstr("missing: encoder.layer.0.output.dense.bias, expected [8]"),
              HasSubstr("missing: embeddings.LayerNorm.weight (or embeddings.LayerNorm.gamma), expected [8]"),
              HasSubstr(
                  "misshapen: encoder.layer.0.intermediate.dense.weight, expected [12, 8], found [8, 12]"),
              HasSubstr("surplus: encoder.layer.1.output.dense.bias, found [8] F32"))));
}

TEST_F(ModelFolderTest, UnderAPrefixOnlyWhatIsWrongIsListed) {
  ASSERT_THAT(InspectBert({}), IsOk());
  std::map<std::string, Shape> tensors = {{"classifier.weight", {3, 8}}};
  for (const auto& [name, shape] : BertTensors()) tensors["bert." + name] = shape;
  WriteTensors(tensors);
  const auto summary = InspectModelFolder(folder_);
  ASSERT_THAT(summary, IsOk());
  EXPECT_EQ(summary->ignored_tensors, std::vector<std::string>{"classifier.weight"});
  tensors.erase("bert.embeddings.word_embeddings.weight");
  WriteTensors(tensors);
  EXPECT_THAT(InspectModelFolder(folder_),
              StatusIs(kInvalid, HasSubstr("1 tensor does not fit:\n  missing: "
                                           "bert.embeddings.word_embeddings.weight (or "
                                           "cls.predictions.decoder.weight), expected [20, 8]")));
}

TEST_F(ModelFolderTest, ATokenTypeTableWithoutRowsIsNone) {
  EXPECT_THAT(InspectBert({{"type_vocab_size", "0"}}),
              StatusIs(kInvalid, HasSubstr("token_type_embeddings.weight, expected [0, 8], found [2, 8]")));
  std::map<std::string, Shape> tensors = BertTensors();
  tensors["embeddings.token_type_embeddings.weight"] = {0, 8};
  WriteTensors(tensors);
  const auto summary = InspectModelFolder(folder_);
  ASSERT_THAT(summary, IsOk());
  EXPECT_EQ(summary->config.embedding->num_token_types, 0);
}

TEST_F(ModelFolderTest, ATensorThatHoldsNoWeightsIsRefused) {
  WriteFile("config.json",
            R"({"format": "headlight", "layout": "torch.nn.MultiheadAttention", "num_heads": 1})");
  // Two tensors of one number: {"in_proj_weight": I64 [3, 1], "out_proj.weight": F32 [1, 1]}.
  const std::string header = R"({"in_proj_weight":{"dtype":"I64","shape":[3,1],"data_offsets":[0,24]},)"
                             R"("out_proj.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[24,28]}})";
  std::string file(8, '\0');
  file[0] = static_cast<char>(header.size());
  WriteFile("model.safetensors", file + header + std::string(28, '\0'));
  EXPECT_THAT(
      InspectModelFolder(folder_),
      StatusIs(kInvalid, HasSubstr("dtype: in_proj_weight, expected F32, F16, BF16, F64, found I64")));
}

TEST_F(ModelFolderTest, AFolderWithoutAModelIsNotFound) {
  EXPECT_THAT(InspectModelFolder(folder_), StatusIs(absl::StatusCode::kNotFound, HasSubstr("config.json")));
  WriteFile("config.json", R"({"model_type": "bert"})");
  EXPECT_THAT(InspectModelFolder(folder_), StatusIs(absl::StatusCode::kNotFound, StartsWith(folder_)));
}

TEST_F(ModelFolderTest, SentenceTransformersSayHowToPool) {
  ASSERT_THAT(InspectBert({}), IsOk());
  EXPECT_THAT(InspectModelFolder(folder_)->config.pooling, IsEmpty());
  EXPECT_THAT(InspectModelFolder(folder_)->config.no_pooling, HasSubstr("no file says how"));
  WriteFile("1_Pooling/config.json", R"({"word_embedding_dimension": 8, "pooling_mode_cls_token": true,
                                         "pooling_mode_mean_tokens": false})");
  EXPECT_THAT(InspectModelFolder(folder_)->config.pooling, ElementsAre(Pooling::kCls));
  WriteFile("modules.json", R"([
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}])");
  EXPECT_THAT(InspectModelFolder(folder_)->config.pooling, ElementsAre(Pooling::kCls));
  EXPECT_TRUE(InspectModelFolder(folder_)->config.normalize_pooled);
  EXPECT_THAT(InspectBert({{"headlight", R"({"pooling": ["mean", "last"]})"}}), IsOk());
  EXPECT_THAT(InspectModelFolder(folder_)->config.pooling, ElementsAre(Pooling::kMean, Pooling::kLast))
      << "our own key goes before";
}

// As sentence-transformers wrote it before it kept the encoder in the folder itself.
TEST_F(ModelFolderTest, TheEncoderMayLieWhereTheListOfModulesSays) {
  ASSERT_THAT(InspectBert({}), IsOk());
  std::filesystem::create_directories(folder_ + "/0_Transformer");
  for (const char* file : {"/config.json", "/model.safetensors"}) {
    std::filesystem::rename(folder_ + file, folder_ + "/0_Transformer" + file);
  }
  WriteFile("modules.json", R"([
    {"idx": 0, "name": "0", "path": "0_Transformer", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}])");
  WriteFile("1_Pooling/config.json", R"({"pooling_mode_max_tokens": true})");
  WriteFile("0_Transformer/sentence_bert_config.json", R"({"max_seq_length": 12, "do_lower_case": false})");
  const auto summary = InspectModelFolder(folder_);
  ASSERT_THAT(summary, IsOk());
  EXPECT_THAT(summary->config.pooling, ElementsAre(Pooling::kMax));
  EXPECT_THAT(summary->assumed, Contains(HasSubstr("texts are cut to 12 tokens")));
}

TEST_F(ModelFolderTest, AnAdapterBesideTheModelIsRefusedWithWhatToDo) {
  ASSERT_THAT(InspectBert({}), IsOk());
  WriteFile("adapter_config.json", "{}");
  EXPECT_THAT(InspectModelFolder(folder_), StatusIs(kUnimplemented, AllOf(HasSubstr("adapter_config.json"),
                                                                          HasSubstr("merge_and_unload"))));
}

TEST_F(ModelFolderTest, ACacheOfHuggingFacesIsToldFromItsModels) {
  std::filesystem::create_directories(folder_ + "/snapshots/0123");
  std::filesystem::create_directories(folder_ + "/refs");
  EXPECT_THAT(InspectModelFolder(folder_),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("are the folders in snapshots/")));
}

TEST_F(ModelFolderTest, KeysThatAreNotUnderstoodAreReported) {
  const auto summary = InspectBert({{"rope_theta", "3"}});
  ASSERT_THAT(summary, IsOk());
  EXPECT_THAT(summary->not_understood, ElementsAre("rope_theta"));
  EXPECT_THAT(CheckUnderstood(*summary), StatusIs(kUnimplemented, HasSubstr("\"rope_theta\"")));
  EXPECT_THAT(CheckUnderstood(*InspectBert({})), IsOk());
}

TEST_F(ModelFolderTest, OnePrefixOfAllNamesIsOneProblem) {
  ASSERT_THAT(InspectBert({}), IsOk());
  std::map<std::string, Shape> tensors;
  for (const auto& [name, shape] : BertTensors()) tensors["lightning.net." + name] = shape;
  WriteTensors(tensors);
  EXPECT_THAT(InspectModelFolder(folder_),
              StatusIs(kInvalid, AllOf(HasSubstr("nobody here knows the prefix \"lightning.net.\""),
                                       Not(HasSubstr("missing")))));
  for (const char* known : {"model.", "bert._orig_mod.", "_orig_mod.bert.", "module.bert."}) {
    tensors = {{"classifier.weight", {3, 8}}};
    for (const auto& [name, shape] : BertTensors()) tensors[known + name] = shape;
    WriteTensors(tensors);
    EXPECT_THAT(InspectModelFolder(folder_), IsOk()) << known;
  }
}

// Every field away from its default.
ModelConfig RichConfig() {
  ModelConfig config;
  AttentionConfig& attention = config.block.attention;
  attention.embed_dim = 12;
  attention.num_heads = 4;
  attention.num_kv_heads = 2;
  attention.head_dim = 6;
  attention.scale = 1.0 / 3.0;
  attention.add_zero_attn = true;
  attention.add_bias_kv = true;
  attention.rope = RopeConfig{.theta = 1234.5,
                              .rotary_dim = 4,
                              .interleaved = true,
                              .scaling = RopeConfig::Scaling::kLlama3,
                              .factor = 8.0,
                              .low_freq_factor = 1.5,
                              .high_freq_factor = 3.5,
                              .original_max_len = 100};
  attention.logit_softcap = 30.1;
  attention.window_left = 7;
  attention.window_right = 0;
  attention.precision = Precision::kInt8;
  config.block.norm_placement = NormPlacement::kPre;
  config.block.norm_eps = 1e-3;
  config.block.feed_forward = {.hidden_dim = 20, .activation = Activation::kSilu, .gated = true};
  config.num_layers = 2;
  config.final_norm = true;
  config.causal = true;
  config.pooling = {Pooling::kMean, Pooling::kLast};
  config.final_norm_kind = NormKind::kRmsNorm;
  config.final_norm_eps = 1e-7;
  config.normalize_pooled = true;
  config.embedding = {.vocab_size = 30,
                      .num_positions = 10,
                      .position_offset = 2,
                      .padding_id = 1,
                      .num_token_types = 2,
                      .norm = true};
  return config.Resolved();
}

TEST_F(ModelFolderTest, SavedModelsComeBackBitForBit) {
  const ModelConfig config = RichConfig();
  ModelParameters weights = RandomModelParameters(config, 7);
  weights.layers[1].attention.bq.clear();  // no bias is another model than one of zeros
  ASSERT_THAT(SaveModelFolder(folder_ + "/saved", config, weights), IsOk());
  const auto loaded = LoadModelFolder(folder_ + "/saved");
  ASSERT_THAT(loaded, IsOk());
  EXPECT_EQ(loaded->summary.format, "native");
  EXPECT_EQ(loaded->summary.num_parameters, weights.NumParameters());
  EXPECT_EQ(loaded->weights.embedding.positions, weights.embedding.positions);
  EXPECT_EQ(loaded->weights.embedding.norm.gain, weights.embedding.norm.gain);
  EXPECT_EQ(loaded->weights.final_norm.bias, weights.final_norm.bias);
  for (int layer = 0; layer < 2; ++layer) {
    const BlockParameters& got = loaded->weights.layers[layer];
    const BlockParameters& wanted = weights.layers[layer];
    EXPECT_EQ(got.attention.wq, wanted.attention.wq);
    EXPECT_EQ(got.attention.wo, wanted.attention.wo);
    EXPECT_EQ(got.attention.bq, wanted.attention.bq);
    EXPECT_EQ(got.attention.bias_k, wanted.attention.bias_k);
    EXPECT_EQ(got.feed_forward.gate, wanted.feed_forward.gate);
    EXPECT_EQ(got.feed_forward.down, wanted.feed_forward.down);
    EXPECT_EQ(got.feed_forward_norm.gain, wanted.feed_forward_norm.gain);
  }
  // A config that is written again is the same text, so every field came back.
  ASSERT_THAT(SaveModelFolder(folder_ + "/again", loaded->summary.config, loaded->weights), IsOk());
  for (const char* file : {"config.json", "model.safetensors"}) {
    std::ifstream first(folder_ + "/saved/" + file);
    std::ifstream second(folder_ + "/again/" + file);
    EXPECT_EQ(std::string(std::istreambuf_iterator<char>(first), {}),
              std::string(std::istreambuf_iterator<char>(second), {}))
        << file;
  }
  const AttentionConfig& attention = loaded->summary.config.block.attention;
  EXPECT_EQ(attention.scale, 1.0 / 3.0);
  EXPECT_EQ(attention.rope->scaling, RopeConfig::Scaling::kLlama3);
  EXPECT_EQ(attention.window_right, 0);
  EXPECT_EQ(loaded->summary.config.embedding->padding_id, 1);
}

// What a source says of a part, as if all of them were there at once.
TEST_F(ModelFolderTest, AFolderIsReadAPartAtATime) {
  const ModelConfig config = RichConfig();
  const ModelParameters wanted = RandomModelParameters(config, 7);
  ASSERT_THAT(SaveModelFolder(folder_ + "/saved", config, wanted), IsOk());
  const auto folder = ModelFolder::Open(folder_ + "/saved");
  ASSERT_THAT(folder, IsOk());
  EXPECT_EQ((*folder)->NumParameters(), wanted.NumParameters());
  BlockParameters memory;
  const float* first_up = nullptr;
  for (const int64_t layer : {1, 0, 1}) {
    const auto got = (*folder)->Layer(layer, memory);
    ASSERT_THAT(got, IsOk());
    EXPECT_EQ((*got)->attention.wv, wanted.layers[layer].attention.wv);
    EXPECT_EQ((*got)->attention_norm.bias, wanted.layers[layer].attention_norm.bias);
    EXPECT_EQ((*got)->feed_forward.up, wanted.layers[layer].feed_forward.up);
    if (first_up == nullptr) first_up = (*got)->feed_forward.up.data();
    EXPECT_EQ((*got)->feed_forward.up.data(), first_up) << "the memory is used again";
  }
  const auto norm = (*folder)->FinalNorm();
  ASSERT_THAT(norm, IsOk());
  EXPECT_EQ(norm->gain, wanted.final_norm.gain);
  const auto tables = (*folder)->Embedding();
  ASSERT_THAT(tables, IsOk());
  EXPECT_EQ(tables->tokens.elements(), std::ssize(wanted.embedding.tokens));
  EXPECT_EQ(tables->norm.bias, wanted.embedding.norm.bias);
  std::vector<float> row(config.block.attention.embed_dim);
  tables->positions.ReadRow(2, std::ssize(row), row.data());
  EXPECT_TRUE(std::equal(row.begin(), row.end(), wanted.embedding.positions.data() + 2 * row.size()));
}

// A table keeps the checkpoint's dtype, and what is computed has the bits that the same numbers have as f32.
TEST_F(ModelFolderTest, TablesStayInTheDtypeOfTheCheckpoint) {
  for (const DType dtype : {DType::kBf16, DType::kF16}) {
    const std::string folder = absl::StrCat(folder_, "/", Name(dtype));
    const ModelConfig config = RichConfig();
    ASSERT_THAT(SaveModelFolder(folder, config, RandomModelParameters(config, 7)), IsOk());
    ASSERT_THAT(headlight::testing::RewriteAs(dtype, folder), IsOk());
    const auto opened = ModelFolder::Open(folder);
    ASSERT_THAT(opened, IsOk());
    EXPECT_EQ((*opened)->summary().table_dtype, dtype);
    const auto loaded = LoadModelFolder(folder);  // all of it in f32
    ASSERT_THAT(loaded, IsOk());
    const auto narrow = Model::Create(config, **opened);
    const auto wide = Model::Create(config, loaded->weights);
    ASSERT_THAT(narrow, IsOk());
    ASSERT_THAT(wide, IsOk());
    EXPECT_EQ((*opened)->Embedding()->tokens.dtype(), dtype);
    EXPECT_LT(narrow->packed_bytes(), wide->packed_bytes());
    const std::vector<int32_t> ids = {3, 1, 29, 0};
    const std::vector<int64_t> cu_lens = {0, 3, 4};
    const int64_t width = config.block.attention.embed_dim;
    std::vector<float> got(ids.size() * width), wanted(ids.size() * width);
    narrow->Embed(ids, cu_lens, {got.data(), std::ssize(ids), width, width});
    wide->Embed(ids, cu_lens, {wanted.data(), std::ssize(ids), width, width});
    EXPECT_EQ(got, wanted);
  }
}

TEST_F(ModelFolderTest, ANarrowTableThatIsNotFiniteIsRefusedWithItsPlace) {
  const ModelConfig config = RichConfig();
  ModelParameters weights = RandomModelParameters(config, 7);
  weights.embedding.tokens[2 * config.block.attention.embed_dim + 1] = 1e6f;  // beyond f16
  ASSERT_THAT(SaveModelFolder(folder_ + "/f16", config, weights), IsOk());
  ASSERT_THAT(headlight::testing::RewriteAs(DType::kF16, folder_ + "/f16"), IsOk());
  const auto opened = ModelFolder::Open(folder_ + "/f16");
  ASSERT_THAT(opened, IsOk());
  EXPECT_THAT(Model::Create(config, **opened),
              StatusIs(kInvalid, AllOf(StartsWith(folder_), HasSubstr("embedding.tokens[2, 1]: got inf"))));
}

// In int8 they would be packed as numbers like any others.
TEST_F(ModelFolderTest, ParametersThatAreNotFiniteAreRefusedWithTheirPlace) {
  const ModelConfig config = RichConfig();
  const std::string place = absl::StrCat("[", config.block.feed_forward.hidden_dim - 1, ", ",
                                         config.block.attention.embed_dim - 1, "]: got ");
  const auto expect_refused = [&](float bad, const std::string& name) {
    ModelParameters weights = RandomModelParameters(config, 7);
    weights.layers[1].feed_forward.down.back() = bad;
    const std::string folder = absl::StrCat(folder_, "/", name);
    ASSERT_THAT(SaveModelFolder(folder, config, weights), IsOk());
    const auto refused = StatusIs(kInvalid, AllOf(StartsWith(folder), HasSubstr(place + name)));
    EXPECT_THAT(LoadModelFolder(folder), refused);
    const auto opened = ModelFolder::Open(folder);
    ASSERT_THAT(opened, IsOk());
    EXPECT_THAT(Model::Create(config, **opened), refused);
  };
  expect_refused(std::numeric_limits<float>::quiet_NaN(), "nan");
  expect_refused(std::numeric_limits<float>::infinity(), "inf");
  expect_refused(-std::numeric_limits<float>::infinity(), "-inf");
}

TEST_F(ModelFolderTest, AModelIsNotOverwritten) {
  ModelConfig config;
  config.block.attention = {.embed_dim = 8, .num_heads = 2};
  const ModelParameters weights = RandomModelParameters(config.Resolved(), 1);
  ASSERT_THAT(SaveModelFolder(folder_, config, weights), IsOk());
  EXPECT_THAT(SaveModelFolder(folder_, config, weights),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("config.json")));
}

TEST_F(ModelFolderTest, LayersThatDifferAreNotWritten) {
  ModelConfig config;
  config.block.attention = {.embed_dim = 8, .num_heads = 2};
  config.block.norm_placement = NormPlacement::kPre;
  config.block.feed_forward.hidden_dim = 4;
  config.num_layers = 2;
  ModelConfig other = config;
  other.other_blocks = {config.block};
  ModelConfig no_norm = config;
  no_norm.block.attention_norm = false;
  for (const ModelConfig& refused : {other, no_norm}) {
    EXPECT_THAT(SaveModelFolder(folder_ + "/new", refused, RandomModelParameters(refused.Resolved(), 1)),
                StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("other_blocks")));
    EXPECT_FALSE(std::filesystem::exists(folder_ + "/new"));
  }
}

}  // namespace
}  // namespace headlight
