// SPDX-License-Identifier: Apache-2.0
#include "server/observe/request_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

namespace headlight {
namespace {

RequestRecord Answered() {
  RequestRecord record;
  record.method = "Attend";
  record.request_id = "a b=\xff\n";
  record.model = "bert";
  record.version = "3";
  record.tokens = 16;
  record.queue_us = 5;
  record.compute_us = 70;
  return record;
}

RequestRecord Refused() {
  RequestRecord record;
  record.method = "AttendStream";
  record.code = absl::StatusCode::kResourceExhausted;
  record.reason = "queue_full";
  record.message = "the queue is full";
  return record;
}

class Count : public RequestObserver {
 public:
  void RequestEnded(const RequestRecord& record) override { codes.push_back(record.code); }
  std::vector<absl::StatusCode> codes;
};

// What is logged of `record` where the default logger has this level.
std::string LogOf(const RequestRecord& record, RequestLogForm form, spdlog::level::level_enum level) {
  std::ostringstream out;
  const auto before = spdlog::default_logger();
  auto logger =
      std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::ostream_sink_mt>(out, true));
  logger->set_pattern("%n %l %v");
  logger->set_level(level);
  spdlog::set_default_logger(logger);
  RequestLog(form, {}).Emit(record);
  spdlog::set_default_logger(before);
  return out.str();
}

TEST(RequestLogTest, TextHasAllThatIsKnownAndQuotesWhatCallersChose) {
  EXPECT_EQ(RequestText(Answered()),
            "request method=Attend id=\"a b=\\xff\\n\" model=bert version=3 code=OK tokens=16 queue_us=5 "
            "compute_us=70");
  EXPECT_EQ(RequestText(Refused()),
            "request method=AttendStream code=RESOURCE_EXHAUSTED reason=queue_full "
            "message=\"the queue is full\"");
}

TEST(RequestLogTest, JsonHasTheSameFields) {
  const auto object = nlohmann::json::parse(RequestJson(Answered()));
  EXPECT_EQ(object["method"], "Attend");
  EXPECT_EQ(object["id"], "a b=\xef\xbf\xbd\n");
  EXPECT_EQ(object["code"], "OK");
  EXPECT_EQ(object["tokens"], 16);
  EXPECT_FALSE(object.contains("reason"));
}

TEST(RequestLogTest, RequestsAreToldAtDebugAndOurFaultsAlways) {
  EXPECT_EQ(LogOf(Answered(), RequestLogForm::kText, spdlog::level::info), "");
  EXPECT_THAT(LogOf(Answered(), RequestLogForm::kText, spdlog::level::debug),
              ::testing::StartsWith("headlight.request debug request method=Attend"));
  RequestRecord broken = Refused();
  broken.code = absl::StatusCode::kInternal;
  EXPECT_THAT(
      LogOf(broken, RequestLogForm::kJson, spdlog::level::info),
      ::testing::StartsWith("headlight.request error {\"method\":\"AttendStream\",\"code\":\"INTERNAL\""));
}

TEST(RequestLogTest, EveryObserverHearsOfARequestOnce) {
  Count first, second;
  const RequestLog log(RequestLogForm::kText, {&first, &second});
  log.Emit(Answered());
  log.Emit(Refused());
  EXPECT_THAT(first.codes,
              ::testing::ElementsAre(absl::StatusCode::kOk, absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(second.codes, first.codes);
}

}  // namespace
}  // namespace headlight
