// SPDX-License-Identifier: Apache-2.0
//
// From the fields of an AttendRequest to those that every protocol shares; request/check_request_test.cc says
// what becomes of them.
#include "server/attend/attend_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/server/attend_fixtures.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::ElementsAre;
using testing::IsOk;
using testing::MakeIdsRequest;
using testing::MakeRequest;
using testing::Segmented;
using testing::StatusIs;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

TEST(AttendRequestTest, EveryOptionIsRead) {
  v1::AttendRequest request = MakeRequest("small", {6, 16});
  request.set_model_version("3");
  request.set_request_id("id");
  request.add_seq_lens(6);
  request.set_causal(true);
  request.set_window_left(0);
  request.mutable_weights()->set_mode(v1::WEIGHTS_MODE_TOP_K);
  request.mutable_weights()->set_top_k(4);
  request.mutable_weights()->add_heads(1);
  request.mutable_weights()->set_layer(0);
  request.set_pooling(v1::POOLING_MODE_CLS);
  request.set_dimensions(5);
  request.set_output_dtype(v1::DTYPE_BF16);
  request.set_timeout_us(250'000);
  request.set_priority(-3);
  ParsedAttend parsed;
  parsed.payloads.resize(1);
  request.clear_payloads();
  parsed.request = request;
  const auto fields = FieldsOf(parsed);
  ASSERT_THAT(fields, IsOk());
  EXPECT_EQ(fields->model, "small");
  EXPECT_EQ(fields->model_version, "3");
  EXPECT_EQ(fields->request_id, "id");
  EXPECT_THAT(fields->seq_lens, ElementsAre(6));
  EXPECT_TRUE(fields->causal);
  EXPECT_EQ(fields->window_left, 0);
  EXPECT_EQ(fields->window_right, std::nullopt);
  EXPECT_EQ(fields->weights.mode, WeightsSink::Mode::kTopK);
  EXPECT_EQ(fields->weights.top_k, 4);
  EXPECT_THAT(fields->weights.heads, ElementsAre(1));
  EXPECT_EQ(fields->weights.layer, 0);
  EXPECT_EQ(fields->pooling.mode, Pooling::kCls);
  EXPECT_FALSE(fields->pooling.of_model);
  EXPECT_EQ(fields->dimensions, 5);
  EXPECT_EQ(fields->output_dtype.dtype, DType::kBf16);
  EXPECT_EQ(fields->timeout_us, 250'000);
  EXPECT_EQ(fields->priority, -3);
}

TEST(AttendRequestTest, TensorsMeetTheirPayloadsInTheOrderOfTheProto) {
  v1::AttendRequest request = MakeIdsRequest("encoder", {2, 3});
  testing::AddIds({2, 3}, {0, 1, 0, 1, 0, 1}, *request.mutable_token_types(), request);
  const std::string bytes = request.SerializeAsString();
  const auto parsed = ParseAttend(Segmented(bytes, 100));
  ASSERT_THAT(parsed, IsOk());
  const auto fields = FieldsOf(*parsed);
  ASSERT_THAT(fields, IsOk());
  EXPECT_FALSE(fields->tensor(Role::kQuery).has_value());
  ASSERT_TRUE(fields->tensor(Role::kTokenIds).has_value());
  EXPECT_EQ(fields->tensor(Role::kTokenIds)->payload, &parsed->payloads[0]);
  ASSERT_TRUE(fields->tensor(Role::kTokenTypes).has_value());
  EXPECT_EQ(fields->tensor(Role::kTokenTypes)->payload, &parsed->payloads[1]);
}

TEST(AttendRequestTest, NumbersOfNoEnumerationAreRefused) {
  ParsedAttend parsed;
  parsed.request.mutable_weights()->set_mode(static_cast<v1::WeightsMode>(9));
  EXPECT_THAT(
      FieldsOf(parsed),
      StatusIs(
          kInvalid,
          "weights.mode: got 9, which is no WeightsMode; wanted NONE, FULL, MEAN, TOP_K, SUMMARY or GRID"));
  parsed.request.clear_weights();
  parsed.request.set_pooling(static_cast<v1::PoolingMode>(8));
  EXPECT_THAT(FieldsOf(parsed),
              StatusIs(kInvalid,
                       "pooling: got 8, which is no PoolingMode; wanted UNSPECIFIED, MODEL, CLS, MEAN, MAX, "
                       "MEAN_SQRT_LEN, WEIGHTED_MEAN or LAST"));
}

TEST(AttendRequestTest, ADescribedRequestHasShapesAndNoPayloads) {
  v1::AttendRequest request = MakeRequest("small", {6, 16});
  EXPECT_THAT(DescribedFieldsOf(request),
              StatusIs(kInvalid, "request.payloads: got 1, wanted none: shapes are enough"));
  request.clear_payloads();
  const auto fields = DescribedFieldsOf(request);
  ASSERT_THAT(fields, IsOk());
  ASSERT_TRUE(fields->tensor(Role::kQuery).has_value());
  EXPECT_THAT(fields->tensor(Role::kQuery)->shape, ElementsAre(6, 16));
  EXPECT_EQ(fields->tensor(Role::kQuery)->payload, nullptr);
}

}  // namespace
}  // namespace headlight
