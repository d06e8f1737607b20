// SPDX-License-Identifier: Apache-2.0
#include "server/observe/span_export.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

TEST(SpanExportTest, AnEndpointIsTheUrlOfACollector) {
  for (const std::string good :
       {"", "http://collector:4318", "https://[::1]:4318/", "http://collector/base/v1/traces"}) {
    EXPECT_THAT(CheckOtlpEndpoint(good), IsOk()) << good;
  }
  for (const std::string bad :
       {"collector:4318", "grpc://collector:4317", "http://", "http://:4318", "http:///v1", "http://a b",
        "http://a\n", "http://user:secret@collector:4318"}) {
    EXPECT_THAT(CheckOtlpEndpoint(bad),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("--otlp-endpoint: got"), HasSubstr("wanted http://HOST:PORT"))))
        << bad;
  }
}

TEST(SpanExportTest, WithoutAnEndpointThereIsNone) { EXPECT_EQ(StartSpanExport("", {}), nullptr); }

}  // namespace
}  // namespace headlight
