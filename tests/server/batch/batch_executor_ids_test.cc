// SPDX-License-Identifier: Apache-2.0
//
// Batches of models that begin at token ids or pool, from message to message; batch_executor_test.cc has the
// rest.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/tensor/convert.h"
#include "server/batch/batch_executor.h"
#include "tests/server/attend_fixtures.h"
#include "tests/server/checked_attend.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using testing::AddIds;
using testing::AnswerAsOneBatch;
using testing::BytesOf;
using testing::EncoderConfig;
using testing::FloatsOf;
using testing::IsOk;
using testing::LoadTestModel;
using testing::MakeIdsRequest;
using testing::MakeRequest;
using testing::RandomIds;

constexpr int64_t kWidth = 16;

class BatchExecutorIdsTest : public ::testing::Test {
 protected:
  BatchExecutorIdsTest() {
    EXPECT_THAT(registry_.Add(LoadTestModel("encoder", EncoderConfig())), IsOk());
    ModelConfig stack = EncoderConfig();
    stack.embedding.reset();
    stack.normalize_pooled = false;
    EXPECT_THAT(registry_.Add(LoadTestModel("stack", stack)), IsOk());
    ModelConfig mixed = EncoderConfig();  // 2 heads, and in the middle layer 4
    mixed.other_blocks = {mixed.block};
    mixed.other_blocks[0].attention.num_heads = mixed.other_blocks[0].attention.num_kv_heads = 4;
    mixed.layer_blocks = {0, 1, 0};
    EXPECT_THAT(registry_.Add(LoadTestModel("mixed", mixed)), IsOk());
  }

  // Decodes `requests`, computes them as one batch and encodes the replies.
  std::vector<v1::AttendResponse> Run(const std::vector<v1::AttendRequest>& requests) {
    return AnswerAsOneBatch(requests, registry_, executor_, /*segment_bytes=*/13);
  }

  v1::AttendResponse Run(const v1::AttendRequest& request) { return Run(std::vector{request})[0]; }

  // That weights of the layers 1 and 0 together, beside another request, are those of each layer asked for
  // alone.
  void ExpectEachLayersOwn(v1::AttendRequest request) {
    const size_t num_sequences = static_cast<size_t>(request.seq_lens_size());
    v1::AttendRequest several = request;
    for (const int64_t layer : {1, 0}) several.mutable_weights()->add_layers(layer);
    const std::vector<v1::AttendResponse> together = Run({request, several});
    for (const int64_t place : {0, 1}) {
      request.mutable_weights()->set_layer(1 - place);
      const v1::AttendResponse alone = Run(request);
      ASSERT_EQ(together[1].payloads_size(), alone.payloads_size());
      ASSERT_EQ(together[1].weights().shape_size(), alone.weights().shape_size() + 1);
      EXPECT_EQ(together[1].weights().shape(1), 2);
      EXPECT_EQ(together[1].payloads(0), alone.payloads(0)) << "the output";
      for (int i = 1; i < alone.payloads_size(); ++i) {
        const size_t bytes = alone.payloads(i).size() / num_sequences;  // of a sequence
        for (size_t sequence = 0; sequence < num_sequences; ++sequence) {
          EXPECT_EQ(together[1].payloads(i).substr((2 * sequence + place) * bytes, bytes),
                    alone.payloads(i).substr(sequence * bytes, bytes))
              << "payload " << i << ", sequence " << sequence << ", layer " << 1 - place;
        }
      }
    }
  }

  ModelRegistry registry_;
  ComputeArena arena_{2};
  BufferPool pool_{1 << 20};
  AttentionExecutor executor_{arena_, pool_};
};

// One sequence after the other.
v1::AttendRequest RaggedRows(const std::vector<int64_t>& lens, uint64_t seed) {
  int64_t tokens = 0;
  for (int64_t len : lens) tokens += len;
  v1::AttendRequest request = MakeIdsRequest("encoder", {tokens}, seed);
  for (int64_t len : lens) request.add_seq_lens(len);
  return request;
}

void AddTypes(v1::AttendRequest& request, uint64_t seed, int64_t limit = 2) {
  const Shape shape(request.token_ids().shape().begin(), request.token_ids().shape().end());
  AddIds(shape, RandomIds(*NumElements(shape), limit, seed), *request.mutable_token_types(), request);
}

// Requests that differ in everything that a batch mixes.
std::vector<v1::AttendRequest> MixedRequests() {
  std::vector<v1::AttendRequest> requests = {RaggedRows({1, 20, 7}, 1), MakeIdsRequest("encoder", {3, 11}, 2),
                                             RaggedRows({5}, 3),
                                             MakeIdsRequest("encoder", {2, 9}, 4, v1::DTYPE_I64)};
  AddTypes(requests[1], 5);
  for (int64_t len : {2, 9}) requests[3].add_seq_lens(len);
  requests[2].set_causal(true);
  requests[0].mutable_weights()->set_mode(v1::WEIGHTS_MODE_FULL);
  requests[0].mutable_weights()->set_layer(0);
  requests[1].mutable_weights()->set_mode(v1::WEIGHTS_MODE_SUMMARY);
  const size_t plain = requests.size();
  for (size_t i = 0; i < plain; ++i) {
    requests.push_back(requests[i]);
    requests.back().set_pooling(i % 2 == 0 ? v1::POOLING_MODE_CLS : v1::POOLING_MODE_MODEL);
    if (i == 1) requests.back().set_output_dtype(v1::DTYPE_BF16);
  }
  return requests;
}

TEST_F(BatchExecutorIdsTest, AnswersDoNotDependOnTheCompanyInTheBatch) {
  const std::vector<v1::AttendRequest> requests = MixedRequests();
  const std::vector<v1::AttendResponse> together = Run(requests);
  for (size_t i = 0; i < requests.size(); ++i) {
    const v1::AttendResponse alone = Run(requests[i]);
    ASSERT_EQ(together[i].payloads_size(), alone.payloads_size()) << i;
    for (int j = 0; j < alone.payloads_size(); ++j) {
      EXPECT_EQ(together[i].payloads(j), alone.payloads(j)) << "request " << i << ", payload " << j;
    }
  }
}

// Asked for together, in an order of their own, beside another request.
TEST_F(BatchExecutorIdsTest, SeveralLayersOfWeightsAreEachLayersOwn) {
  for (const v1::WeightsMode mode : {v1::WEIGHTS_MODE_FULL, v1::WEIGHTS_MODE_MEAN, v1::WEIGHTS_MODE_TOP_K,
                                     v1::WEIGHTS_MODE_SUMMARY, v1::WEIGHTS_MODE_GRID}) {
    SCOPED_TRACE(v1::WeightsMode_Name(mode));
    v1::AttendRequest request = RaggedRows({1, 20, 7}, 1);
    request.mutable_weights()->set_mode(mode);
    if (mode == v1::WEIGHTS_MODE_TOP_K) request.mutable_weights()->set_top_k(3);
    ExpectEachLayersOwn(request);
  }
}

// Of which MEAN knows nothing: 4 heads beside 2.
TEST_F(BatchExecutorIdsTest, AMeanOfLayersWithOtherNumbersOfHeadsIsEachLayersOwn) {
  v1::AttendRequest request = RaggedRows({1, 20, 7}, 1);
  request.set_model("mixed");
  request.mutable_weights()->set_mode(v1::WEIGHTS_MODE_MEAN);
  ExpectEachLayersOwn(request);
}

TEST_F(BatchExecutorIdsTest, TheModelComputesWhatTheMessageSays) {
  const v1::AttendRequest request = RaggedRows({4, 9}, 1);
  const auto model = *registry_.Find("encoder", "");
  const std::vector<int64_t> wide = RandomIds(13, 50, 1);
  const std::vector<int32_t> ids(wide.begin(), wide.end());
  const int64_t cu_lens[] = {0, 4, 13};
  const std::vector<SequenceOptions> sequences(2);
  std::vector<float> output(13 * kWidth);
  ModelBatch batch;
  batch.attention.cu_q_lens = batch.attention.cu_kv_lens = cu_lens;
  batch.attention.sequences = sequences;
  batch.attention.output = {output.data(), 13, kWidth, kWidth};
  batch.token_ids = ids;
  const auto workspace = model->model.NewWorkspace(arena_);
  ASSERT_THAT(model->model.Forward(batch, arena_, *workspace), IsOk());
  EXPECT_EQ(Run(request).payloads(0), BytesOf(output));
}

TEST_F(BatchExecutorIdsTest, DenseAndRaggedIdsAreTheSameModel) {
  v1::AttendRequest dense = MakeIdsRequest("encoder", {2, 9}, 1);
  for (int64_t len : {9, 4}) dense.add_seq_lens(len);
  std::vector<int64_t> ids = RandomIds(18, 50, 1);
  ids.resize(13);
  v1::AttendRequest ragged;
  ragged.set_model("encoder");
  AddIds({13}, ids, *ragged.mutable_token_ids(), ragged, v1::DTYPE_I64);
  for (int64_t len : {9, 4}) ragged.add_seq_lens(len);
  const std::string padded = Run(dense).payloads(0);
  const std::string packed = Run(ragged).payloads(0);
  ASSERT_EQ(padded.size(), 18u * kWidth * 4);
  EXPECT_EQ(padded.substr(0, packed.size()), packed);
  EXPECT_EQ(padded.substr(packed.size()), std::string(5 * kWidth * 4, '\0'));
}

TEST_F(BatchExecutorIdsTest, MissingTypesAreZeros) {
  const v1::AttendRequest untyped = RaggedRows({5, 3}, 1);
  v1::AttendRequest zeros = untyped;
  AddTypes(zeros, 1, 1);
  v1::AttendRequest typed = untyped;
  AddTypes(typed, 1);
  const std::vector<v1::AttendResponse> responses = Run({untyped, typed, zeros});
  EXPECT_EQ(responses[0].payloads(0), responses[2].payloads(0));
  EXPECT_NE(responses[0].payloads(0), responses[1].payloads(0));
  EXPECT_EQ(Run(untyped).payloads(0), responses[0].payloads(0));
}

TEST_F(BatchExecutorIdsTest, PooledVectorsAreOfTheHiddenStates) {
  v1::AttendRequest request = MakeRequest("stack", {3, 7, kWidth});
  for (int64_t len : {7, 1, 4}) request.add_seq_lens(len);
  const std::vector<float> hidden = FloatsOf(Run(request).payloads(0));
  request.set_pooling(v1::POOLING_MODE_CLS);
  const std::vector<float> cls = FloatsOf(Run(request).payloads(0));
  request.set_pooling(v1::POOLING_MODE_MEAN);
  const std::vector<float> mean = FloatsOf(Run(request).payloads(0));
  ASSERT_EQ(cls.size(), 3u * kWidth);
  ASSERT_EQ(mean.size(), 3u * kWidth);
  for (int64_t i = 0; i < 3; ++i) {
    const int64_t len = request.seq_lens(static_cast<int>(i));
    for (int64_t column = 0; column < kWidth; ++column) {
      const float* first = hidden.data() + i * 7 * kWidth + column;
      EXPECT_EQ(cls[i * kWidth + column], *first);
      double sum = 0, magnitude = 0;
      for (int64_t row = 0; row < len; ++row) {
        sum += first[row * kWidth];
        magnitude += std::fabs(first[row * kWidth]);
      }
      // A sum of len numbers, and its division.
      const double bound = static_cast<double>(len + 1) * 0x1p-23 * magnitude / static_cast<double>(len);
      EXPECT_NEAR(mean[i * kWidth + column], sum / static_cast<double>(len), bound);
    }
  }
}

TEST_F(BatchExecutorIdsTest, PooledVectorsHaveUnitLengthWhereTheModelSaysSo) {
  v1::AttendRequest request = RaggedRows({5, 1, 20}, 1);
  for (const v1::PoolingMode mode : {v1::POOLING_MODE_MODEL, v1::POOLING_MODE_CLS, v1::POOLING_MODE_MEAN}) {
    request.set_pooling(mode);
    const std::vector<float> pooled = FloatsOf(Run(request).payloads(0));
    ASSERT_EQ(pooled.size(), 3u * kWidth);
    for (int64_t i = 0; i < 3; ++i) {
      double squares = 0;
      for (int64_t j = 0; j < kWidth; ++j) squares += std::pow(pooled[i * kWidth + j], 2);
      EXPECT_NEAR(squares, 1.0, kWidth * 0x1p-22);
    }
  }
}

TEST_F(BatchExecutorIdsTest, ANarrowPooledVectorIsTheF32OneRounded) {
  v1::AttendRequest request = RaggedRows({5, 3}, 1);
  request.set_pooling(v1::POOLING_MODE_MEAN);
  const std::vector<float> exact = FloatsOf(Run(request).payloads(0));
  for (const auto& [dtype, wire] :
       {std::pair(DType::kBf16, v1::DTYPE_BF16), std::pair(DType::kF16, v1::DTYPE_F16)}) {
    request.set_output_dtype(wire);
    const v1::AttendResponse response = Run(request);
    std::string wanted(exact.size() * 2, '\0');
    ConvertFromF32(exact.data(), static_cast<int64_t>(exact.size()), dtype, wanted.data());
    EXPECT_EQ(response.output().dtype(), wire);
    EXPECT_EQ(response.payloads(0), wanted);
  }
}

TEST_F(BatchExecutorIdsTest, WeightsComeFromTheLayerAskedFor) {
  std::vector<v1::AttendRequest> requests(4, RaggedRows({6, 4}, 1));
  for (v1::AttendRequest& request : requests) request.mutable_weights()->set_mode(v1::WEIGHTS_MODE_FULL);
  for (int layer = 0; layer < 3; ++layer) requests[layer].mutable_weights()->set_layer(layer);
  const std::vector<v1::AttendResponse> responses = Run(requests);
  EXPECT_NE(responses[0].payloads(1), responses[1].payloads(1));
  EXPECT_NE(responses[1].payloads(1), responses[2].payloads(1));
  EXPECT_EQ(responses[2].payloads(1), responses[3].payloads(1));
  for (const v1::AttendResponse& response : responses) {
    EXPECT_EQ(response.payloads(0), responses[0].payloads(0));  // the output is the same
    const std::vector<float> weights = FloatsOf(response.payloads(1));
    double sum = 0;
    for (int key = 0; key < 6; ++key) sum += weights[key];
    EXPECT_NEAR(sum, 1.0, 1e-5);
  }
}

}  // namespace
}  // namespace headlight
