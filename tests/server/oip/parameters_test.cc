// SPDX-License-Identifier: Apache-2.0
#include "server/oip/parameters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

constexpr auto kInvalidParameter = absl::StatusCode::kInvalidArgument;

inference::InferParameter Bool(bool value) {
  inference::InferParameter parameter;
  parameter.set_bool_param(value);
  return parameter;
}
inference::InferParameter Int(int64_t value) {
  inference::InferParameter parameter;
  parameter.set_int64_param(value);
  return parameter;
}
inference::InferParameter Unsigned(uint64_t value) {
  inference::InferParameter parameter;
  parameter.set_uint64_param(value);
  return parameter;
}
inference::InferParameter Text(const std::string& value) {
  inference::InferParameter parameter;
  parameter.set_string_param(value);
  return parameter;
}
inference::InferParameter Double(double value) {
  inference::InferParameter parameter;
  parameter.set_double_param(value);
  return parameter;
}

absl::StatusOr<RequestParameters> ReadOne(const std::string& name, const inference::InferParameter& value) {
  ParameterMap map;
  map[name] = value;
  RequestParameters parameters;
  const absl::Status status = ReadParameters(map, parameters);
  if (!status.ok()) return status;
  return parameters;
}

absl::StatusOr<TensorParameters> ReadTensor(bool output, const ParameterMap& map) {
  TensorParameters parameters;
  const absl::Status status = output ? ReadOutputParameters("outputs[0]", map, parameters)
                                     : ReadInputParameters("inputs[3]", map, parameters);
  if (!status.ok()) return status;
  return parameters;
}

TEST(OipParametersTest, EveryOptionIsRead) {
  EXPECT_EQ(ReadOne("timeout", Int(250))->timeout_us, 250);
  EXPECT_EQ(ReadOne("timeout", Unsigned(250))->timeout_us, 250);
  EXPECT_TRUE(ReadOne("causal", Bool(true))->causal);
  EXPECT_EQ(ReadOne("window_left", Int(0))->window_left, 0);
  EXPECT_EQ(ReadOne("window_right", Int(3))->window_right, 3);
  EXPECT_EQ(ReadOne("weights", Text("top_k"))->weights, WeightsSink::Mode::kTopK);
  EXPECT_EQ(ReadOne("weights_top_k", Int(4))->weights_top_k, 4);
  EXPECT_THAT(ReadOne("heads", Text("0,3,5"))->heads, ElementsAre(0, 3, 5));
  EXPECT_THAT(ReadOne("heads", Int(2))->heads, ElementsAre(2));
  EXPECT_EQ(ReadOne("layer", Int(1))->layer, 1);
  EXPECT_THAT(ReadOne("layers", Text("2,0"))->layers, ElementsAre(2, 0));
  EXPECT_EQ(ReadOne("weights", Text("grid"))->weights, WeightsSink::Mode::kGrid);
  EXPECT_EQ(ReadOne("grid_rows", Int(3))->grid_rows, 3);
  EXPECT_EQ(ReadOne("grid_cols", Int(4))->grid_cols, 4);
  EXPECT_EQ(ReadOne("query_begin", Int(1))->query_begin, 1);
  EXPECT_EQ(ReadOne("query_end", Int(2))->query_end, 2);
  EXPECT_TRUE(ReadOne("pooling", Text("model"))->pooling.of_model);
  EXPECT_EQ(ReadOne("pooling", Text("weighted_mean"))->pooling.mode, Pooling::kWeightedMean);
  EXPECT_EQ(ReadOne("pooling", Text("last"))->pooling.mode, Pooling::kLast);
  EXPECT_FALSE(ReadOne("pooling", Text("none"))->pooling.mode);
  EXPECT_EQ(ReadOne("dimensions", Int(64))->dimensions, 64);
  EXPECT_EQ(ReadOne("output_dtype", Text("BF16"))->output_dtype.dtype, DType::kBf16);
  EXPECT_EQ(ReadOne("vectors_dtype", Text("INT8"))->vectors_encoding, OutputEncoding::kInt8);
  EXPECT_EQ(ReadOne("vectors_dtype", Text("UINT8"))->vectors_encoding, OutputEncoding::kBits);
  EXPECT_EQ(ReadOne("vectors_dtype", Text("FP16"))->vectors_dtype->dtype, DType::kF16);
  EXPECT_EQ(ReadOne("sparse_top_k", Int(7))->sparse_top_k, 7);
}

TEST(OipParametersTest, PrioritiesAreLevelsOfWhichTheFirstGoesFirst) {
  EXPECT_EQ(ReadOne("priority", Unsigned(0))->priority, 0);
  EXPECT_EQ(ReadOne("priority", Unsigned(1))->priority, 10);
  EXPECT_EQ(ReadOne("priority", Unsigned(11))->priority, 0);
  EXPECT_EQ(ReadOne("priority", Int(21))->priority, -10);
  const std::string wanted = ", wanted 1 (first) to 21, or 0 for the usual 11";
  EXPECT_THAT(ReadOne("priority", Int(22)), StatusIs(kInvalidParameter, "priority: got 22" + wanted));
  EXPECT_THAT(ReadOne("priority", Int(-1)), StatusIs(kInvalidParameter, "priority: got -1" + wanted));
}

TEST(OipParametersTest, WhatClientsSendByThemselvesIsTaken) {
  EXPECT_THAT(ReadOne("triton_enable_empty_final_response", Bool(false)), IsOk());
  EXPECT_THAT(ReadOne("triton_enable_empty_final_response", Bool(true)), IsOk());
  EXPECT_THAT(ReadOne("binary_data_output", Bool(true)), IsOk());
  EXPECT_THAT(ReadOne("sequence_id", Unsigned(0)), IsOk());
  EXPECT_THAT(ReadOne("sequence_id", Text("")), IsOk());
  EXPECT_THAT(ReadOne("sequence_start", Bool(false)), IsOk());
  ParameterMap map;
  map["binary_data"] = Bool(true);
  map["binary_data_size"] = Int(64);
  EXPECT_THAT(ReadTensor(false, map), IsOk());
  EXPECT_THAT(ReadTensor(true, map), IsOk());
}

TEST(OipParametersTest, SequencesAreRefused) {
  for (const auto& [name, value] :
       {std::pair("sequence_id", Int(7)), std::pair("sequence_id", Text("a")),
        std::pair("sequence_start", Bool(true)), std::pair("sequence_end", Bool(true))}) {
    EXPECT_THAT(
        ReadOne(name, value),
        StatusIs(kInvalidParameter, std::string(name) + ": got one, wanted none: this server keeps nothing "
                                                        "between requests"));
  }
}

TEST(OipParametersTest, AnUnknownOneIsRefusedWithTheNearOne) {
  EXPECT_THAT(
      ReadOne("casual", Bool(true)),
      StatusIs(kInvalidParameter,
               HasSubstr("parameters: got \"casual\", which is none of them; did you mean causal? Wanted")));
  EXPECT_THAT(
      ReadOne("max_tokens", Int(1)),
      StatusIs(kInvalidParameter, HasSubstr("got \"max_tokens\", which is none of them; wanted one of")));
  EXPECT_THAT(ReadOne("", Int(1)), StatusIs(kInvalidParameter, HasSubstr("got \"\", which is none of them")));
  EXPECT_THAT(ReadOne(std::string(100'000, 'a'), Int(1)), StatusIs(kInvalidParameter, HasSubstr("...\"")));
  ParameterMap map;
  map["shared_memory_ofset"] = Int(0);
  EXPECT_THAT(ReadTensor(false, map),
              StatusIs(kInvalidParameter,
                       HasSubstr("inputs[3].parameters: got \"shared_memory_ofset\", which is none "
                                 "of them; did you mean shared_memory_offset?")));
  map.clear();
  map["classification"] = Int(3);  // of outputs alone
  EXPECT_THAT(ReadTensor(false, map), StatusIs(kInvalidParameter, HasSubstr("got \"classification\"")));
}

TEST(OipParametersTest, AWrongKindIsRefusedByName) {
  EXPECT_THAT(ReadOne("causal", Int(1)), StatusIs(kInvalidParameter, "causal: got an int64, wanted a bool"));
  EXPECT_THAT(ReadOne("causal", Text("true")),
              StatusIs(kInvalidParameter, "causal: got a string, wanted a bool"));
  EXPECT_THAT(ReadOne("causal", {}), StatusIs(kInvalidParameter, "causal: got no value, wanted a bool"));
  EXPECT_THAT(ReadOne("timeout", Double(1.5)),
              StatusIs(kInvalidParameter, "timeout: got a double, wanted an int64"));
  EXPECT_THAT(ReadOne("timeout", Text("5")),
              StatusIs(kInvalidParameter, "timeout: got a string, wanted an int64"));
  EXPECT_THAT(ReadOne("timeout", Unsigned(std::numeric_limits<uint64_t>::max())),
              StatusIs(kInvalidParameter, "timeout: got 18446744073709551615, wanted less than 2^63"));
  EXPECT_THAT(ReadOne("pooling", Bool(true)),
              StatusIs(kInvalidParameter, "pooling: got a bool, wanted a string"));
  EXPECT_THAT(ReadOne("heads", Bool(true)),
              StatusIs(kInvalidParameter, "heads: got a bool, wanted numbers in a string, such as \"0,3\""));
  EXPECT_THAT(ReadOne("binary_data", Int(1)),
              StatusIs(kInvalidParameter, "binary_data: got an int64, wanted a bool"));
}

TEST(OipParametersTest, AWrongWordIsRefusedWithTheNearOne) {
  EXPECT_THAT(ReadOne("pooling", Text("maen")),
              StatusIs(kInvalidParameter,
                       "pooling: got \"maen\"; did you mean mean? Wanted one of none, model, cls, "
                       "mean, max, mean_sqrt_len, weighted_mean, last"));
  EXPECT_THAT(
      ReadOne("weights", Text("all")),
      StatusIs(kInvalidParameter, "weights: got \"all\"; wanted one of none, full, mean, top_k, summary, grid"));
  for (const char* const text : {"", "1,", "a", "1 ,x", "99999999999999999999"}) {
    EXPECT_THAT(ReadOne("heads", Text(text)),
                StatusIs(kInvalidParameter, HasSubstr("wanted numbers, such as \"0,3\"")))
        << text;
  }
}

TEST(OipParametersTest, ATensorsPlaceIsWhole) {
  ParameterMap map;
  map["shared_memory_region"] = Text("r");
  EXPECT_THAT(ReadTensor(false, map),
              StatusIs(kInvalidParameter,
                       "inputs[3].shared_memory_byte_size: got none beside shared_memory_region, "
                       "wanted one"));
  map["shared_memory_byte_size"] = Int(64);
  auto read = ReadTensor(false, map);
  ASSERT_THAT(read, IsOk());
  EXPECT_EQ(read->place->region, "r");
  EXPECT_EQ(read->place->byte_size, 64u);
  EXPECT_EQ(read->place->offset, 0u);
  map["shared_memory_offset"] = Int(-1);
  EXPECT_THAT(ReadTensor(true, map),
              StatusIs(kInvalidParameter, "outputs[0].shared_memory_offset: got -1, wanted at least 0"));
  map["shared_memory_offset"] = Int(32);
  EXPECT_EQ(ReadTensor(true, map)->place->offset, 32u);
  map.erase("shared_memory_region");
  EXPECT_THAT(ReadTensor(true, map),
              StatusIs(kInvalidParameter, HasSubstr("outputs[0].shared_memory_region: got none beside")));
}

TEST(OipParametersTest, ClassificationIsANumberOfClasses) {
  ParameterMap map;
  map["classification"] = Int(3);
  EXPECT_EQ(ReadTensor(true, map)->classes, 3);
  map["classification"] = Int(-3);
  EXPECT_THAT(ReadTensor(true, map),
              StatusIs(kInvalidParameter, "outputs[0].classification: got -3, wanted at least 0"));
}

}  // namespace
}  // namespace headlight
