// SPDX-License-Identifier: Apache-2.0
#include "server/observe/admin_http.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/server/observe/http_get.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::AllOf;
using testing::BodyOf;
using testing::Connection;
using ::testing::HasSubstr;
using testing::HttpAsk;
using testing::HttpGet;
using testing::IsOk;
using ::testing::Not;
using ::testing::StartsWith;
using testing::StatusIs;

std::unique_ptr<AdminHttp> Listen(const std::string& address = "127.0.0.1:0") {
  auto http =
      AdminHttp::Listen(address, {{"/",
                                   [] {
                                     return HttpPage{200, "text/html; charset=utf-8", "<p>hello</p>"};
                                   }},
                                  {"/busy",
                                   [] {
                                     return HttpPage{503, "text/plain", "not yet"};
                                   }},
                                  {"/large",
                                   [] {
                                     return HttpPage{200, "text/plain", std::string(1 << 20, 'x')};
                                   }},
                                  {"/broken", []() -> HttpPage { throw std::runtime_error("secret"); }}});
  EXPECT_THAT(http, IsOk());
  return http.ok() ? *std::move(http) : nullptr;
}

TEST(AdminHttpTest, AnswersWithThePageOfThePath) {
  const auto http = Listen();
  ASSERT_GT(http->port(), 0);
  EXPECT_THAT(
      HttpGet(http->port(), "/"),
      AllOf(StartsWith("HTTP/1.1 200 OK\r\n"), HasSubstr("\r\nContent-Type: text/html; charset=utf-8\r\n"),
            HasSubstr("\r\nContent-Length: 12\r\n"),
            HasSubstr("\r\nContent-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\n")));
  EXPECT_EQ(BodyOf(HttpGet(http->port(), "/?query=ignored")), "<p>hello</p>");
  EXPECT_THAT(HttpGet(http->port(), "/busy"), StartsWith("HTTP/1.1 503 "));
  EXPECT_EQ(BodyOf(HttpGet(http->port(), "/large")).size(), size_t{1} << 20);
}

// As gRPC's port does, which a kubelet asks over either.
TEST(AdminHttpTest, AllAddressesAreThoseOfIPv4Too) {
  const auto http = Listen("[::]:0");
  ASSERT_NE(http, nullptr);
  EXPECT_EQ(BodyOf(HttpGet(http->port(), "/")), "<p>hello</p>");
}

TEST(AdminHttpTest, NothingElseIsThere) {
  const auto http = Listen();
  for (const char* path : {"/other", "/busy/", "/../etc/passwd", "/%2e%2e/etc/passwd", "/index.html"}) {
    EXPECT_THAT(HttpGet(http->port(), path), StartsWith("HTTP/1.1 404 ")) << path;
  }
  for (const char* method : {"POST", "HEAD", "PUT", "DELETE", "OPTIONS"}) {
    EXPECT_THAT(HttpAsk(http->port(), method, "/"),
                AllOf(StartsWith("HTTP/1.1 405 "), HasSubstr("\r\nAllow: GET\r\n")))
        << method;
  }
  EXPECT_THAT(HttpGet(http->port(), "/broken"), AllOf(StartsWith("HTTP/1.1 500 "), Not(HasSubstr("secret"))));
}

TEST(AdminHttpTest, WhatIsNoRequestIsTurnedAway) {
  const auto http = Listen();
  const Connection garbage(http->port());
  EXPECT_TRUE(garbage.Send(std::string("\x16\x03\x01\x00 no HTTP\r\n\r\n", 16)));
  EXPECT_THAT(garbage.ReadAll(), Not(StartsWith("HTTP/1.1 200")));
  const Connection flood(http->port());
  (void)flood.Send("GET / HTTP/1.1\r\nA: " + std::string(100'000, 'a'));  // it may be cut off meanwhile
  EXPECT_THAT(flood.ReadAll(), Not(StartsWith("HTTP/1.1 200")));
  EXPECT_THAT(HttpGet(http->port(), "/"), StartsWith("HTTP/1.1 200 "));
}

TEST(AdminHttpTest, CallersThatSayNothingOrDoNotReadHoldUpNobody) {
  const auto http = Listen();
  std::vector<Connection> idle;
  for (int i = 0; i < 12; ++i) {
    idle.emplace_back(http->port());
    const char* const begins[] = {"", "GET /la", "GET /large HTTP/1.1\r\n\r\n"};
    EXPECT_TRUE(idle.back().Send(begins[i % 3]));
  }
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_THAT(HttpGet(http->port(), "/"), StartsWith("HTTP/1.1 200 "));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(2));
  for (int i = 0; i < 3 * AdminHttp::kThreads; ++i) idle.emplace_back(http->port());
  EXPECT_THAT(HttpGet(http->port(), "/"), StartsWith("HTTP/1.1 200 ")) << "once they are cut off";
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(60));
}

TEST(AdminHttpTest, ItEndsAtOnce) {
  const auto begin = std::chrono::steady_clock::now();
  constexpr int kTimes = 20;
  for (const char* listen : {"127.0.0.1:0", "0.0.0.0:0", "localhost:0"}) {
    for (int i = 0; i < kTimes; ++i) ASSERT_THAT(AdminHttp::Listen(listen, {}), IsOk());
  }
  // civetweb's own end takes up to two seconds each.
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(30));
}

TEST(AdminHttpTest, AnAddressThatCannotBeUsedIsNamed) {
  const auto http = Listen();
  EXPECT_THAT(AdminHttp::Listen("127.0.0.1:" + std::to_string(http->port()), {}),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("--admin-listen: cannot listen on \"127")));
  for (const char* listen : {"8002", ":8002", "localhost", "localhost:x", "a:70000", "127.0.0.1:1,2"}) {
    EXPECT_THAT(AdminHttp::Listen(listen, {}),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("--admin-listen: got")))
        << listen;
  }
}

}  // namespace
}  // namespace headlight
