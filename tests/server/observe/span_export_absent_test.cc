// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/observe/span_export.h"
#include "server/program/options.h"
#include "server/server.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

TEST(SpanExportAbsentTest, WithoutACollectorNothingIsMissing) {
  EXPECT_THAT(CheckOtlpEndpoint(""), IsOk());
  EXPECT_EQ(StartSpanExport("", {}), nullptr);
}

TEST(SpanExportAbsentTest, ACollectorIsRefusedWithTheWayToGetOne) {
  ServerOptions options;
  options.listen = "127.0.0.1:0";
  options.admin_listen = "";
  options.otlp_endpoint = "http://127.0.0.1:4318";
  EXPECT_THAT(HeadlightServer::Start(options).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("--otlp-endpoint: got \"http://127.0.0.1:4318\", wanted none"),
                             HasSubstr("-DHEADLIGHT_OPENTELEMETRY=ON"))));
}

}  // namespace
}  // namespace headlight
