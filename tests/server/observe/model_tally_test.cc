// SPDX-License-Identifier: Apache-2.0
#include "server/observe/model_tally.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/server/attend_fixtures.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using testing::IsOk;
using testing::MakeTestModel;

// Of one of `batch_requests` requests of 3 sequences each in a batch.
RequestRecord Answered(const std::string& model, const std::string& version, int64_t batch_requests) {
  RequestRecord record;
  record.model = model;
  record.version = version;
  record.sequences = 3;
  record.queue_us = 10;
  record.pack_us = 20;
  record.compute_us = 300;
  record.unpack_us = 4;
  record.encode_us = 1;
  record.total_us = 400;
  record.batch_requests = batch_requests;
  record.batch_sequences = 3 * batch_requests;
  return record;
}

RequestRecord Failed(const std::string& model, const std::string& version, absl::StatusCode code) {
  RequestRecord record;
  record.model = model;
  record.version = version;
  record.code = code;
  record.total_us = 7;
  return record;
}

TEST(ModelTallyTest, SumsUpWhatWasAnswered) {
  ModelRegistry registry;
  ASSERT_THAT(registry.Add(MakeTestModel("small").loaded), IsOk());
  ModelTallies tallies(registry);
  EXPECT_EQ(tallies.Of("small", "1").last, std::chrono::system_clock::time_point());
  tallies.RequestEnded(Answered("small", "1", 1));
  tallies.RequestEnded(Answered("small", "1", 2));
  tallies.RequestEnded(Answered("small", "1", 2));
  const ModelTally tally = tallies.Of("small", "1");
  EXPECT_GT(tally.last, std::chrono::system_clock::time_point());
  EXPECT_EQ(tally.succeeded, 3);
  EXPECT_EQ(tally.succeeded_us, 1200);
  EXPECT_EQ(tally.failed, 0);
  EXPECT_EQ(tally.sequences, 9);
  EXPECT_EQ(tally.queue_us, 30);
  EXPECT_EQ(tally.pack_us, 60);
  EXPECT_EQ(tally.compute_us, 900);
  EXPECT_EQ(tally.unpack_us, 15);
  EXPECT_DOUBLE_EQ(tally.batches, 2);  // one with one request, one with two
  ASSERT_EQ(tally.by_size.size(), 2u);
  EXPECT_DOUBLE_EQ(tally.by_size.at(3).count, 1);
  EXPECT_DOUBLE_EQ(tally.by_size.at(6).count, 1);
  EXPECT_DOUBLE_EQ(tally.by_size.at(6).compute_us, 300);
}

TEST(ModelTallyTest, CountsFailuresOfModelsThereAre) {
  ModelRegistry registry;
  ASSERT_THAT(registry.Add(MakeTestModel("small").loaded), IsOk());
  ASSERT_THAT(registry.Add(MakeTestModel("small", testing::SmallConfig(), "2").loaded), IsOk());
  ModelTallies tallies(registry);
  tallies.RequestEnded(Failed("small", "1", absl::StatusCode::kResourceExhausted));
  tallies.RequestEnded(Failed("small", "2", absl::StatusCode::kNotFound));  // something else of the request
  // As to who may not see the model, whatever else is wrong.
  tallies.RequestEnded(Failed("small", "", absl::StatusCode::kNotFound));
  tallies.RequestEnded(Failed("small", "", absl::StatusCode::kInvalidArgument));
  tallies.RequestEnded(Failed("", "", absl::StatusCode::kUnauthenticated));
  EXPECT_EQ(tallies.Of("small", "1").failed, 1);
  EXPECT_EQ(tallies.Of("small", "1").failed_us, 7);
  EXPECT_EQ(tallies.Of("small", "2").failed, 1);
  EXPECT_EQ(tallies.Of("small", "2").succeeded, 0);
}

TEST(ModelTallyTest, CallersCannotMakeItGrow) {
  ModelRegistry registry;
  ASSERT_THAT(registry.Add(MakeTestModel("small").loaded), IsOk());
  ModelTallies tallies(registry);
  for (int i = 0; i < 1000; ++i) {
    tallies.RequestEnded(Failed("absent" + std::to_string(i), "", absl::StatusCode::kInvalidArgument));
    RequestRecord record = Answered("small", "1", 1);
    record.batch_sequences = 1 + i;
    tallies.RequestEnded(record);
  }
  EXPECT_EQ(tallies.Of("absent0", "").failed, 0);
  EXPECT_EQ(tallies.Of("small", "1").succeeded, 1000);
  EXPECT_EQ(tallies.Of("small", "1").by_size.size(), ModelTallies::kMostSizes);
}

TEST(ModelTallyTest, WhatHasLeftIsForgottenWhenSomethingComes) {
  ModelRegistry registry;
  ASSERT_THAT(registry.Add(MakeTestModel("small").loaded), IsOk());
  ModelTallies tallies(registry);
  tallies.RequestEnded(Answered("small", "1", 1));
  registry.Replace(MakeTestModel("small", testing::SmallConfig(), "2").loaded);
  tallies.RequestEnded(Answered("small", "1", 1));  // was under way
  EXPECT_EQ(tallies.Of("small", "1").succeeded, 2);
  tallies.RequestEnded(Answered("small", "2", 1));
  EXPECT_EQ(tallies.Of("small", "1").succeeded, 0);
  EXPECT_EQ(tallies.Of("small", "2").succeeded, 1);
  tallies.RequestEnded(Answered("small", "1", 1));
  EXPECT_EQ(tallies.Of("small", "1").succeeded, 0);
}

}  // namespace
}  // namespace headlight
