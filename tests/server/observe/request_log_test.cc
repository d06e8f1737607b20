// SPDX-License-Identifier: Apache-2.0
#include "server/observe/request_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdint>
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

// The default logger of this process, written to a string for as long as it lives.
class CapturedLog {
 public:
  explicit CapturedLog(spdlog::level::level_enum level) : before_(spdlog::default_logger()) {
    auto logger = std::make_shared<spdlog::logger>(
        "test", std::make_shared<spdlog::sinks::ostream_sink_mt>(out_, true));
    logger->set_pattern("%n %l %v");
    logger->set_level(level);
    spdlog::set_default_logger(logger);
  }
  ~CapturedLog() { spdlog::set_default_logger(before_); }

  std::string text() const { return out_.str(); }
  int64_t num_lines() const {
    const std::string all = text();
    return std::count(all.begin(), all.end(), '\n');
  }

 private:
  const std::shared_ptr<spdlog::logger> before_;
  std::ostringstream out_;
};

// What is logged of `record` where the default logger has this level.
std::string LogOf(const RequestRecord& record, RequestLogForm form, spdlog::level::level_enum level) {
  const CapturedLog log(level);
  RequestLog({form}, {}).Emit(record);
  return log.text();
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

RequestRecord Broken() {
  RequestRecord broken = Refused();
  broken.code = absl::StatusCode::kInternal;
  return broken;
}

TEST(RequestLogTest, RequestsAreToldAtInfoAndOurFaultsAtError) {
  EXPECT_EQ(LogOf(Answered(), RequestLogForm::kText, spdlog::level::warn), "");
  EXPECT_THAT(LogOf(Answered(), RequestLogForm::kText, spdlog::level::info),
              ::testing::StartsWith("headlight.request info request method=Attend"));
  EXPECT_THAT(
      LogOf(Broken(), RequestLogForm::kJson, spdlog::level::info),
      ::testing::StartsWith("headlight.request error {\"method\":\"AttendStream\",\"code\":\"INTERNAL\""));
}

TEST(RequestLogTest, BeyondTheLinesOfASecondOnlyOurFaultsAreTold) {
  const CapturedLog log(spdlog::level::info);
  RequestLog requests({RequestLogForm::kText, /*lines_per_s=*/3}, {});
  for (int i = 0; i < 1000; ++i) {
    requests.Emit(Answered());
    requests.Emit(Refused());
  }
  const int64_t sampled = log.num_lines();
  EXPECT_GE(sampled, 6);
  EXPECT_LE(sampled, 600) << "of 2,000";  // a slow machine may take some seconds over it
  for (int i = 0; i < 50; ++i) requests.Emit(Broken());
  EXPECT_EQ(log.num_lines(), sampled + 50);
  requests.TellLeftOut();
  EXPECT_EQ(log.num_lines(), sampled + 51);
  EXPECT_THAT(log.text(), ::testing::HasSubstr("lines left out of the log: "));
  requests.TellLeftOut();
  EXPECT_EQ(log.num_lines(), sampled + 51) << "they are told once";
}

TEST(RequestLogTest, AtDebugEveryRequestIsToldAlsoOnceTheLevelChanges) {
  const CapturedLog log(spdlog::level::info);
  RequestLog requests({RequestLogForm::kText, /*lines_per_s=*/0}, {});
  for (int i = 0; i < 10; ++i) requests.Emit(Answered());
  requests.TellLeftOut();
  EXPECT_EQ(log.text(), "");
  spdlog::default_logger()->set_level(spdlog::level::debug);
  for (int i = 0; i < 10; ++i) requests.Emit(Answered());
  EXPECT_EQ(log.num_lines(), 10);
}

TEST(RequestLogTest, WhatCallersChooseIsCutOff) {
  RequestRecord record = Refused();
  record.request_id = std::string(100'000, 'x');
  record.message = std::string(100'000, '\xff');
  EXPECT_LT(RequestText(record).size(), 3000u);
  EXPECT_LT(RequestJson(record).size(), 3000u);
}

TEST(RequestLogTest, EveryObserverHearsOfARequestOnce) {
  Count first, second;
  RequestLog log({}, {&first, &second});
  log.Emit(Answered());
  log.Emit(Refused());
  EXPECT_THAT(first.codes,
              ::testing::ElementsAre(absl::StatusCode::kOk, absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(second.codes, first.codes);
}

}  // namespace
}  // namespace headlight
