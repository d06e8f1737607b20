// SPDX-License-Identifier: Apache-2.0
#include "server/batch/batch_executor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/tensor/convert.h"
#include "server/attend/attend_reply.h"
#include "tests/server/attend_fixtures.h"
#include "tests/server/checked_attend.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using testing::AddFloats;
using testing::AnswerAsOneBatch;
using testing::CheckAttend;
using testing::CrossConfig;
using testing::ExpectMatchesReference;
using testing::FloatsOf;
using testing::IsOk;
using testing::MakeRequest;
using testing::MakeTestModel;
using testing::ParseReply;
using testing::Segmented;
using testing::StatusIs;
using testing::TestModel;

class BatchExecutorTest : public ::testing::Test {
 protected:
  BatchExecutorTest() {
    EXPECT_THAT(registry_.Add(small_.loaded), IsOk());
    EXPECT_THAT(registry_.Add(cross_.loaded), IsOk());
  }

  // Decodes `requests`, computes them as one batch and encodes the replies.
  std::vector<v1::AttendResponse> Run(const std::vector<v1::AttendRequest>& requests,
                                      size_t segment_bytes = 100) {
    return AnswerAsOneBatch(requests, registry_, executor_, segment_bytes);
  }

  TestModel small_ = MakeTestModel("small");
  TestModel cross_ = MakeTestModel("cross", CrossConfig());
  ModelRegistry registry_;
  ComputeArena arena_{2};
  BufferPool pool_{1 << 20};
  AttentionExecutor executor_{arena_, pool_};
};

v1::AttendRequest Ragged(const std::vector<int64_t>& lens, uint64_t seed) {
  int64_t tokens = 0;
  for (int64_t len : lens) tokens += len;
  v1::AttendRequest request = MakeRequest("small", {tokens, 16}, seed);
  for (int64_t len : lens) request.add_seq_lens(len);
  return request;
}

v1::AttendRequest Padded(int64_t seq_len, const std::vector<int64_t>& lens, uint64_t seed) {
  v1::AttendRequest request = MakeRequest("small", {static_cast<int64_t>(lens.size()), seq_len, 16}, seed);
  for (int64_t len : lens) request.add_seq_lens(len);
  return request;
}

TEST_F(BatchExecutorTest, RequestsOfEveryFormShareABatch) {
  v1::AttendRequest causal = MakeRequest("small", {1, 9, 16}, 4);
  causal.set_causal(true);
  const std::vector<v1::AttendRequest> requests = {MakeRequest("small", {2, 3, 16}, 1), Ragged({1, 5, 2}, 2),
                                                   Padded(7, {7, 1, 4}, 3), causal};
  const std::vector<v1::AttendResponse> responses = Run(requests);
  for (size_t i = 0; i < requests.size(); ++i) ExpectMatchesReference(small_, requests[i], responses[i]);
  EXPECT_EQ(responses[0].time_budget().batch_requests(), 4);
  EXPECT_EQ(responses[0].time_budget().batch_sequences(), 2 + 3 + 3 + 1);
  EXPECT_EQ(responses[0].time_budget().batch_tokens(), 6 + 8 + 12 + 9);
}

TEST_F(BatchExecutorTest, ARequestGetsTheSameBitsAloneAndInABatch) {
  const v1::AttendRequest request = Ragged({3, 8}, 1);
  const auto alone = Run({request});
  const auto among_others = Run({Ragged({5, 1, 2}, 2), request, MakeRequest("small", {4, 11, 16}, 3)});
  EXPECT_EQ(alone[0].payloads(0), among_others[1].payloads(0));
}

TEST_F(BatchExecutorTest, WeightsArePutWhereEachSequenceBelongs) {
  for (const v1::WeightsMode mode : {v1::WEIGHTS_MODE_FULL, v1::WEIGHTS_MODE_MEAN}) {
    std::vector<v1::AttendRequest> requests = {Ragged({1, 5, 2}, 2), Padded(7, {7, 1, 4}, 3)};
    for (v1::AttendRequest& request : requests) request.mutable_weights()->set_mode(mode);
    requests.push_back(MakeRequest("small", {2, 3, 16}));  // wants none
    const std::vector<v1::AttendResponse> responses = Run(requests);
    for (size_t i = 0; i < requests.size(); ++i) ExpectMatchesReference(small_, requests[i], responses[i]);
  }
}

TEST_F(BatchExecutorTest, ReusedMemoryDoesNotShowInThePadding) {
  v1::AttendRequest full = MakeRequest("small", {2, 6, 16});
  full.mutable_weights()->set_mode(v1::WEIGHTS_MODE_FULL);
  Run({full});
  v1::AttendRequest padded = Padded(6, {1, 2}, 2);
  padded.mutable_weights()->set_mode(v1::WEIGHTS_MODE_FULL);
  ExpectMatchesReference(small_, padded, Run({padded})[0]);
}

TEST_F(BatchExecutorTest, CrossAttentionReadsItsOwnKeysAndValues) {
  std::vector<v1::AttendRequest> requests;
  for (uint64_t seed : {1, 2}) {
    v1::AttendRequest request = MakeRequest("cross", {2, 3, 16}, seed);
    AddFloats({2, 5, 12}, seed + 10, *request.mutable_key(), request);
    AddFloats({2, 5, 8}, seed + 20, *request.mutable_value(), request);
    request.add_kv_seq_lens(5);
    request.add_kv_seq_lens(static_cast<int64_t>(seed));
    request.mutable_weights()->set_mode(v1::WEIGHTS_MODE_FULL);
    requests.push_back(request);
  }
  v1::AttendRequest ragged = MakeRequest("cross", {4, 16}, 3);
  AddFloats({6, 12}, 13, *ragged.mutable_key(), ragged);
  AddFloats({6, 8}, 23, *ragged.mutable_value(), ragged);
  for (int64_t len : {3, 1}) ragged.add_seq_lens(len);
  for (int64_t len : {2, 4}) ragged.add_kv_seq_lens(len);
  ragged.set_causal(true);
  requests.push_back(ragged);
  const std::vector<v1::AttendResponse> responses = Run(requests);
  for (size_t i = 0; i < requests.size(); ++i) ExpectMatchesReference(cross_, requests[i], responses[i]);
}

TEST_F(BatchExecutorTest, AKeyAloneServesAsValueToo) {
  v1::AttendRequest request = MakeRequest("small", {2, 3, 16});
  AddFloats({2, 4, 16}, 2, *request.mutable_key(), request);
  ExpectMatchesReference(small_, request, Run({request})[0]);
}

TEST_F(BatchExecutorTest, MasksAreReadInPlaceAndFromPieces) {
  for (const Shape& shape : std::vector<Shape>{{1, 1, 5, 5}, {3, 1, 5, 5}, {1, 2, 5, 5}, {3, 2, 5, 5}}) {
    for (const size_t segment_bytes : {size_t{13}, size_t{1} << 20}) {
      v1::AttendRequest dense = Padded(5, {5, 1, 3}, 1);
      AddFloats(shape, 9, *dense.mutable_mask(), dense);
      v1::AttendRequest ragged = Ragged({2, 5, 4}, 2);
      ragged.mutable_mask()->set_dtype(v1::DTYPE_BOOL);
      for (int64_t dim : shape) ragged.mutable_mask()->add_shape(dim);
      std::string allowed(*NumElements(shape), '\0');
      for (size_t i = 0; i < allowed.size(); i += 2) allowed[i] = '\1';
      ragged.add_payloads(allowed);
      const std::vector<v1::AttendRequest> requests = {dense, ragged};
      const std::vector<v1::AttendResponse> responses = Run(requests, segment_bytes);
      for (size_t i = 0; i < requests.size(); ++i) ExpectMatchesReference(small_, requests[i], responses[i]);
    }
  }
}

TEST_F(BatchExecutorTest, WindowsNarrowWhatAQuerySees) {
  std::vector<v1::AttendRequest> requests;
  for (const bool causal : {false, true}) {
    for (const int64_t left : {0, 2, 100}) {
      v1::AttendRequest request = Padded(7, {7, 1, 4}, left + 1);
      request.set_causal(causal);
      request.set_window_left(left);
      if (!causal) request.set_window_right(1);
      request.mutable_weights()->set_mode(v1::WEIGHTS_MODE_FULL);
      requests.push_back(request);
    }
  }
  const std::vector<v1::AttendResponse> responses = Run(requests);
  for (size_t i = 0; i < requests.size(); ++i) ExpectMatchesReference(small_, requests[i], responses[i]);
}

TEST_F(BatchExecutorTest, EveryModeOfWeightsTakesHeadsAndQueries) {
  std::vector<v1::AttendRequest> requests;
  for (const v1::WeightsMode mode : {v1::WEIGHTS_MODE_FULL, v1::WEIGHTS_MODE_MEAN, v1::WEIGHTS_MODE_TOP_K,
                                     v1::WEIGHTS_MODE_SUMMARY, v1::WEIGHTS_MODE_GRID}) {
    for (const std::vector<int64_t>& heads : std::vector<std::vector<int64_t>>{{}, {1}, {1, 0}}) {
      for (const auto& [begin, end] : std::vector<std::pair<int64_t, int64_t>>{{0, 0}, {0, 1}, {2, 5}}) {
        for (v1::AttendRequest request : {Ragged({1, 5, 2}, 2), Padded(7, {7, 1, 4}, 3)}) {
          v1::WeightsOptions& weights = *request.mutable_weights();
          weights.set_mode(mode);
          if (mode == v1::WEIGHTS_MODE_TOP_K) weights.set_top_k(3);
          if (mode == v1::WEIGHTS_MODE_GRID) weights.set_grid_cols(4);
          for (int64_t head : heads) weights.add_heads(head);
          weights.set_query_begin(begin);
          weights.set_query_end(end);
          requests.push_back(request);
        }
      }
    }
  }
  const std::vector<v1::AttendResponse> responses = Run(requests);
  for (size_t i = 0; i < requests.size(); ++i) ExpectMatchesReference(small_, requests[i], responses[i]);
}

TEST_F(BatchExecutorTest, TopKBeyondTheKeysIsFilledUp) {
  v1::AttendRequest request = Ragged({1, 5, 2}, 2);
  request.set_causal(true);
  request.mutable_weights()->set_mode(v1::WEIGHTS_MODE_TOP_K);
  request.mutable_weights()->set_top_k(1024);
  ExpectMatchesReference(small_, request, Run({request})[0]);
}

TEST_F(BatchExecutorTest, WeightsReachOverAppendedKeys) {
  AttentionConfig config = testing::SmallConfig();
  config.add_bias_kv = true;
  config.add_zero_attn = true;
  const TestModel appending = MakeTestModel("appending", config);
  ASSERT_THAT(registry_.Add(appending.loaded), IsOk());
  for (const v1::WeightsMode mode : {v1::WEIGHTS_MODE_FULL, v1::WEIGHTS_MODE_MEAN, v1::WEIGHTS_MODE_TOP_K,
                                     v1::WEIGHTS_MODE_SUMMARY, v1::WEIGHTS_MODE_GRID}) {
    for (v1::AttendRequest request : {Ragged({1, 5, 2}, 2), Padded(7, {7, 1, 4}, 3)}) {
      request.set_model("appending");
      request.mutable_weights()->set_mode(mode);
      if (mode == v1::WEIGHTS_MODE_TOP_K) request.mutable_weights()->set_top_k(4);
      ExpectMatchesReference(appending, request, Run({request})[0]);
    }
  }
}

constexpr v1::DType kFloatTypes[] = {v1::DTYPE_F32, v1::DTYPE_BF16, v1::DTYPE_F16};

// Pieces of 13 bytes cut every other element in two.
TEST_F(BatchExecutorTest, EachTensorHasATypeOfItsOwnHoweverTheNetworkCutsIt) {
  std::vector<v1::AttendRequest> requests;
  for (const v1::DType query : kFloatTypes) {
    for (const v1::DType key : kFloatTypes) {
      v1::AttendRequest request = MakeRequest("cross", {2, 3, 16}, 1, query);
      AddFloats({2, 5, 12}, 2, *request.mutable_key(), request, key);
      AddFloats({2, 5, 8}, 3, *request.mutable_value(), request, query);
      AddFloats({2, 1, 3, 5}, 4, *request.mutable_mask(), request, key);
      for (int64_t len : {3, 1}) request.add_seq_lens(len);
      for (int64_t len : {2, 5}) request.add_kv_seq_lens(len);
      request.mutable_weights()->set_mode(v1::WEIGHTS_MODE_FULL);
      request.set_output_dtype(key);
      requests.push_back(request);
    }
  }
  for (const size_t segment_bytes : {size_t{13}, size_t{1} << 20}) {
    const std::vector<v1::AttendResponse> responses = Run(requests, segment_bytes);
    for (size_t i = 0; i < requests.size(); ++i) ExpectMatchesReference(cross_, requests[i], responses[i]);
  }
}

TEST_F(BatchExecutorTest, ANarrowOutputIsTheF32OneRounded) {
  v1::AttendRequest request = Ragged({3, 300, 8}, 1);
  const std::vector<float> exact = FloatsOf(Run({request})[0].payloads(0));
  for (const auto& [dtype, wire] :
       {std::pair(DType::kBf16, v1::DTYPE_BF16), std::pair(DType::kF16, v1::DTYPE_F16)}) {
    request.set_output_dtype(wire);
    const auto responses = Run({MakeRequest("small", {2, 3, 16}), request});  // beside one in f32
    std::string wanted(exact.size() * 2, '\0');
    ConvertFromF32(exact.data(), static_cast<int64_t>(exact.size()), dtype, wanted.data());
    EXPECT_EQ(responses[1].output().dtype(), wire);
    EXPECT_EQ(responses[1].payloads(0), wanted);
  }
}

TEST_F(BatchExecutorTest, NarrowInputsGiveTheBitsOfTheSameNumbersInF32) {
  const v1::AttendRequest narrow = MakeRequest("small", {40, 700, 16}, 1, v1::DTYPE_BF16);  // several pieces
  v1::AttendRequest wide = narrow;
  wide.mutable_query()->set_dtype(v1::DTYPE_F32);
  wide.set_payloads(0, testing::BytesOf(FloatsOf(narrow.payloads(0), v1::DTYPE_BF16)));
  EXPECT_EQ(Run({narrow}, 10'001)[0].payloads(0), Run({wide})[0].payloads(0));
}

TEST_F(BatchExecutorTest, InputsOfManyPiecesAreCopiedWhole) {
  const v1::AttendRequest request = Ragged({200, 20000, 300}, 1);  // more than one piece of copying
  const auto in_pieces = Run({request}, 1000);
  const auto in_one = Run({request}, size_t{1} << 30);
  EXPECT_EQ(in_pieces[0].payloads(0), in_one[0].payloads(0));
}

TEST_F(BatchExecutorTest, ResultsOutliveTheNextBatch) {
  const v1::AttendRequest request = MakeRequest("small", {2, 3, 16});
  const std::string bytes = request.SerializeAsString();
  const auto checked = CheckAttend(Segmented(bytes, 100), {registry_, 1 << 20});
  ASSERT_THAT(checked, IsOk());
  const BatchInput* const input = &checked->input;
  const auto results = executor_.Execute({&input, 1});
  ASSERT_THAT(results, IsOk());
  Run({MakeRequest("small", {2, 3, 16}, 99)});
  ExpectMatchesReference(small_, request, ParseReply(EncodeAttend(checked->reply, results->front(), {})));
}

TEST_F(BatchExecutorTest, TellsHowManyBytesItCopiedForEachRequest) {
  constexpr int64_t kNumbers = 2 * 3 * 16;
  v1::AttendRequest narrow = MakeRequest("small", {2, 3, 16}, 1, v1::DTYPE_BF16);
  narrow.set_output_dtype(v1::DTYPE_F16);
  for (const auto& [request, wanted] :
       {std::pair(MakeRequest("small", {2, 3, 16}),
                  kNumbers * 4),  // in; the reply sends the batch's own memory
        std::pair(narrow, kNumbers * 4 + kNumbers * 2)}) {
    const std::string bytes = request.SerializeAsString();
    const auto checked = CheckAttend(Segmented(bytes, 100), {registry_, 1 << 20});
    ASSERT_THAT(checked, IsOk());
    const BatchInput* const input = &checked->input;
    const auto results = executor_.Execute({&input, 1});
    ASSERT_THAT(results, IsOk());
    EXPECT_EQ((*results)[0].copied_bytes, wanted);
  }
}

TEST_F(BatchExecutorTest, NothingIsMadeOfWhatIsCancelledAndNeighboursAreAnswered) {
  v1::AttendRequest pooled = MakeRequest("small", {2, 3, 16}, 7);
  pooled.set_pooling(v1::POOLING_MODE_MEAN);
  const v1::AttendRequest neighbour = MakeRequest("small", {1, 5, 16}, 8);
  const std::string pooled_bytes = pooled.SerializeAsString();
  const std::string neighbour_bytes = neighbour.SerializeAsString();
  auto cancelled = CheckAttend(Segmented(pooled_bytes, 100), {registry_, 1 << 20});
  const auto kept = CheckAttend(Segmented(neighbour_bytes, 100), {registry_, 1 << 20});
  ASSERT_THAT(cancelled, IsOk());
  ASSERT_THAT(kept, IsOk());
  const auto token = std::make_shared<CancellationToken>();
  token->Cancel();
  cancelled->input.cancelled = token;
  const BatchInput* const inputs[] = {&cancelled->input, &kept->input};
  const auto results = executor_.Execute(inputs);
  ASSERT_THAT(results, IsOk());
  EXPECT_EQ(results->front().output, nullptr);
  ExpectMatchesReference(small_, neighbour, ParseReply(EncodeAttend(kept->reply, results->back(), {})));
}

TEST_F(BatchExecutorTest, SaysWhenMemoryIsShort) {
  const int64_t tokens = std::numeric_limits<int64_t>::max() / (16 * 4);
  BatchInput input;
  input.model = small_.loaded;
  input.q_lens = input.kv_lens = {tokens};
  input.q_tokens = input.kv_tokens = tokens;
  input.cancelled = std::make_shared<CancellationToken>();
  const BatchInput* const inputs = &input;
  EXPECT_THAT(executor_.Execute({&inputs, 1}),
              StatusIs(absl::StatusCode::kResourceExhausted, ::testing::HasSubstr("memory is short")));
}

}  // namespace
}  // namespace headlight
