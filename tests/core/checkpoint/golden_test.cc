// SPDX-License-Identifier: Apache-2.0
//
// Models as PyTorch and transformers save them give what PyTorch and transformers compute. The models are
// those of tests/golden/models, made by tests/golden/make_models.py.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "core/checkpoint/folder.h"
#include "tests/golden/golden_case.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::IsEmpty;

std::string Folder(const std::string& name) { return std::string(HEADLIGHT_GOLDEN_MODELS) + "/" + name; }

class GoldenTest : public ::testing::TestWithParam<const char*> {
 protected:
  static GoldenRun Run(Precision precision) {
    absl::StatusOr<GoldenRun> run =
        RunGoldenCase(Folder(GetParam()), Folder(std::string(GetParam()) + ".case.safetensors"), precision);
    EXPECT_TRUE(run.ok()) << run.status();
    return run.ok() ? *std::move(run) : GoldenRun();
  }
};

TEST_P(GoldenTest, F32IsWhatTheOriginalComputes) {
  const GoldenRun run = Run(Precision::kF32);
  ASSERT_FALSE(run.expected_output.empty());
  EXPECT_LE(MaxAbsError(run.output, run.expected_output), 2e-5);
  EXPECT_LE(MaxAbsError(run.weights, run.expected_weights), 2e-5);
}

// On CPUs without any bf16 products this is the test above.
TEST_P(GoldenTest, Bf16PointsWhereTheOriginalDoes) {
  const GoldenRun run = Run(Precision::kBf16);
  EXPECT_GE(Cosine(run.output, run.expected_output), 0.9995) << Name(run.precision);
}

TEST_P(GoldenTest, Int8PointsWhereTheOriginalDoes) {
  const GoldenRun run = Run(Precision::kInt8);
  EXPECT_GE(Cosine(run.output, run.expected_output), 0.999) << Name(run.precision);
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenTest,
                         ::testing::Values("mha-packed", "mha-separate", "mha-no-bias", "encoder-layer-pre",
                                           "encoder-post", "bert", "roberta", "distilbert", "gpt2", "llama",
                                           "mistral", "qwen2", "qwen3", "olmo2", "phi3", "gemma3-text",
                                           "gpt-neox", "mpnet", "electra", "albert", "modernbert",
                                           "nomic_bert", "nomic-old", "gte", "new", "jina-bert", "deberta", "deberta-v2"),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

TEST(GoldenModelsTest, TensorsOfHeadsThatAreServedAreNotListedAsIgnored) {
  const absl::StatusOr<ModelSummary> bert = InspectModelFolder(Folder("bert"));
  ASSERT_TRUE(bert.ok()) << bert.status();
  EXPECT_THAT(bert->ignored_tensors, IsEmpty());
  EXPECT_TRUE(bert->config.Gives(OutputKind::kTokenLogits));
  const absl::StatusOr<ModelSummary> llama = InspectModelFolder(Folder("llama"));
  ASSERT_TRUE(llama.ok()) << llama.status();
  EXPECT_THAT(llama->ignored_tensors, IsEmpty());
  EXPECT_TRUE(llama->config.Gives(OutputKind::kTokenLogits));
  EXPECT_FALSE(llama->config.Gives(OutputKind::kSparse));
  const absl::StatusOr<ModelSummary> roberta = InspectModelFolder(Folder("roberta"));
  ASSERT_TRUE(roberta.ok()) << roberta.status();
  EXPECT_THAT(roberta->ignored_tensors, IsEmpty());
}

}  // namespace
}  // namespace headlight
