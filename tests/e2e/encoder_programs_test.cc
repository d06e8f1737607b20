// SPDX-License-Identifier: Apache-2.0
//
// The built programs on a model folder that begins at token ids: files in, hidden states, pooled vectors and
// the weights of a layer out.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "client/files/npy_header.h"
#include "client/npy.h"
#include "core/checkpoint/folder.h"
#include "core/model/model.h"
#include "core/model/pooling.h"
#include "core/runtime/compute_arena.h"
#include "tests/e2e/lone_run.h"
#include "tests/e2e/server_process.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/subprocess.h"

namespace headlight {
namespace {

using ::headlight::testing::IsOk;
using ::headlight::testing::RunProgram;
using ::headlight::testing::RunResult;
using ::testing::HasSubstr;

constexpr char kHeadlight[] = HEADLIGHT_CLIENT_PROGRAM;
constexpr int64_t kWidth = 32;

ModelConfig EncoderConfig() {
  ModelConfig config;
  config.block.attention.embed_dim = kWidth;
  config.block.attention.num_heads = 4;
  config.block.norm_placement = NormPlacement::kPost;
  config.block.feed_forward = {.hidden_dim = 48, .activation = Activation::kGeluErf};
  config.num_layers = 2;
  config.embedding = {.vocab_size = 100, .num_positions = 24, .num_token_types = 2, .norm = true};
  config.normalize_pooled = true;
  return config.Resolved();
}

// What the model makes of its input, computed in process on one thread.
struct Expected {
  std::vector<float> hidden;   // [tokens, kWidth]
  std::vector<float> pooled;   // [sequences, kWidth]
  std::vector<float> weights;  // of layer 0, [sequences, heads, longest, longest]
};

class EncoderProgramsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::remove_all(repository_);
    std::filesystem::create_directories(repository_);
    ASSERT_THAT(SaveModelFolder((repository_ / "encoder").string(), config_, weights_), IsOk());
  }
  void TearDown() override { std::filesystem::remove_all(repository_); }

  std::string Path(const std::string& name) const { return (repository_ / name).string(); }

  // As numpy.save does.
  template <typename T>
  void WriteIds(const std::string& name, const client::Shape& shape, const std::vector<T>& ids) const {
    std::ofstream file(Path(name), std::ios::binary);
    file << client::FormatNpyHeader(sizeof(T) == 8 ? "<i8" : "<i4", shape)
         << std::string(static_cast<const char*>(static_cast<const void*>(ids.data())),
                        ids.size() * sizeof(T));
  }

  client::Tensor Read(const std::string& name) const {
    auto tensor = client::ReadNpyTensorFile(Path(name));
    EXPECT_THAT(tensor, IsOk());
    return tensor.ok() ? *std::move(tensor) : client::Tensor{};
  }

  Expected Compute(const std::vector<int32_t>& ids, const std::vector<int32_t>& types,
                   const std::vector<int64_t>& lens) const {
    const absl::StatusOr<Model> model = Model::Create(config_, weights_);
    EXPECT_THAT(model, IsOk());
    std::vector<int64_t> cu_lens = {0};
    for (int64_t len : lens) cu_lens.push_back(cu_lens.back() + len);
    const int64_t tokens = cu_lens.back();
    const int64_t sequences = static_cast<int64_t>(lens.size());
    const int64_t longest = *std::max_element(lens.begin(), lens.end());
    const int64_t heads = config_.block.attention.num_heads;
    Expected expected;
    expected.hidden.resize(tokens * kWidth);
    expected.pooled.resize(sequences * kWidth);
    expected.weights.resize(sequences * heads * longest * longest);
    std::vector<SequenceOptions> options(sequences);
    for (int64_t i = 0; i < sequences; ++i) {
      options[i].weights = {.mode = WeightsSink::Mode::kFull,
                            .data = expected.weights.data() + i * heads * longest * longest,
                            .head_stride = longest * longest,
                            .query_stride = longest};
    }
    const int64_t first_layer = 0;
    const std::vector<WeightsLayers> layers(sequences, WeightsLayers{.layers = {&first_layer, 1}});
    ModelBatch batch;
    batch.attention.cu_q_lens = batch.attention.cu_kv_lens = cu_lens;
    batch.attention.sequences = options;
    batch.attention.output = {expected.hidden.data(), tokens, kWidth, kWidth};
    batch.token_ids = ids;
    batch.token_types = types;
    batch.weights_layers = layers;
    ComputeArena arena(1);
    EXPECT_THAT(model->Forward(batch, arena, *model->NewWorkspace(arena)), IsOk());
    PoolSequences({expected.hidden.data(), tokens, kWidth, kWidth}, cu_lens, config_.pooling,
                  config_.normalize_pooled, {expected.pooled.data(), sequences, kWidth, kWidth});
    return expected;
  }

  const std::filesystem::path repository_ =
      std::filesystem::path(::testing::TempDir()) /
      (std::string("headlight_") + ::testing::UnitTest::GetInstance()->current_test_info()->name());
  const ModelConfig config_ = EncoderConfig();
  const ModelParameters weights_ = RandomModelParameters(config_, /*seed=*/3);
};

TEST_F(EncoderProgramsTest, IdsBecomeHiddenStatesPooledVectorsAndWeights) {
  const std::vector<int32_t> ids = {5, 99, 0, 7, 7, 31, 2, 64};
  const std::vector<int32_t> types = {0, 0, 1, 1, 0, 1, 0, 1};
  const Expected expected = Compute(ids, types, {5, 3});
  WriteIds("ragged.npy", {8}, std::vector<int64_t>(ids.begin(), ids.end()));
  WriteIds("ragged_types.npy", {8}, types);
  // The same as a dense batch: padding may be anything.
  WriteIds<int32_t>("dense.npy", {2, 5}, {5, 99, 0, 7, 7, 31, 2, 64, -1, 12345});
  WriteIds<int64_t>("dense_types.npy", {2, 5}, {0, 0, 1, 1, 0, 1, 0, 1, -1, 77});
  e2e::ServerProcess server({"--model-repository", repository_.string()});
  const auto attend = [&](const std::string& form, const std::vector<std::string>& more) {
    std::vector<std::string> words = {kHeadlight,          "attend",        "--server",
                                      server.address(),    "--model",       "encoder",
                                      "--seq-lens",        "5,3",           "--ids",
                                      Path(form + ".npy"), "--token-types", Path(form + "_types.npy"),
                                      "--output",          Path("out.npy")};
    words.insert(words.end(), more.begin(), more.end());
    const RunResult run = RunProgram(words);
    EXPECT_EQ(run.exit_code, 0) << run.output;
    return Read("out.npy");
  };
  const client::Tensor ragged = attend("ragged", {});
  EXPECT_EQ(ragged.shape, (client::Shape{8, kWidth}));
  EXPECT_TRUE(e2e::SameBits(ragged.values, expected.hidden));

  const client::Tensor dense = attend("dense", {});
  EXPECT_EQ(dense.shape, (client::Shape{2, 5, kWidth}));
  std::vector<float> padded = expected.hidden;
  padded.resize(2 * 5 * kWidth, 0.0f);
  EXPECT_TRUE(e2e::SameBits(dense.values, padded));

  for (const std::string form : {"ragged", "dense"}) {
    const client::Tensor pooled =
        attend(form, {"--pooled", "--weights", "full", "--layer", "0", "--weights-output", Path("w.npy")});
    EXPECT_EQ(pooled.shape, (client::Shape{2, kWidth}));
    EXPECT_TRUE(e2e::SameBits(pooled.values, expected.pooled));
    EXPECT_EQ(Read("w.npy").shape, (client::Shape{2, 4, 5, 5}));
    EXPECT_TRUE(e2e::SameBits(Read("w.npy").values, expected.weights));
  }
}

// A folder of transformers with a head for masked tokens, from files to files.
TEST_F(EncoderProgramsTest, SeveralOutputsOfOneRequestAreThoseAskedAlone) {
  std::filesystem::copy(std::filesystem::path(HEADLIGHT_GOLDEN_MODELS) / "bert", repository_ / "bert");
  e2e::ServerProcess server({"--model-repository", repository_.string(), "--pooling", "bert=mean"});
  WriteIds<int32_t>("ids.npy", {7}, {5, 41, 0, 7, 7, 31, 2});
  const auto attend = [&](const std::string& kinds, const std::string& output) {
    const RunResult run =
        RunProgram({kHeadlight, "attend", "--server", server.address(), "--model", "bert", "--seq-lens",
                    "5,2", "--ids", Path("ids.npy"), "--output-kind", kinds, "--output", Path(output)});
    EXPECT_EQ(run.exit_code, 0) << run.output;
  };
  attend("pooled,sparse,hidden_states", "all.npy");
  EXPECT_EQ(Read("all.pooled.npy").shape, (client::Shape{2, 48}));
  EXPECT_EQ(Read("all.hidden_states.npy").shape, (client::Shape{7, 48}));
  for (const std::string kind : {"pooled", "sparse", "hidden_states"}) {
    attend(kind, "one.npy");
    EXPECT_TRUE(e2e::SameBits(Read("one.npy").values, Read("all." + kind + ".npy").values)) << kind;
  }
  const auto lens = client::ReadNpyIdsFile(Path("all.sparse.lens.npy"));
  ASSERT_THAT(lens, IsOk());
  EXPECT_EQ(lens->shape, (client::Shape{2}));
  attend("pooled,sparse", "all.npz");
  EXPECT_TRUE(std::filesystem::exists(Path("all.npz")));
  const RunResult models = RunProgram({kHeadlight, "models", "--server", server.address()});
  EXPECT_THAT(models.output, HasSubstr("token_logits, sparse"));
  const RunResult none = RunProgram({kHeadlight, "attend", "--server", server.address(), "--model", "bert",
                                     "--ids", Path("ids.npy"), "--seq-lens", "7", "--output-kind", "scores"});
  EXPECT_EQ(none.exit_code, 1);
  EXPECT_THAT(none.output, HasSubstr("outputs[0].kind: got SCORES, which the model has not"));
}

// As indexes keep vectors: bytes with a scale for each row, and a bit for each number.
TEST_F(EncoderProgramsTest, VectorsComeAsBytesAndBits) {
  e2e::ServerProcess server({"--model-repository", repository_.string()});
  WriteIds<int32_t>("ids.npy", {7}, {5, 41, 0, 7, 7, 31, 2});
  const auto attend = [&](const std::string& dtype) {
    const RunResult run =
        RunProgram({kHeadlight, "attend", "--server", server.address(), "--model", "encoder", "--seq-lens",
                    "5,2", "--ids", Path("ids.npy"), "--output-kind", "pooled", "--vectors-dtype", dtype,
                    "--output", Path(dtype + ".npy")});
    EXPECT_EQ(run.exit_code, 0) << run.output;
  };
  const auto bytes_of = [&](const std::string& name, const char* dtype, const client::Shape& shape) {
    std::ifstream file(Path(name), std::ios::binary);
    const auto header = client::ReadNpyHeader(file);
    EXPECT_THAT(header, IsOk());
    EXPECT_EQ(header->dtype, dtype);
    EXPECT_EQ(header->shape, shape);
    return std::vector<char>{std::istreambuf_iterator<char>(file), {}};
  };
  for (const char* dtype : {"f32", "i8", "bits"}) attend(dtype);
  const client::Tensor exact = Read("f32.npy");
  const client::Tensor scale = Read("i8.scale.npy");
  ASSERT_EQ(scale.shape, (client::Shape{2}));
  const std::vector<char> bytes = bytes_of("i8.npy", "|i1", {2, kWidth});
  const std::vector<char> bits = bytes_of("bits.npy", "|u1", {2, kWidth / 8});
  ASSERT_EQ(bytes.size(), exact.values.size());
  ASSERT_EQ(bits.size() * 8, exact.values.size());
  for (size_t i = 0; i < exact.values.size(); ++i) {
    const float of_row = scale.values[i / kWidth];
    EXPECT_NEAR(static_cast<float>(static_cast<int8_t>(bytes[i])) * of_row, exact.values[i],
                0.5001f * of_row);
    const bool bit = (static_cast<uint8_t>(bits[i / 8]) >> (7 - i % 8) & 1) != 0;
    EXPECT_EQ(bit, exact.values[i] > 0) << i;
  }
  const RunResult none = RunProgram({kHeadlight, "attend", "--server", server.address(), "--model", "encoder",
                                     "--ids", Path("ids.npy"), "--seq-lens", "7", "--output-kind",
                                     "hidden_states", "--vectors-dtype", "i8"});
  EXPECT_EQ(none.exit_code, 2);
  EXPECT_THAT(none.output, HasSubstr("--vectors-dtype wants pooled or token_vectors among --output-kind"));
}

TEST_F(EncoderProgramsTest, RandomIdsComeWithoutAFileAndWrongOnesAreRefused) {
  e2e::ServerProcess server({"--model-repository", repository_.string()});
  const RunResult models = RunProgram({kHeadlight, "models", "--server", server.address()});
  EXPECT_THAT(models.output, HasSubstr("ids below 100, at most 24"));
  const RunResult attend = RunProgram({kHeadlight, "attend", "--server", server.address(), "--model",
                                       "encoder", "--shape", "2x24", "--pooling", "cls"});
  EXPECT_EQ(attend.exit_code, 0) << attend.output;
  const RunResult load =
      RunProgram({kHeadlight, "loadtest", "--server", server.address(), "--model", "encoder", "--seq-lens",
                  "1,5,16", "--pooled", "--duration", "1s", "--warmup", "50ms", "--json", Path("load.json")});
  ASSERT_EQ(load.exit_code, 0) << load.output;
  std::ifstream file(Path("load.json"));
  const auto report = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  ASSERT_TRUE(report.is_object());
  EXPECT_EQ(report["runs"][0]["refused"], 0);
  EXPECT_EQ(report["request"]["mean_tokens"], 22);

  WriteIds<int32_t>("wrong.npy", {1, 3}, {1, 100, 2});
  const RunResult wrong = RunProgram(
      {kHeadlight, "attend", "--server", server.address(), "--model", "encoder", "--ids", Path("wrong.npy")});
  EXPECT_EQ(wrong.exit_code, 1);
  EXPECT_THAT(wrong.output, HasSubstr("INVALID_ARGUMENT: token_ids[0, 1]: got 100, wanted 0 to 99"));
}

}  // namespace
}  // namespace headlight
