// SPDX-License-Identifier: Apache-2.0
#include "server/observe/request_span.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <opentelemetry/sdk/trace/span_data.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <string>

namespace headlight {
namespace {

using opentelemetry::sdk::trace::SpanData;
using opentelemetry::trace::StatusCode;
using std::chrono::microseconds;
using ::testing::ElementsAre;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

constexpr char kTraceparent[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const auto kEnd = std::chrono::system_clock::time_point(std::chrono::seconds(1'800'000'000));

RequestRecord Answered() {
  RequestRecord record;
  record.service = "headlight.v1.AttentionService";
  record.method = "Attend";
  record.tenant = "search";
  record.request_id = "r1";
  record.model = "bert";
  record.version = "3";
  record.tokens = 16;
  record.queue_us = 50;
  record.pack_us = 10;
  record.compute_us = 700;
  record.total_us = 1000;
  record.batch_requests = 2;
  record.traceparent = kTraceparent;
  record.parent_span = "b7ad6b7169203331";
  return record;
}

SpanData SpanOf(const RequestRecord& record) {
  SpanData span;
  FillSpan(record, *ParseTraceparent(kTraceparent), kEnd, span);
  return span;
}

template <typename Id>
std::string Hex(const Id& id) {
  std::array<char, 2 * Id::kSize> text = {};
  id.ToLowerBase16(opentelemetry::nostd::span<char, 2 * Id::kSize>(text));
  return {text.data(), text.size()};
}

// Its attributes, all as text.
std::map<std::string, std::string> AttributesOf(const SpanData& span) {
  std::map<std::string, std::string> texts;
  for (const auto& [name, value] : span.GetAttributes()) {
    if (opentelemetry::nostd::holds_alternative<std::string>(value)) {
      texts[name] = opentelemetry::nostd::get<std::string>(value);
    } else {
      texts[name] = std::to_string(opentelemetry::nostd::get<int64_t>(value));
    }
  }
  return texts;
}

TEST(RequestSpanTest, ItIsTheSpanThatTheAccessLogNames) {
  const SpanData span = SpanOf(Answered());
  EXPECT_EQ(Hex(span.GetTraceId()), "4bf92f3577b34da6a3ce929d0e0e4736");
  EXPECT_EQ(Hex(span.GetSpanId()), "00f067aa0ba902b7");
  EXPECT_EQ(Hex(span.GetParentSpanId()), "b7ad6b7169203331");
  EXPECT_EQ(span.GetFlags().flags(), 1);
  EXPECT_EQ(std::string(span.GetName()), "headlight.v1.AttentionService/Attend");
  EXPECT_EQ(span.GetSpanKind(), opentelemetry::trace::SpanKind::kServer);
}

TEST(RequestSpanTest, ItLastsFromArrivalToReplyAndTellsOfItsBatch) {
  const SpanData span = SpanOf(Answered());
  const auto start = kEnd - microseconds(1000);
  EXPECT_EQ(span.GetStartTime(), opentelemetry::common::SystemTimestamp(start));
  EXPECT_EQ(span.GetDuration(), microseconds(1000));
  std::map<std::string, int64_t> events_us;
  for (const auto& event : span.GetEvents()) {
    const auto since = event.GetTimestamp().time_since_epoch() - start.time_since_epoch();
    events_us[event.GetName()] = std::chrono::duration_cast<microseconds>(since).count();
  }
  EXPECT_THAT(events_us,
              ElementsAre(Pair("batch begun", 50), Pair("batch computed", 760), Pair("batch packed", 60)));
}

TEST(RequestSpanTest, AttributesAreTheConventionsAndTheFieldsOfTheLog) {
  EXPECT_THAT(
      AttributesOf(SpanOf(Answered())),
      UnorderedElementsAre(
          Pair("rpc.system", "grpc"), Pair("rpc.service", "headlight.v1.AttentionService"),
          Pair("rpc.method", "Attend"), Pair("rpc.grpc.status_code", "0"), Pair("headlight.tenant", "search"),
          Pair("headlight.id", "r1"), Pair("headlight.model", "bert"), Pair("headlight.version", "3"),
          Pair("headlight.tokens", "16"), Pair("headlight.queue_us", "50"), Pair("headlight.pack_us", "10"),
          Pair("headlight.compute_us", "700"), Pair("headlight.batch_requests", "2")));
}

TEST(RequestSpanTest, OnlyWhatTheServerDidWrongIsAnError) {
  RequestRecord record = Answered();
  record.batch_requests = 0;
  record.message = "the queue is full";
  for (const auto& [code, status] :
       std::map<absl::StatusCode, StatusCode>{{absl::StatusCode::kResourceExhausted, StatusCode::kUnset},
                                              {absl::StatusCode::kNotFound, StatusCode::kUnset},
                                              {absl::StatusCode::kCancelled, StatusCode::kUnset},
                                              {absl::StatusCode::kDeadlineExceeded, StatusCode::kError},
                                              {absl::StatusCode::kUnavailable, StatusCode::kError},
                                              {absl::StatusCode::kInternal, StatusCode::kError}}) {
    record.code = code;
    const SpanData span = SpanOf(record);
    EXPECT_EQ(span.GetStatus(), status) << code;
    EXPECT_EQ(std::string(span.GetDescription()), status == StatusCode::kError ? "the queue is full" : "");
    EXPECT_EQ(AttributesOf(span)["rpc.grpc.status_code"], std::to_string(static_cast<int>(code)));
    EXPECT_TRUE(span.GetEvents().empty());
  }
}

TEST(RequestSpanTest, TextsOfCallersAreCutAndAscii) {
  RequestRecord record = Answered();
  record.request_id = std::string(300, '\xff') + "tail";
  record.model = "b\xc3\xa4r";
  record.code = absl::StatusCode::kInternal;
  record.message = "\xfe" + std::string(10'000, 'x');
  const SpanData span = SpanOf(record);
  std::map<std::string, std::string> attributes = AttributesOf(span);
  EXPECT_EQ(attributes["headlight.model"], "b\\xc3\\xa4r");
  EXPECT_LT(attributes["headlight.id"].size(), 1100);
  EXPECT_LT(span.GetDescription().size(), 300);
  attributes["description"] = std::string(span.GetDescription());
  for (const auto& [name, text] : attributes) {
    EXPECT_TRUE(std::all_of(text.begin(), text.end(), [](char c) { return c > 0; })) << name;
  }
}

}  // namespace
}  // namespace headlight
