// SPDX-License-Identifier: Apache-2.0
#include "server/batch_executor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "server/codec.h"
#include "tests/server/attend_fixtures.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using testing::AddFloats;
using testing::CrossConfig;
using testing::ExpectMatchesReference;
using testing::FloatsOf;
using testing::IsOk;
using testing::MakeRequest;
using testing::MakeTestModel;
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
    std::vector<std::string> bytes;
    for (const v1::AttendRequest& request : requests) bytes.push_back(request.SerializeAsString());
    std::vector<AttendTask> tasks;
    std::vector<ReplyLayout> layouts;
    for (const std::string& message : bytes) {
      const auto parsed = ParseAttend(Segmented(message, segment_bytes));
      EXPECT_THAT(parsed, IsOk());
      auto decoded = DecodeAttend(*parsed, {registry_, 1 << 28});
      EXPECT_THAT(decoded, IsOk());
      decoded->task.cancelled = std::make_shared<CancellationToken>();
      tasks.push_back(std::move(decoded->task));
      layouts.push_back(std::move(decoded->reply));
    }
    const auto results = executor_.Execute(tasks);
    EXPECT_THAT(results, IsOk());
    std::vector<v1::AttendResponse> responses;
    for (size_t i = 0; i < results->size(); ++i) {
      responses.push_back(Response(EncodeAttend(layouts[i], (*results)[i], {})));
      counts_ = (*results)[i];
    }
    return responses;
  }

  static v1::AttendResponse Response(const grpc::ByteBuffer& buffer) {
    const auto message = Receive(buffer);
    std::string bytes(message->segments.size_bytes(), '\0');
    message->segments.CopyTo(0, message->segments.size_bytes(),
                             std::as_writable_bytes(std::span(bytes)).data());
    v1::AttendResponse response;
    EXPECT_TRUE(response.ParseFromString(bytes));
    return response;
  }

  TestModel small_ = MakeTestModel("small");
  TestModel cross_ = MakeTestModel("cross", CrossConfig());
  ModelRegistry registry_;
  ComputeArena arena_{2};
  AttentionExecutor executor_{arena_, 1 << 20};
  AttendResult counts_;  // of the last batch
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
  EXPECT_EQ(counts_.batch_requests, 4);
  EXPECT_EQ(counts_.batch_sequences, 2 + 3 + 3 + 1);
  EXPECT_EQ(counts_.batch_tokens, 6 + 8 + 12 + 9);
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

TEST_F(BatchExecutorTest, InputsOfManyPiecesAreCopiedWhole) {
  const v1::AttendRequest request = Ragged({200, 20000, 300}, 1);  // more than one piece of copying
  const auto in_pieces = Run({request}, 1000);
  const auto in_one = Run({request}, size_t{1} << 30);
  EXPECT_EQ(in_pieces[0].payloads(0), in_one[0].payloads(0));
}

TEST_F(BatchExecutorTest, ResultsOutliveTheNextBatch) {
  const v1::AttendRequest request = MakeRequest("small", {2, 3, 16});
  const std::string bytes = request.SerializeAsString();
  const auto parsed = ParseAttend(Segmented(bytes, 100));
  auto decoded = DecodeAttend(*parsed, {registry_, 1 << 20});
  ASSERT_THAT(decoded, IsOk());
  decoded->task.cancelled = std::make_shared<CancellationToken>();
  const auto results = executor_.Execute({&decoded->task, 1});
  ASSERT_THAT(results, IsOk());
  Run({MakeRequest("small", {2, 3, 16}, 99)});
  ExpectMatchesReference(small_, request, Response(EncodeAttend(decoded->reply, results->front(), {})));
}

TEST_F(BatchExecutorTest, SaysWhenMemoryIsShort) {
  const int64_t tokens = std::numeric_limits<int64_t>::max() / (16 * 4);
  AttendTask task;
  task.model = small_.loaded;
  task.q_lens = task.kv_lens = {tokens};
  task.q_tokens = task.kv_tokens = tokens;
  task.cancelled = std::make_shared<CancellationToken>();
  EXPECT_THAT(executor_.Execute({&task, 1}),
              StatusIs(absl::StatusCode::kResourceExhausted, ::testing::HasSubstr("memory is short")));
}

}  // namespace
}  // namespace headlight
