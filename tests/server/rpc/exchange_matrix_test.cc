// SPDX-License-Identifier: Apache-2.0
//
// Every way in which a call can end, for a unary call and for a stream: the request is told of exactly once,
// and nothing that it held is left behind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include "tests/server/attend_fixtures.h"
#include "tests/server/serving_test.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using testing::MakeRequest;
using testing::MakeTestModel;

enum class Ending { kAnswered, kCancelled, kDeadline, kBadInput, kDrained, kHotSwap, kNoMemory, kFailed };

std::string NameOf(const ::testing::TestParamInfo<std::tuple<bool, Ending>>& info) {
  constexpr const char* kNames[] = {"Answered", "Cancelled", "PastItsDeadline", "BadInput",
                                    "Drained",  "HotSwap",   "NoMemory",        "Failed"};
  return std::string(std::get<0>(info.param) ? "Stream" : "Unary") +
         kNames[static_cast<int>(std::get<1>(info.param))];
}

class ExchangeMatrixTest : public testing::ServingTest,
                           public ::testing::WithParamInterface<std::tuple<bool, Ending>> {
 protected:
  ExchangeMatrixTest() : ServingTest(/*queue_max_requests=*/100) {}

  static bool is_stream() { return std::get<0>(GetParam()); }
  static Ending ending() { return std::get<1>(GetParam()); }

  // What the caller is told: the status of the call, or the code in the stream's reply if it brought one.
  struct Told {
    grpc::StatusCode code;
    bool answered;
  };

  // Runs one request to its end in the background.
  std::future<Told> Begin(grpc::ClientContext& context, const v1::AttendRequest& request) {
    return std::async(std::launch::async, [this, &context, request] {
      v1::AttendResponse response;
      if (!is_stream()) {
        const grpc::Status status = stub_->Attend(&context, request, &response);
        return Told{status.error_code(), status.ok()};
      }
      const auto stream = stub_->AttendStream(&context);
      stream->Write(request);
      const bool replied = stream->Read(&response);
      const auto code = static_cast<grpc::StatusCode>(response.error().code());
      stream->WritesDone();
      const grpc::Status status = stream->Finish();
      return replied ? Told{code, code == grpc::StatusCode::OK} : Told{status.error_code(), false};
    });
  }
};

TEST_P(ExchangeMatrixTest, IsToldOnceAndLeavesNothing) {
  grpc::ClientContext context;
  const auto patience = ending() == Ending::kDeadline ? std::chrono::milliseconds(1000)
                                                      : std::chrono::milliseconds(testing::kServingPatience);
  context.set_deadline(std::chrono::system_clock::now() + patience);
  const int64_t width = ending() == Ending::kBadInput ? 15 : 16;
  const int64_t tokens = ending() == Ending::kNoMemory ? 1000 : 2;
  const v1::AttendRequest request = MakeRequest("small", {1, tokens, width});
  std::optional<Lease> others;
  if (ending() == Ending::kNoMemory) {  // what is left is enough to read the message
    others = memory_.TryReserve(MemoryKind::kReply, memory_.limit_of_requests() - (int64_t{80} << 10));
    ASSERT_TRUE(others.has_value());
  }
  if (ending() == Ending::kFailed) executor_.set_error(absl::InternalError("a broken invariant"));
  const bool held = ending() == Ending::kCancelled || ending() == Ending::kDeadline ||
                    ending() == Ending::kDrained || ending() == Ending::kHotSwap;
  std::optional<std::pair<std::future<void>, std::promise<void>>> hold;
  if (held) hold = executor_.HoldNextBatch();

  std::future<Told> told = Begin(context, request);
  if (held) WaitForCalls(1);
  if (ending() == Ending::kCancelled) context.TryCancel();
  if (ending() == Ending::kDeadline) told.wait();
  if (ending() == Ending::kDrained) ledger().EndAll();
  if (ending() == Ending::kHotSwap)
    registry_.Replace(MakeTestModel("small", testing::SmallConfig(), "2").loaded);
  if (held) hold->second.set_value();

  const Told got = told.get();
  switch (ending()) {
    case Ending::kAnswered:
    case Ending::kDrained:  // what was read is answered
    case Ending::kHotSwap:
      EXPECT_EQ(got.code, grpc::StatusCode::OK);
      break;
    case Ending::kCancelled:
      EXPECT_EQ(got.code, grpc::StatusCode::CANCELLED);
      break;
    case Ending::kDeadline:
      EXPECT_EQ(got.code, grpc::StatusCode::DEADLINE_EXCEEDED);
      break;
    case Ending::kBadInput:
      EXPECT_EQ(got.code, grpc::StatusCode::INVALID_ARGUMENT);
      break;
    case Ending::kNoMemory:
      EXPECT_EQ(got.code, grpc::StatusCode::RESOURCE_EXHAUSTED);
      break;
    case Ending::kFailed:
      EXPECT_EQ(got.code, grpc::StatusCode::INTERNAL);
      break;
  }
  others.reset();
  EXPECT_TRUE(ledger().WaitUntilIdle(testing::kServingPatience));
  scheduler_.Drain();
  EXPECT_EQ(told_.records().size(), 1u);
  EXPECT_EQ(scheduler_.num_unfinished(), 0);
  WaitUntil([this] { return memory_.held() == 0; });  // what was just asking for memory as it ended has some
}

INSTANTIATE_TEST_SUITE_P(Endings, ExchangeMatrixTest,
                         ::testing::Combine(::testing::Bool(),
                                            ::testing::Values(Ending::kAnswered, Ending::kCancelled,
                                                              Ending::kDeadline, Ending::kBadInput,
                                                              Ending::kDrained, Ending::kHotSwap,
                                                              Ending::kNoMemory, Ending::kFailed)),
                         NameOf);

}  // namespace
}  // namespace headlight
