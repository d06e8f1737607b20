// SPDX-License-Identifier: Apache-2.0
#include "core/base/catch_exceptions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <new>
#include <stdexcept>
#include <system_error>
#include <vector>

#include "core/runtime/compute_arena.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

template <typename Exception>
absl::Status Thrown(const Exception& exception) {
  return CatchExceptions("the work", [&]() -> absl::Status { throw exception; });
}

TEST(CatchExceptionsTest, WhatDoesNotThrowIsPassedOn) {
  EXPECT_THAT(CatchExceptions("the work", [] { return absl::OkStatus(); }), IsOk());
  EXPECT_EQ(CatchExceptions("the work", [] { return absl::NotFoundError("x"); }), absl::NotFoundError("x"));
}

TEST(CatchExceptionsTest, ShortMemoryAndThreadsAreResources) {
  const auto exhausted = absl::StatusCode::kResourceExhausted;
  EXPECT_THAT(Thrown(std::bad_alloc()), StatusIs(exhausted, HasSubstr("memory")));
  EXPECT_THAT(Thrown(std::length_error("vector::reserve")),
              StatusIs(exhausted, HasSubstr("the work: too large")));
  EXPECT_THAT(Thrown(std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again))),
              StatusIs(exhausted, HasSubstr("the work: ")));
  EXPECT_THAT(Thrown(std::system_error(std::make_error_code(std::errc::not_enough_memory))),
              StatusIs(exhausted, HasSubstr("the work: ")));
}

TEST(CatchExceptionsTest, EverythingElseIsInternal) {
  const auto internal = absl::StatusCode::kInternal;
  EXPECT_THAT(Thrown(std::runtime_error("odd")), StatusIs(internal, HasSubstr("the work failed: odd")));
  EXPECT_THAT(Thrown(std::system_error(std::make_error_code(std::errc::io_error))),
              StatusIs(internal, HasSubstr("the work failed")));
  EXPECT_THAT(Thrown(17), StatusIs(internal, HasSubstr("the work failed")));
}

// As they leave the bodies of an arena, whichever thread they are on.
TEST(CatchExceptionsTest, ExceptionsOfBodiesAreCaughtToo) {
  for (const int threads : {1, 3}) {
    ComputeArena arena(threads);
    const absl::Status status = CatchExceptions("the work", [&] {
      arena.Within([&] {
        arena.ForEach(10, [](int64_t item, int) {
          if (item == 7) std::vector<int>().reserve(static_cast<size_t>(-1));
        });
      });
      return absl::OkStatus();
    });
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("too large")));
  }
}

}  // namespace
}  // namespace headlight
