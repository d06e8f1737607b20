// SPDX-License-Identifier: Apache-2.0
#include "core/model/model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/model/pooling.h"
#include "core/model/precision_error.h"
#include "core/model/reference.h"
#include "tests/core/model/test_model.h"
#include "tests/core/testing/test_problem.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::ModelConfigs;
using testing::ModelInputs;
using testing::NamedConfig;
using testing::StatusIs;

// Of a whole model in f32, on numbers around 1. A sum of n products rounds by about sqrt(n) 2^-24 of its
// terms' norm; with n of at most 256, some ten such sums and norms in a layer, three layers and gains of at
// most 1.1 that is below 300 * 2^-24.
constexpr double kF32Tolerance = 2e-5;
// What a model promises of the narrower precisions (docs/performance.md): the angle to f32.
constexpr double kBf16Cosine = 0.9995;
constexpr double kInt8Cosine = 0.999;

struct Case {
  std::string kernel;  // empty: the fastest
  Precision precision = Precision::kF32;
};

class ModelTest : public ::testing::TestWithParam<NamedConfig> {
 protected:
  ModelConfig Config(Precision precision = Precision::kF32) const {
    ModelConfig config = GetParam().config.Resolved();
    config.SetPrecision(precision);
    return config;
  }
};

INSTANTIATE_TEST_SUITE_P(Configs, ModelTest, ::testing::ValuesIn(ModelConfigs()),
                         [](const auto& info) { return info.param.name; });

absl::Status Compute(const Model& model, ModelInputs& inputs, int threads) {
  ComputeArena arena(threads);
  const std::unique_ptr<ModelWorkspace> workspace = model.NewWorkspace(arena);
  std::fill(inputs.output.begin(), inputs.output.end(), -7.0f);
  return model.Forward(inputs.Batch(), arena, *workspace);
}

double Cosine(const std::vector<float>& got, const std::vector<double>& wanted) {
  double dot = 0, a = 0, b = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    dot += got[i] * wanted[i];
    a += static_cast<double>(got[i]) * got[i];
    b += wanted[i] * wanted[i];
  }
  return dot / std::sqrt(a * b);
}

void ExpectNear(const std::vector<float>& got, const std::vector<double>& wanted) {
  ASSERT_EQ(got.size(), wanted.size());
  double largest = 1.0;
  for (double value : wanted) largest = std::max(largest, std::abs(value));
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(got[i], wanted[i], kF32Tolerance * largest) << "element " << i;
  }
}

TEST_P(ModelTest, F32IsTheReference) {
  const ModelConfig config = Config();
  const ModelParameters weights = RandomModelParameters(config, 5);
  ModelInputs inputs(config, {1, 33, 7, 300}, {1, 2, 3, 4});
  const ModelReferenceResult wanted = ReferenceModel(config, weights, inputs.Batch());
  for (const char* kernel : {"", "matmul"}) {
    SCOPED_TRACE(kernel);
    const absl::StatusOr<Model> model = Model::Create(config, weights, kernel);
    ASSERT_THAT(model, IsOk());
    EXPECT_EQ(model->num_parameters(), weights.NumParameters());
    EXPECT_GE(model->packed_bytes(), 0);
    ASSERT_THAT(Compute(*model, inputs, 2), IsOk());
    ExpectNear(inputs.output, wanted.hidden);
  }
}

TEST_P(ModelTest, WeightsWithoutBiasesAreTheReference) {
  const ModelConfig config = Config();
  ModelParameters weights = RandomModelParameters(config, 6);
  weights.final_norm.bias.clear();
  for (BlockParameters& layer : weights.layers) {
    AttentionParameters& attention = layer.attention;
    FeedForwardParameters& network = layer.feed_forward;
    for (auto* bias :
         {&attention.bq, &attention.bk, &attention.bv, &attention.bo, &network.up_bias, &network.gate_bias,
          &network.down_bias, &layer.attention_norm.bias, &layer.feed_forward_norm.bias}) {
      bias->clear();
    }
  }
  const absl::StatusOr<Model> model = Model::Create(config, weights);
  ASSERT_THAT(model, IsOk());
  ModelInputs inputs(config, {19, 4}, {1, 2});
  ASSERT_THAT(Compute(*model, inputs, 1), IsOk());
  ExpectNear(inputs.output, ReferenceModel(config, weights, inputs.Batch()).hidden);
}

// What the precision of a model is compared with, without a second model beside it.
TEST_P(ModelTest, ItsLayersOneAfterTheOtherComputeTheSameBits) {
  const ModelConfig config = Config();
  const ModelParameters weights = RandomModelParameters(config, 8);
  const absl::StatusOr<Model> model = Model::Create(config, weights);
  ASSERT_THAT(model, IsOk());
  ModelInputs whole(config, {19, 1, 40}, {1, 2, 3});
  std::fill(whole.token_types.begin(), whole.token_types.end(), 0);
  ASSERT_THAT(Compute(*model, whole, 1), IsOk());

  ModelConfig rows_config = config;
  rows_config.embedding.reset();
  ModelInputs rows(rows_config, {19, 1, 40}, {1, 2, 3});
  const int64_t width = config.block.attention.embed_dim;
  if (config.embedding) {
    model->Embed(whole.token_ids, whole.cu_lens, {rows.query.data(), rows.tokens(), width, width});
  }
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    BlockParameters memory;
    const absl::StatusOr<Model> alone = Model::CreateLayer(config, weights, layer, memory);
    ASSERT_THAT(alone, IsOk());
    ASSERT_THAT(Compute(*alone, rows, 1), IsOk());
    rows.query = rows.output;
  }
  EXPECT_TRUE(testing::SameBits(rows.output, whole.output));
}

TEST_P(ModelTest, NarrowerPrecisionsKeepTheDirection) {
  if (GetParam().name == "tiny") GTEST_SKIP() << "one number has no direction";
  for (const auto& [precision, cosine] :
       {std::pair(Precision::kBf16, kBf16Cosine), std::pair(Precision::kInt8, kInt8Cosine)}) {
    SCOPED_TRACE(Name(precision));
    const ModelConfig config = Config(precision);
    const ModelParameters weights = RandomModelParameters(config, 7);
    const absl::StatusOr<Model> model = Model::Create(config, weights, "brgemm");
    if (model.status().code() == absl::StatusCode::kUnimplemented) continue;  // this CPU lacks it
    ASSERT_THAT(model, IsOk());
    ModelInputs inputs(config, {50, 1, 12}, {1, 2, 3});
    ASSERT_THAT(Compute(*model, inputs, 2), IsOk());
    EXPECT_GE(Cosine(inputs.output, ReferenceModel(config, weights, inputs.Batch()).hidden), cosine);
    const absl::StatusOr<PrecisionError> error = MeasurePrecisionError(*model, weights);
    ASSERT_THAT(error, IsOk());
    EXPECT_GE(error->cosine, cosine);
    EXPECT_EQ(error->max_abs > 0, model->attention().precision() != Precision::kF32);
  }
}

TEST_P(ModelTest, BitsDoNotDependOnCompanyOrThreads) {
  for (const Case& test :
       {Case{"", Precision::kF32}, Case{"matmul", Precision::kF32}, Case{"brgemm", Precision::kF32},
        Case{"brgemm", Precision::kBf16}, Case{"brgemm", Precision::kInt8}}) {
    SCOPED_TRACE(::testing::Message() << test.kernel << " " << Name(test.precision));
    const ModelConfig config = Config(test.precision);
    const absl::StatusOr<Model> model = Model::Create(config, RandomModelParameters(config, 8), test.kernel);
    if (model.status().code() == absl::StatusCode::kUnimplemented) continue;
    ASSERT_THAT(model, IsOk());
    const std::vector<int64_t> lengths = {1, 70, 5, 299, 20};
    ModelInputs together(config, lengths, {1, 2, 3, 4, 5});
    ASSERT_THAT(Compute(*model, together, 1), IsOk());
    for (int threads : {1, 2, 8}) {
      SCOPED_TRACE(::testing::Message() << threads << " threads");
      ModelInputs again(config, lengths, {1, 2, 3, 4, 5});
      ASSERT_THAT(Compute(*model, again, threads), IsOk());
      EXPECT_EQ(again.output, together.output);
      for (size_t i = 0; i < lengths.size(); ++i) {
        ModelInputs alone(config, {lengths[i]}, {i + 1});
        ASSERT_THAT(Compute(*model, alone, threads), IsOk());
        EXPECT_EQ(alone.output, together.OutputOf(i)) << "sequence " << i;
      }
    }
  }
}

TEST_P(ModelTest, CancelledAndPoisonedNeighboursChangeNothing) {
  const ModelConfig config = Config();
  const absl::StatusOr<Model> model = Model::Create(config, RandomModelParameters(config, 9));
  ASSERT_THAT(model, IsOk());
  const std::vector<int64_t> lengths = {40, 300, 3, 10};
  ModelInputs clean(config, lengths, {1, 2, 3, 4});
  ASSERT_THAT(Compute(*model, clean, 2), IsOk());
  ModelInputs disturbed(config, lengths, {1, 2, 3, 4});
  CancellationToken cancelled;
  cancelled.Cancel();
  disturbed.sequences[1].cancelled = &cancelled;
  if (!disturbed.query.empty()) {
    disturbed.query[disturbed.cu_lens[2] * disturbed.width] = std::numeric_limits<float>::quiet_NaN();
  }
  ASSERT_THAT(Compute(*model, disturbed, 2), IsOk());
  EXPECT_EQ(disturbed.OutputOf(0), clean.OutputOf(0));
  EXPECT_EQ(disturbed.OutputOf(3), clean.OutputOf(3));
  if (!disturbed.query.empty()) {
    const std::vector<float> poisoned = disturbed.OutputOf(2);
    EXPECT_TRUE(std::isnan(poisoned[0]));
  }
}

TEST_P(ModelTest, GivesTheWeightsOfTheLayerThatIsAsked) {
  const ModelConfig config = Config();
  const ModelParameters weights = RandomModelParameters(config, 10);
  const absl::StatusOr<Model> model = Model::Create(config, weights);
  ASSERT_THAT(model, IsOk());
  const std::vector<int64_t> lengths = {6, 9};
  ModelInputs plain(config, lengths, {1, 2});
  ASSERT_THAT(Compute(*model, plain, 1), IsOk());
  for (int64_t layer = 0; layer <= config.num_layers; ++layer) {
    SCOPED_TRACE(layer);
    ModelInputs inputs(config, lengths, {1, 2});
    const int64_t asked = layer == config.num_layers ? config.num_layers - 1 : layer;
    if (layer < config.num_layers) inputs.weights_layer = {layer, 0};  // else the default, the last
    std::vector<float> got(config.LayerBlock(asked).attention.num_heads * 6 * 6);
    inputs.sequences[0].weights = {
        .mode = WeightsSink::Mode::kFull, .data = got.data(), .head_stride = 36, .query_stride = 6};
    ASSERT_THAT(Compute(*model, inputs, 2), IsOk());
    EXPECT_EQ(inputs.output, plain.output);
    ExpectNear(got, ReferenceModel(config, weights, inputs.Batch()).layers[asked][0].weights);
  }
}

TEST_P(ModelTest, GivesTheWeightsOfSeveralLayersInOnePass) {
  const ModelConfig config = Config();
  const int64_t num_heads = config.LayerBlock(0).attention.num_heads;
  if (config.num_layers < 2 || !config.LayersAgreeOnHeads()) GTEST_SKIP() << "layers with as many heads";
  const absl::StatusOr<Model> model = Model::Create(config, RandomModelParameters(config, 10));
  ASSERT_THAT(model, IsOk());
  const std::vector<int64_t> layers = {config.num_layers - 1, 0};
  constexpr int64_t kLayerNumbers = 8 * 9 * 9;
  ASSERT_LE(num_heads, 8);
  for (const auto mode : {WeightsSink::Mode::kFull, WeightsSink::Mode::kTopK, WeightsSink::Mode::kSummary,
                          WeightsSink::Mode::kGrid}) {
    SCOPED_TRACE(static_cast<int>(mode));
    std::vector<float> data(2 * kLayerNumbers), received(2 * kLayerNumbers);
    std::vector<int32_t> keys(2 * kLayerNumbers);
    const auto sink_at = [&](int64_t place) {
      return WeightsSink{.mode = mode,
                         .data = data.data() + place * kLayerNumbers,
                         .head_stride = 81,
                         .query_stride = 9,
                         .top_k = 3,
                         .keys = keys.data() + place * kLayerNumbers,
                         .received_mass = received.data() + place * kLayerNumbers,
                         .received_stride = 9};
    };
    ModelInputs inputs(config, {6, 9}, {1, 2});
    inputs.sequences[1].weights = sink_at(0);
    const int64_t first = 0;
    inputs.weights_layers = {
        {.layers = {&first, 1}},
        {.layers = layers, .data_stride = kLayerNumbers, .received_stride = kLayerNumbers}};
    ASSERT_THAT(Compute(*model, inputs, 2), IsOk());
    const std::vector<float> output = inputs.output, together = data, received_together = received;
    const std::vector<int32_t> keys_together = keys;
    inputs.weights_layers.clear();
    for (int64_t place = 0; place < 2; ++place) {
      inputs.weights_layer = {0, layers[place]};
      inputs.sequences[1].weights = sink_at(place);
      ASSERT_THAT(Compute(*model, inputs, 2), IsOk());
    }
    EXPECT_EQ(inputs.output, output);
    EXPECT_EQ(data, together);
    EXPECT_EQ(received, received_together);
    EXPECT_EQ(keys, keys_together);
    for (const int64_t place : {0, 1}) EXPECT_NE(data[place * kLayerNumbers], 0.0f) << "nothing was written";
  }
}

TEST_P(ModelTest, PoolsAsTheReference) {
  ModelConfig config = Config();
  const absl::StatusOr<Model> model = Model::Create(config, RandomModelParameters(config, 11));
  ASSERT_THAT(model, IsOk());
  ModelInputs inputs(config, {1, 30, 5}, {1, 2, 3});
  ASSERT_THAT(Compute(*model, inputs, 1), IsOk());
  const std::vector<double> hidden(inputs.output.begin(), inputs.output.end());
  for (const std::vector<Pooling>& poolings : {std::vector{Pooling::kCls},
                                               {Pooling::kMean},
                                               {Pooling::kMax},
                                               {Pooling::kMeanSqrtLen},
                                               {Pooling::kWeightedMean},
                                               {Pooling::kLast},
                                               {Pooling::kMean, Pooling::kLast, Pooling::kMax}}) {
    for (const bool normalize : {false, true}) {
      config.pooling = poolings;
      config.normalize_pooled = normalize;
      const int64_t dim = inputs.width * std::ssize(poolings);
      std::vector<float> pooled(3 * dim);
      PoolSequences({inputs.output.data(), inputs.tokens(), inputs.width, inputs.width}, inputs.cu_lens,
                    poolings, normalize, {pooled.data(), 3, dim, dim});
      const std::vector<double> wanted = ReferencePooled(config, hidden, inputs.cu_lens);
      // Sums are of doubles: only the result rounds, and once more with the norm.
      for (size_t i = 0; i < pooled.size(); ++i) {
        EXPECT_NEAR(pooled[i], wanted[i], 0x1p-22 * std::abs(wanted[i]) + 1e-30);
      }
    }
  }
}

class ModelChecksTest : public ::testing::Test {
 protected:
  absl::Status RunEncoder(ModelInputs& inputs) {
    const absl::StatusOr<Model> model = Model::Create(config_, RandomModelParameters(config_, 1));
    return model.ok() ? Compute(*model, inputs, 1) : model.status();
  }
  const ModelConfig config_ = testing::SmallEncoder().Resolved();
};

TEST_F(ModelChecksTest, RefusesIdsOutsideOfTheirTables) {
  ModelInputs inputs(config_, {4, 4}, {1, 2});
  inputs.token_ids[5] = 50;
  EXPECT_THAT(RunEncoder(inputs),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("token_ids[5]"), HasSubstr("got 50"), HasSubstr("0..49"))));
  inputs.token_ids[5] = -1;
  EXPECT_THAT(RunEncoder(inputs),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("token_ids[5]: got -1")));
  inputs.token_ids[5] = 0;
  inputs.token_types[7] = 2;
  EXPECT_THAT(RunEncoder(inputs),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("token_types[7]: got 2, wanted 0..1")));
  inputs.token_types.pop_back();
  EXPECT_THAT(RunEncoder(inputs),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("token_types: got 7, wanted 8")));
}

TEST_F(ModelChecksTest, RefusesSequencesBeyondThePositionTable) {
  ModelInputs inputs(config_, {4, 401}, {1, 2});
  EXPECT_THAT(RunEncoder(inputs),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("sequences[1]: got 401 tokens"), HasSubstr("at most 400"))));
}

TEST_F(ModelChecksTest, RefusesWhatTheModelDoesNotBeginAt) {
  ModelInputs inputs(config_, {4}, {1});
  inputs.query.resize(4 * 96);
  EXPECT_THAT(RunEncoder(inputs),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("query: got a matrix")));
  inputs.query.clear();
  inputs.token_ids.clear();
  EXPECT_THAT(RunEncoder(inputs),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("token_ids: got none")));
}

TEST_F(ModelChecksTest, RefusesLayersThatThereAreNot) {
  ModelInputs inputs(config_, {4, 4}, {1, 2});
  inputs.weights_layer = {0};
  EXPECT_THAT(RunEncoder(inputs),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("weights_layers: got 1, wanted 2")));
  inputs.weights_layer = {0, 2};
  EXPECT_THAT(RunEncoder(inputs), StatusIs(absl::StatusCode::kInvalidArgument,
                                           HasSubstr("weights_layers[1]: got 2, wanted 0..1, each once")));
}

TEST_F(ModelChecksTest, RefusesKeysOfTheirOwnInAStack) {
  ModelConfig config = config_;
  config.embedding.reset();
  const absl::StatusOr<Model> model = Model::Create(config, RandomModelParameters(config, 1));
  ASSERT_THAT(model, IsOk());
  ModelInputs inputs(config, {4}, {1});
  const std::vector<float> other = inputs.query;
  ModelBatch batch = inputs.Batch();
  batch.attention.key.data = other.data();
  ComputeArena arena(1);
  EXPECT_THAT(model->Forward(batch, arena, *model->NewWorkspace(arena)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("attends to its own tokens")));
}

TEST(BareModelTest, IsTheAttentionLayerBitForBit) {
  ModelConfig config;
  config.block.attention = {.embed_dim = 48, .num_heads = 4};
  config = config.Resolved();
  const ModelParameters weights = RandomModelParameters(config, 42);
  const absl::StatusOr<Model> model = Model::Create(config, weights);
  const absl::StatusOr<AttentionLayer> attention =
      AttentionLayer::Create(config.block.attention, RandomParameters(config.block.attention, 42));
  ASSERT_THAT(model, IsOk());
  ASSERT_THAT(attention, IsOk());
  ModelInputs through_model(config, {17, 3}, {1, 2}), direct(config, {17, 3}, {1, 2});
  ASSERT_THAT(Compute(*model, through_model, 2), IsOk());
  ComputeArena arena(1);
  ASSERT_THAT(attention->Forward(direct.Batch().attention, arena, *attention->NewWorkspace(arena)), IsOk());
  EXPECT_EQ(through_model.output, direct.output);
}

// 70000 * 255 * 127 is beyond 2^31: all hidden units are 1 and so is what comes out of each column of `down`.
TEST(Int8DepthTest, ADeepFeedForwardNetworkDoesNotOverflow) {
  ModelConfig config;
  config.block.attention = {.embed_dim = 16, .num_heads = 1, .precision = Precision::kInt8};
  config.block.norm_placement = NormPlacement::kPre;
  config.block.feed_forward = {.hidden_dim = 70000, .activation = Activation::kRelu};
  config = config.Resolved();
  ModelParameters parameters = RandomModelParameters(config, 1);
  FeedForwardParameters& network = parameters.layers[0].feed_forward;
  std::fill(network.up.begin(), network.up.end(), 0.0f);
  std::fill(network.up_bias.begin(), network.up_bias.end(), 1.0f);
  std::fill(network.down.begin(), network.down.end(), 1.0f / 70000);
  const absl::StatusOr<Model> model = Model::Create(config, parameters);
  ASSERT_THAT(model, IsOk());
  ModelInputs inputs(config, {3}, {1});
  ASSERT_THAT(Compute(*model, inputs, 1), IsOk());
  const std::vector<double> wanted = ReferenceModel(config, parameters, inputs.Batch()).hidden;
  for (size_t i = 0; i < wanted.size(); ++i) EXPECT_NEAR(inputs.output[i], wanted[i], 0.05);
  EXPECT_EQ(model->attention().precision(), Precision::kF32);
  EXPECT_THAT(model->attention().precision_note(), ::testing::StartsWith("computed in f32: "));
  EXPECT_THAT(model->attention().precision_note(), ::testing::HasSubstr("a depth of 70000"));
}

TEST(Int8DepthTest, ADeepLayerIsComputedInF32AndSaysSo) {
  ModelConfig config;
  config.block.attention = {
      .embed_dim = 16, .num_heads = 1024, .head_dim = 72, .precision = Precision::kInt8};
  config = config.Resolved();
  const absl::StatusOr<Model> model = Model::Create(config, RandomModelParameters(config, 1));
  ASSERT_THAT(model, IsOk());
  EXPECT_EQ(model->attention().precision(), Precision::kF32);
  EXPECT_THAT(model->attention().precision_note(), ::testing::StartsWith("computed in f32: "));
  EXPECT_THAT(model->attention().precision_note(), ::testing::HasSubstr("a depth of 73728"));
}

}  // namespace
}  // namespace headlight
