// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "core/checkpoint/formats/huggingface.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace headlight {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

class SentenceTransformersTest : public ::testing::Test {
 protected:
  absl::Status Read() { return ReadSentenceTransformers(folder_.path(), config_); }
  void WriteModules(const std::string& modules) const { folder_.Write("modules.json", "[" + modules + "]"); }

  const testing::TempFolder folder_;
  ModelConfig config_;
};

constexpr char kTransformer[] = R"({"type": "sentence_transformers.models.Transformer", "path": ""})";
constexpr char kPoolingModule[] =
    R"(, {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"})";

TEST_F(SentenceTransformersTest, AFolderOfAnotherKindIsLeftAlone) {
  config_.pooling = Pooling::kNone;
  EXPECT_THAT(Read(), IsOk());
  EXPECT_EQ(config_.pooling, Pooling::kNone);
  EXPECT_FALSE(config_.normalize_pooled);
}

TEST_F(SentenceTransformersTest, TheModeIsASwitchOrAName) {
  WriteModules(std::string(kTransformer) + kPoolingModule);
  config_.pooling = Pooling::kNone;
  folder_.Write("1_Pooling/config.json",
                R"({"pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true})");
  EXPECT_THAT(Read(), IsOk());
  EXPECT_EQ(config_.pooling, Pooling::kMean);
  folder_.Write("1_Pooling/config.json", R"({"pooling_mode": "cls"})");
  EXPECT_THAT(Read(), IsOk());
  EXPECT_EQ(config_.pooling, Pooling::kCls);
}

TEST_F(SentenceTransformersTest, WithoutAListThePoolingLiesInItsUsualPlace) {
  folder_.Write("1_Pooling/config.json", R"({"pooling_mode_cls_token": true})");
  EXPECT_THAT(Read(), IsOk());
  EXPECT_EQ(config_.pooling, Pooling::kCls);
}

TEST_F(SentenceTransformersTest, NormalizingIsAModule) {
  WriteModules(std::string(kTransformer) +
               R"(, {"type": "sentence_transformers.models.Normalize", "path": "2"})");
  EXPECT_THAT(Read(), IsOk());
  EXPECT_TRUE(config_.normalize_pooled);
}

TEST_F(SentenceTransformersTest, ModesAndModulesThatAreNotServedAreNamed) {
  WriteModules(std::string(kTransformer) + kPoolingModule);
  folder_.Write("1_Pooling/config.json", R"({"pooling_mode_max_tokens": true})");
  EXPECT_THAT(Read(), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("got pooling \"max_tokens\"")));
  folder_.Write("1_Pooling/config.json",
                R"({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true})");
  EXPECT_THAT(Read(), StatusIs(absl::StatusCode::kUnimplemented,
                               HasSubstr("got pooling \"cls_token and mean_tokens\"")));
  WriteModules(R"({"type": "sentence_transformers.models.Dense", "path": "2_Dense"})");
  EXPECT_THAT(Read(), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("models.Dense")));
}

TEST_F(SentenceTransformersTest, APathThatLeavesTheFolderIsRefused) {
  for (const char* path : {"../other", "/etc", "1_Pooling/../../x"}) {
    WriteModules(std::string(R"({"type": "sentence_transformers.models.Pooling", "path": ")") + path + "\"}");
    EXPECT_THAT(Read(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("leaves the folder"))) << path;
  }
}

TEST_F(SentenceTransformersTest, AListThatIsNoneIsRefused) {
  folder_.Write("modules.json", "{}");
  EXPECT_THAT(Read(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("wanted a JSON array")));
  WriteModules("7");
  EXPECT_THAT(Read(), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("got module type \"\"")));
}

}  // namespace
}  // namespace headlight
