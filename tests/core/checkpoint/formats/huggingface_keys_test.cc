// SPDX-License-Identifier: Apache-2.0
//
// Whatever key a config has, it is used, known to be without effect, refused or reported.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "core/checkpoint/formats/huggingface.h"
#include "tests/core/checkpoint/formats/format_folder.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::ElementsAre;
using testing::FormatFolder;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::IsOk;
using testing::StatusIs;

class HuggingFaceKeysTest : public ::testing::Test {
 protected:
  ConfigFields Account(const std::string& config) const {
    ConfigFields fields = folder_.Fields(config).value();
    AccountForCommonKeys(fields);
    return fields;
  }
  ModelConfig Own(const std::string& config, absl::Status& status) {
    ConfigFields fields = folder_.Fields(config).value();
    ModelConfig model;
    model.causal = true;
    says_pooling_ = ReadOwnKeys(fields, model);
    status = fields.status();
    return model;
  }

  const FormatFolder folder_;
  bool says_pooling_ = false;
};

TEST_F(HuggingFaceKeysTest, ThoseThatChangeWhatIsComputedAreRefused) {
  for (const auto& [config, message] :
       {std::pair(R"({"quantization_config": {"bits": 4}})", "quantization_config"),
        std::pair(R"({"add_cross_attention": true})", "add_cross_attention: got true, served is false"),
        std::pair(R"({"is_encoder_decoder": true})", "is_encoder_decoder"),
        std::pair(R"({"cross_attention_hidden_size": 8})", "cross_attention_hidden_size: got 8"),
        std::pair(R"({"pruned_heads": {"0": [1]}})", "pruned_heads: got an object, served is {}"),
        std::pair(R"({"per_layer_config": {"1": {"hidden_act": "relu"}}})", "per_layer_config"),
        std::pair(R"({"auto_map": {"AutoModel": "modeling_x.X"}})", "auto_map: the model brings code")}) {
    EXPECT_THAT(Account(config).status(), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr(message)));
  }
}

TEST_F(HuggingFaceKeysTest, ThoseThatChangeNothingAreTaken) {
  const ConfigFields fields = Account(
      R"({"add_cross_attention": false, "is_encoder_decoder": false, "pruned_heads": {}, "auto_map": null,
          "cross_attention_hidden_size": null, "architectures": ["BertModel"], "torch_dtype": "float16",
          "id2label": {"0": "A"}, "label2id": {"A": 0}, "initializer_range": 0.02, "temperature": 1.0,
          "use_cache": true, "bos_token_id": 1, "quantization_config": null})");
  EXPECT_THAT(fields.status(), IsOk());
  EXPECT_THAT(fields.UnknownKeys(), IsEmpty());
}

TEST_F(HuggingFaceKeysTest, CodeOfTheTokenizerIsNoneOfTheModel) {
  EXPECT_THAT(Account(R"({"auto_map": {"AutoTokenizer": ["tokenization_x.X", null]}})").status(), IsOk());
}

TEST_F(HuggingFaceKeysTest, ThoseThatNobodyKnowsAreReported) {
  const ConfigFields fields = Account(R"({"use_cache": true, "residual_multiplier": 0.5, "qk_norm": null})");
  EXPECT_THAT(fields.status(), IsOk());
  EXPECT_THAT(fields.UnknownKeys(), ElementsAre("qk_norm", "residual_multiplier"));
}

TEST_F(HuggingFaceKeysTest, OwnKeysSayWhatTheirFilesDoNot) {
  absl::Status status;
  const ModelConfig model =
      Own(R"({"headlight": {"causal": false, "pooling": "cls", "normalize_pooled": true}})", status);
  EXPECT_THAT(status, IsOk());
  EXPECT_FALSE(model.causal);
  EXPECT_THAT(model.pooling, ElementsAre(Pooling::kCls));
  EXPECT_TRUE(model.normalize_pooled);
  EXPECT_TRUE(says_pooling_);
  Own(R"({"headlight": {"causal": false}})", status);
  EXPECT_FALSE(says_pooling_);
  Own(R"({"headlight": {"poling": "cls"}})", status);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("\"poling\": unknown key")));
}

TEST_F(HuggingFaceKeysTest, ADecoderWithoutItsMaskIsAskedFor) {
  for (const char* config : {R"({"is_causal": false})", R"({"is_causal": null})"}) {
    ConfigFields fields = folder_.Fields(config).value();
    RefuseNonCausal(fields);
    EXPECT_THAT(fields.status(), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("is_causal")));
  }
  for (const char* config :
       {"{}", R"({"is_causal": true})", R"({"is_causal": false, "headlight": {"causal": false}})"}) {
    ConfigFields fields = folder_.Fields(config).value();
    RefuseNonCausal(fields);
    EXPECT_THAT(fields.status(), IsOk()) << config;
  }
}

}  // namespace
}  // namespace headlight
