// SPDX-License-Identifier: Apache-2.0
//
// What CheckRequest says of outputs that contradict the model or the rest of a request.
#include "server/request/output_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "server/attend/attend_request.h"
#include "server/batch/memory_need.h"
#include "server/batch/work_cost.h"
#include "server/request/check_request.h"
#include "tests/server/attend_fixtures.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using testing::EncoderWithHeads;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::LoadTestModel;
using testing::MakeIdsRequest;
using testing::StatusIs;

class OutputChoiceTest : public ::testing::Test {
 protected:
  OutputChoiceTest() {
    ModelConfig config = EncoderWithHeads();
    config.heads.refused = {{OutputKind::kScores, "a tensor is missing"}};
    EXPECT_THAT(registry_.Add(LoadTestModel("encoder", config)), IsOk());
  }

  // A request for described ids [2, 5] of lengths 5 and 2.
  absl::StatusOr<CheckedRequest> Check(const std::function<void(v1::AttendRequest&)>& change,
                                       int64_t max_message_bytes = 1 << 20) {
    request_ = MakeIdsRequest("encoder", {2, 5});
    request_.clear_payloads();
    for (const int64_t len : {5, 2}) request_.add_seq_lens(len);
    change(request_);
    const absl::StatusOr<RequestFields> fields = DescribedFieldsOf(request_);
    if (!fields.ok()) return fields.status();
    return CheckRequest(*fields, {registry_, max_message_bytes});
  }
  void ExpectInvalid(const std::string& message, const std::function<void(v1::AttendRequest&)>& change) {
    EXPECT_THAT(Check(change).status(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(message)));
  }

  ModelRegistry registry_;
  v1::AttendRequest request_;
};

v1::OutputSpec& Add(v1::AttendRequest& request, v1::OutputKind kind) {
  v1::OutputSpec& spec = *request.add_outputs();
  spec.set_kind(kind);
  return spec;
}

TEST_F(OutputChoiceTest, ContradictionsNameTheField) {
  ExpectInvalid("outputs[0].kind: got 0, which is no OutputKind; wanted HIDDEN_STATES",
                [](v1::AttendRequest& request) { request.add_outputs(); });
  ExpectInvalid("outputs[1].kind: got POOLED, as outputs[0], wanted each kind once",
                [](v1::AttendRequest& request) {
                  for (int i = 0; i < 2; ++i) Add(request, v1::OUTPUT_KIND_POOLED);
                });
  ExpectInvalid(
      "outputs[0].kind: got SCORES, which the model has not: a tensor is missing; wanted one of "
      "HIDDEN_STATES, POOLED, TOKEN_SCORES",
      [](v1::AttendRequest& request) { Add(request, v1::OUTPUT_KIND_SCORES); });
  ExpectInvalid("pooling: got a mode beside outputs", [](v1::AttendRequest& request) {
    Add(request, v1::OUTPUT_KIND_POOLED);
    request.set_pooling(v1::POOLING_MODE_MODEL);
  });
  ExpectInvalid("dimensions: got 3 beside outputs", [](v1::AttendRequest& request) {
    Add(request, v1::OUTPUT_KIND_POOLED);
    request.set_dimensions(3);
  });
  ExpectInvalid("outputs[0].dimensions: got 6, wanted 0..5",
                [](v1::AttendRequest& request) { Add(request, v1::OUTPUT_KIND_POOLED).set_dimensions(6); });
  ExpectInvalid("outputs[0].dimensions: got one for SPARSE, wanted it for POOLED alone",
                [](v1::AttendRequest& request) { Add(request, v1::OUTPUT_KIND_SPARSE).set_dimensions(6); });
  ExpectInvalid("outputs[0].top_k: got one for POOLED",
                [](v1::AttendRequest& request) { Add(request, v1::OUTPUT_KIND_POOLED).set_top_k(6); });
  ExpectInvalid("outputs[0].dtype: got I8 for TOKEN_SCORES", [](v1::AttendRequest& request) {
    Add(request, v1::OUTPUT_KIND_TOKEN_SCORES).set_dtype(v1::DTYPE_I8);
  });
  ExpectInvalid("outputs[0].dtype: got DTYPE_I64, wanted DTYPE_F32", [](v1::AttendRequest& request) {
    Add(request, v1::OUTPUT_KIND_TOKEN_SCORES).set_dtype(v1::DTYPE_I64);
  });
  ExpectInvalid("output_dtype: got DTYPE_I8",
                [](v1::AttendRequest& request) { request.set_output_dtype(v1::DTYPE_I8); });
}

TEST_F(OutputChoiceTest, PositionsAreTokens) {
  const auto at = [](int64_t position) {
    return [position](v1::AttendRequest& request) {
      Add(request, v1::OUTPUT_KIND_TOKEN_LOGITS).add_positions(position);
    };
  };
  ExpectInvalid("outputs[0].positions: got none, wanted at least one",
                [](v1::AttendRequest& request) { Add(request, v1::OUTPUT_KIND_TOKEN_LOGITS); });
  ExpectInvalid("outputs[0].positions[0]: got 10, wanted 0..9", at(10));
  ExpectInvalid("outputs[0].positions[0]: got -1, wanted 0..9", at(-1));
  ExpectInvalid("outputs[0].positions[0]: got 7, which is padding: sequence 1 has 2 tokens from 5 on", at(7));
  const auto checked = Check(at(6));
  ASSERT_THAT(checked, IsOk());
  EXPECT_THAT(checked->input.outputs[0].rows, ::testing::ElementsAre(6));
}

TEST_F(OutputChoiceTest, WhatAReplyMayHoldAtMostIsCounted) {
  const auto all = [](v1::AttendRequest& request) {
    Add(request, v1::OUTPUT_KIND_SPARSE);
    Add(request, v1::OUTPUT_KIND_TOKEN_VECTORS).set_dtype(v1::DTYPE_I8);
    Add(request, v1::OUTPUT_KIND_POOLED).set_dtype(v1::DTYPE_BITS);
  };
  const auto checked = Check(all);
  ASSERT_THAT(checked, IsOk());
  // Sparse: 50 ids of each of 2 sequences, their weights and counts. Vectors: 5 tokens of 9 numbers, a scale
  // of each and counts. Bits: a byte for each sequence.
  EXPECT_EQ(checked->reply.payload_bytes, 2 * 50 * 8 + 2 * 8 + 5 * 9 + 5 * 4 + 2 * 8 + 2);
  EXPECT_THAT(Check(all, 4096 + 800).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("the reply would be too large: sparse at most")));
}

TEST_F(OutputChoiceTest, HeadsCostMemoryAndTime) {
  const auto plain = Check([](v1::AttendRequest&) {});
  const auto logits = Check([](v1::AttendRequest& request) { Add(request, v1::OUTPUT_KIND_SPARSE); });
  ASSERT_THAT(plain, IsOk());
  ASSERT_THAT(logits, IsOk());
  const double more = WorkCostOf(logits->input).projection_flops - WorkCostOf(plain->input).projection_flops;
  EXPECT_EQ(more, 7.0 * (2 * 16 * 16 + 2 * 16 * 50));
  EXPECT_GT(MemoryNeed(logits->input, 1), MemoryNeed(plain->input, 1));
}

}  // namespace
}  // namespace headlight
