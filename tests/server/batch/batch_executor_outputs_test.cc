// SPDX-License-Identifier: Apache-2.0
//
// Requests for several outputs of one pass, from message to message.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "core/model/heads/reference.h"
#include "core/model/reference.h"
#include "server/batch/batch_executor.h"
#include "tests/server/attend_fixtures.h"
#include "tests/server/checked_attend.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using testing::AnswerAsOneBatch;
using ::testing::ElementsAre;
using testing::EncoderWithHeads;
using testing::FloatsOf;
using testing::IsOk;
using testing::LoadTestModel;
using testing::MakeIdsRequest;

constexpr int64_t kHidden = 16;
constexpr v1::OutputKind kAllKinds[] = {v1::OUTPUT_KIND_HIDDEN_STATES, v1::OUTPUT_KIND_POOLED,
                                        v1::OUTPUT_KIND_SCORES,        v1::OUTPUT_KIND_TOKEN_SCORES,
                                        v1::OUTPUT_KIND_TOKEN_LOGITS,  v1::OUTPUT_KIND_SPARSE,
                                        v1::OUTPUT_KIND_TOKEN_VECTORS};

v1::OutputSpec& AddOutput(v1::OutputKind kind, v1::AttendRequest& request) {
  v1::OutputSpec& spec = *request.add_outputs();
  spec.set_kind(kind);
  if (kind == v1::OUTPUT_KIND_TOKEN_LOGITS) {
    for (const int64_t position : {3, 0, 6}) spec.add_positions(position);
  }
  return spec;
}

// Sequences of 4 and 3 tokens.
v1::AttendRequest SevenTokens() {
  v1::AttendRequest request = MakeIdsRequest("encoder", {7}, 1);
  for (const int64_t len : {4, 3}) request.add_seq_lens(len);
  return request;
}

// The payloads of one output and how it is described.
struct Taken {
  v1::OutputTensor tensor;
  std::string values, indices, scale;

  std::vector<float> floats() const { return FloatsOf(values, tensor.values().dtype()); }
  std::vector<int32_t> ids() const {
    std::vector<int32_t> ids(indices.size() / sizeof(int32_t));
    std::memcpy(ids.data(), indices.data(), indices.size());
    return ids;
  }
};

std::vector<Taken> Take(const v1::AttendResponse& response) {
  int next = (response.has_output() ? 1 : 0) + (response.has_weights() ? 1 : 0) +
             (response.has_received_mass() ? 1 : 0);
  std::vector<Taken> taken;
  for (const v1::OutputTensor& tensor : response.outputs()) {
    Taken& output = taken.emplace_back(Taken{tensor, response.payloads(next++), "", ""});
    if (tensor.has_indices()) output.indices = response.payloads(next++);
    if (tensor.has_scale()) output.scale = response.payloads(next++);
  }
  EXPECT_EQ(next, response.payloads_size());
  return taken;
}

void ExpectNear(const std::vector<float>& got, const std::vector<double>& wanted) {
  ASSERT_EQ(got.size(), wanted.size());
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(static_cast<double>(got[i]), wanted[i], 1e-4) << i;
}

class BatchExecutorOutputsTest : public ::testing::Test {
 protected:
  BatchExecutorOutputsTest() { EXPECT_THAT(registry_.Add(LoadTestModel("encoder", config_)), IsOk()); }

  std::vector<v1::AttendResponse> Run(const std::vector<v1::AttendRequest>& requests) {
    return AnswerAsOneBatch(requests, registry_, executor_, /*segment_bytes=*/13);
  }
  std::vector<Taken> Run(const v1::AttendRequest& request) { return Take(Run(std::vector{request})[0]); }

  const ModelConfig config_ = EncoderWithHeads().Resolved();
  const ModelParameters parameters_ = RandomModelParameters(config_, /*seed=*/7);
  ModelRegistry registry_;
  ComputeArena arena_{2};
  BufferPool pool_{1 << 20};
  AttentionExecutor executor_{arena_, pool_};
};

TEST_F(BatchExecutorOutputsTest, AllOfThemComeFromOnePassAndAreTheFormulas) {
  v1::AttendRequest request = SevenTokens();
  for (const v1::OutputKind kind : kAllKinds) AddOutput(kind, request);
  const std::vector<Taken> taken = Run(request);
  ASSERT_EQ(taken.size(), 7u);
  const std::vector<float> hidden = taken[0].floats();
  ASSERT_EQ(hidden.size(), 7u * kHidden);
  const std::vector<double> all(hidden.begin(), hidden.end());
  const std::vector<std::vector<double>> parts = {{all.begin(), all.begin() + 4 * kHidden},
                                                  {all.begin() + 4 * kHidden, all.end()}};
  const int64_t cu_lens[] = {0, 4, 7};
  ExpectNear(taken[1].floats(), ReferencePooled(config_, all, cu_lens, parameters_.pooled_steps));
  const auto reference = [&](HeadKind kind, size_t sequence) {
    for (size_t i = 0; i < config_.heads.heads.size(); ++i) {
      if (config_.heads.heads[i].kind != kind) continue;
      return ReferenceHead(config_.heads.heads[i], parameters_.heads[i], kHidden,
                           parameters_.embedding.tokens, parts[sequence]);
    }
    return std::vector<double>();
  };
  const auto both = [&](HeadKind kind) {
    std::vector<double> rows = reference(kind, 0);
    const std::vector<double> more = reference(kind, 1);
    rows.insert(rows.end(), more.begin(), more.end());
    return rows;
  };
  ExpectNear(taken[2].floats(), both(HeadKind::kScores));
  ExpectNear(taken[3].floats(), both(HeadKind::kTokenScores));
  EXPECT_THAT(taken[3].tensor.values().shape(), ElementsAre(7, 4));
  const std::vector<double> logits = both(HeadKind::kLanguageModel);
  std::vector<double> asked;
  for (const int64_t row : {3, 0, 6})
    asked.insert(asked.end(), logits.begin() + row * 50, logits.begin() + (row + 1) * 50);
  ExpectNear(taken[4].floats(), asked);
  EXPECT_THAT(taken[4].tensor.values().shape(), ElementsAre(3, 50));
  std::vector<double> weights;
  std::vector<int32_t> ids;
  std::vector<int64_t> lens;
  for (size_t i = 0; i < 2; ++i) {
    const std::vector<double> of_ids = ReferenceSparse(reference(HeadKind::kLanguageModel, i), 50);
    lens.push_back(0);
    for (int32_t id = 0; id < 50; ++id) {
      if (of_ids[id] == 0) continue;
      weights.push_back(of_ids[id]);
      ids.push_back(id);
      ++lens.back();
    }
  }
  ExpectNear(taken[5].floats(), weights);
  EXPECT_EQ(taken[5].ids(), ids);
  EXPECT_THAT(taken[5].tensor.lens(), ::testing::ElementsAreArray(lens));
  ExpectNear(taken[6].floats(), both(HeadKind::kTokenVectors));
  EXPECT_THAT(taken[6].tensor.values().shape(), ElementsAre(5, 9)) << "the first tokens give none";
  EXPECT_THAT(taken[6].tensor.lens(), ElementsAre(3, 2));
}

TEST_F(BatchExecutorOutputsTest, ScoresAreOfTheRowThatTheHeadNames) {
  for (const ScoresOf scores_of : {ScoresOf::kMean, ScoresOf::kLastToken}) {
    ModelConfig config = config_;
    HeadConfig& head = config.heads.heads[0];
    head.scores_of = scores_of;
    const std::string name = scores_of == ScoresOf::kMean ? "mean" : "last";
    ASSERT_THAT(registry_.Add(LoadTestModel(name, config)), IsOk());
    v1::AttendRequest request = SevenTokens();
    request.set_model(name);
    AddOutput(v1::OUTPUT_KIND_HIDDEN_STATES, request);
    AddOutput(v1::OUTPUT_KIND_SCORES, request);
    const std::vector<Taken> taken = Run(request);
    const std::vector<float> hidden = taken[0].floats();
    ASSERT_EQ(hidden.size(), 7u * kHidden);
    const std::vector<double> first(hidden.begin(), hidden.begin() + 4 * kHidden);
    const std::vector<double> second(hidden.begin() + 4 * kHidden, hidden.end());
    std::vector<double> wanted = ReferenceHead(head, parameters_.heads[0], kHidden, {}, first);
    const std::vector<double> more = ReferenceHead(head, parameters_.heads[0], kHidden, {}, second);
    wanted.insert(wanted.end(), more.begin(), more.end());
    ExpectNear(taken[1].floats(), wanted);
  }
}

TEST_F(BatchExecutorOutputsTest, TheBitsAreThoseOfEachAskedAlone) {
  v1::AttendRequest together = SevenTokens();
  together.mutable_weights()->set_mode(v1::WEIGHTS_MODE_SUMMARY);
  for (const v1::OutputKind kind : kAllKinds) AddOutput(kind, together);
  v1::AttendRequest neighbour = MakeIdsRequest("encoder", {3, 19}, 5);
  AddOutput(v1::OUTPUT_KIND_SPARSE, neighbour);
  AddOutput(v1::OUTPUT_KIND_SCORES, neighbour);
  const std::vector<v1::AttendResponse> responses =
      Run(std::vector{neighbour, together, MakeIdsRequest("encoder", {2, 9}, 6)});
  EXPECT_TRUE(responses[1].has_weights() && responses[1].has_received_mass());
  EXPECT_FALSE(responses[1].has_output());
  const std::vector<Taken> all = Take(responses[1]);
  for (size_t i = 0; i < all.size(); ++i) {
    v1::AttendRequest alone = SevenTokens();
    AddOutput(kAllKinds[i], alone);
    const std::vector<Taken> one = Run(alone);
    EXPECT_EQ(one[0].values, all[i].values) << i;
    EXPECT_EQ(one[0].indices, all[i].indices) << i;
    EXPECT_EQ(one[0].tensor.SerializeAsString(), all[i].tensor.SerializeAsString()) << i;
  }
  v1::AttendRequest old = SevenTokens();
  old.set_pooling(v1::POOLING_MODE_MODEL);
  EXPECT_EQ(Run(std::vector{old})[0].payloads(0), all[1].values);
  old.set_pooling(v1::POOLING_MODE_UNSPECIFIED);
  EXPECT_EQ(Run(std::vector{old})[0].payloads(0), all[0].values);
}

TEST_F(BatchExecutorOutputsTest, InTheDenseFormPaddingIsZeroAndHasNoPosition) {
  v1::AttendRequest request = MakeIdsRequest("encoder", {2, 5}, 1);
  for (const int64_t len : {5, 2}) request.add_seq_lens(len);
  AddOutput(v1::OUTPUT_KIND_TOKEN_SCORES, request);
  v1::OutputSpec& logits = *request.add_outputs();
  logits.set_kind(v1::OUTPUT_KIND_TOKEN_LOGITS);
  for (const int64_t position : {4, 6}) logits.add_positions(position);
  AddOutput(v1::OUTPUT_KIND_HIDDEN_STATES, request);
  const std::vector<Taken> taken = Run(request);
  EXPECT_THAT(taken[0].tensor.values().shape(), ElementsAre(2, 5, 4));
  const std::vector<float> scores = taken[0].floats();
  for (size_t i = 7 * 4; i < 40; ++i) EXPECT_EQ(scores[i], 0.0f);
  EXPECT_NE(scores[7 * 4 - 1], 0.0f);
  EXPECT_THAT(taken[2].tensor.values().shape(), ElementsAre(2, 5, kHidden));
  // The same tokens without padding.
  const std::string ids = request.payloads(0);
  v1::AttendRequest ragged = request;
  ragged.mutable_token_ids()->clear_shape();
  ragged.mutable_token_ids()->add_shape(7);
  ragged.set_payloads(0, ids.substr(0, 7 * sizeof(int32_t)));
  ragged.mutable_outputs(1)->clear_positions();
  for (const int64_t position : {4, 6}) ragged.mutable_outputs(1)->add_positions(position);
  EXPECT_EQ(Run(ragged)[1].values, taken[1].values);
}

TEST_F(BatchExecutorOutputsTest, VectorsComeAsBytesAndAsBits) {
  for (const v1::OutputKind kind : {v1::OUTPUT_KIND_POOLED, v1::OUTPUT_KIND_TOKEN_VECTORS}) {
    v1::AttendRequest request = SevenTokens();
    v1::OutputSpec& spec = AddOutput(kind, request);
    const std::vector<float> floats = Run(request)[0].floats();
    spec.set_dtype(v1::DTYPE_I8);
    const Taken bytes = Run(request)[0];
    const int64_t rows = bytes.tensor.values().shape(0), cols = bytes.tensor.values().shape(1);
    ASSERT_EQ(static_cast<int64_t>(bytes.values.size()), rows * cols);
    const std::vector<float> scale = FloatsOf(bytes.scale);
    ASSERT_EQ(static_cast<int64_t>(scale.size()), rows);
    for (int64_t i = 0; i < rows * cols; ++i) {
      const float back = static_cast<float>(static_cast<int8_t>(bytes.values[i])) * scale[i / cols];
      EXPECT_NEAR(back, floats[i], scale[i / cols] * 0.5001f);
    }
    spec.set_dtype(v1::DTYPE_BITS);
    const Taken bits = Run(request)[0];
    const int64_t row_bytes = (cols + 7) / 8;
    EXPECT_THAT(bits.tensor.values().shape(), ElementsAre(rows, row_bytes * 8));
    ASSERT_EQ(static_cast<int64_t>(bits.values.size()), rows * row_bytes);
    for (int64_t i = 0; i < rows * row_bytes * 8; ++i) {
      const int64_t row = i / (row_bytes * 8), col = i % (row_bytes * 8);
      const bool set = (static_cast<uint8_t>(bits.values[i / 8]) >> (7 - i % 8) & 1) != 0;
      EXPECT_EQ(set, col < cols && floats[row * cols + col] > 0) << i;
    }
    spec.set_dtype(v1::DTYPE_F16);
    EXPECT_EQ(Run(request)[0].values.size(), floats.size() * 2);
  }
}

TEST_F(BatchExecutorOutputsTest, DimensionsCutWhatTheStepsMadeAndThenNormalise) {
  v1::AttendRequest request = SevenTokens();
  v1::OutputSpec& spec = AddOutput(v1::OUTPUT_KIND_POOLED, request);
  const std::vector<float> whole = Run(request)[0].floats();
  spec.set_dimensions(2);
  const std::vector<float> cut = Run(request)[0].floats();
  ASSERT_EQ(cut.size(), 4u);
  const size_t dim = whole.size() / 2;
  for (size_t i = 0; i < 2; ++i) {
    const float norm = std::hypot(whole[i * dim], whole[i * dim + 1]);
    EXPECT_NEAR(cut[i * 2], whole[i * dim] / norm, 1e-6);
    EXPECT_NEAR(cut[i * 2 + 1], whole[i * dim + 1] / norm, 1e-6);
  }
  spec.set_dimensions(0);
  spec.set_pooling(v1::POOLING_MODE_CLS);  // by name: hidden states as they are
  EXPECT_EQ(Run(request)[0].floats().size(), 2u * kHidden);
}

TEST_F(BatchExecutorOutputsTest, SparseVectorsAreCutToTheHeaviest) {
  v1::AttendRequest request = SevenTokens();
  v1::OutputSpec& spec = AddOutput(v1::OUTPUT_KIND_SPARSE, request);
  const std::vector<float> all = Run(request)[0].floats();
  spec.set_top_k(2);
  const Taken cut = Run(request)[0];
  EXPECT_THAT(cut.tensor.lens(), ElementsAre(2, 2));
  float largest = 0;
  for (const float value : all) largest = std::max(largest, value);
  const std::vector<float> kept = cut.floats();
  EXPECT_EQ(*std::max_element(kept.begin(), kept.end()), largest);
}

TEST_F(BatchExecutorOutputsTest, OneTokenAloneGivesNoVectorsButAReply) {
  v1::AttendRequest request = MakeIdsRequest("encoder", {1}, 1);
  for (const v1::DType dtype : {v1::DTYPE_F32, v1::DTYPE_I8, v1::DTYPE_BITS}) {
    request.clear_outputs();
    AddOutput(v1::OUTPUT_KIND_TOKEN_VECTORS, request).set_dtype(dtype);
    const Taken none = Run(request)[0];
    EXPECT_EQ(none.tensor.values().shape(0), 0);
    EXPECT_THAT(none.tensor.lens(), ElementsAre(0));
    EXPECT_EQ(none.values, "");
  }
}

}  // namespace
}  // namespace headlight
