// SPDX-License-Identifier: Apache-2.0
#include "server/observe/trace_context.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

namespace headlight {
namespace {

constexpr char kGood[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

TEST(TraceContextTest, AHeaderComesBackAsItWas) {
  const auto context = ParseTraceparent(kGood);
  ASSERT_TRUE(context.has_value());
  EXPECT_EQ(context->ToHeader(), kGood);
  EXPECT_EQ(context->SpanId(), "00f067aa0ba902b7");
}

TEST(TraceContextTest, WhatTheStandardForbidsIsIgnored) {
  const std::string good = kGood;
  for (const std::string& bad : {
           std::string(),
           good.substr(0, 54),
           good + "0",             // too long for version 00
           good + "-x",            // the same
           "ff" + good.substr(2),  // no version
           "00-00000000000000000000000000000000-00f067aa0ba902b7-01" + std::string(),  // no trace
           "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01" + std::string(),  // no span
           "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01" + std::string(),  // upper case
           "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01" + std::string(),
           "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g" + std::string(),
           std::string(55, '\0'),
       }) {
    EXPECT_FALSE(ParseTraceparent(bad).has_value()) << bad;
  }
}

TEST(TraceContextTest, TheLowestBitOfTheFlagsSaysWhetherTheTraceIsRecorded) {
  for (const auto& [flags, sampled] : {std::pair("00", false), std::pair("01", true), std::pair("02", false),
                                       std::pair("03", true), std::pair("fe", false), std::pair("ff", true)}) {
    EXPECT_EQ(ParseTraceparent(std::string(kGood).substr(0, 53) + flags)->IsSampled(), sampled) << flags;
  }
}

TEST(TraceContextTest, ALaterVersionMayHaveMore) {
  const std::string later = "cc" + std::string(kGood).substr(2);
  EXPECT_TRUE(ParseTraceparent(later).has_value());
  EXPECT_TRUE(ParseTraceparent(later + "-what-is-to-come").has_value());
  EXPECT_FALSE(ParseTraceparent(later + "what-is-to-come").has_value());
}

TEST(TraceContextTest, AChildIsOfTheSameTraceAndHasASpanOfItsOwn) {
  const auto parent = ParseTraceparent(kGood);
  ASSERT_TRUE(parent.has_value());
  const TraceContext child = ChildOf(*parent);
  const TraceContext other = ChildOf(*parent);
  EXPECT_EQ(child.trace_id, parent->trace_id);
  EXPECT_EQ(child.flags, parent->flags);
  EXPECT_NE(child.span_id, parent->span_id);
  EXPECT_NE(child.span_id, other.span_id);
  EXPECT_TRUE(ParseTraceparent(child.ToHeader()).has_value());
}

}  // namespace
}  // namespace headlight
