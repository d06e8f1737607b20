// SPDX-License-Identifier: Apache-2.0
#include "server/observe/metrics.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::IsOk;
using ::testing::Not;
using testing::StatusIs;

std::unique_ptr<Metrics> Make(const std::string& listen = "") {
  auto metrics = Metrics::Create(listen);
  EXPECT_THAT(metrics, IsOk());
  return metrics.ok() ? *std::move(metrics) : nullptr;
}

// What the port of the loopback interface answers to GET /metrics.
std::string Get(int port) {
  const int connection = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::string answer;
  if (connect(connection, static_cast<const sockaddr*>(static_cast<const void*>(&address)),
              sizeof(address)) == 0) {
    const std::string request = "GET /metrics HTTP/1.0\r\n\r\n";
    if (send(connection, request.data(), request.size(), 0) == static_cast<ssize_t>(request.size())) {
      char bytes[4096];
      for (ssize_t got; (got = recv(connection, bytes, sizeof(bytes), 0)) > 0;) answer.append(bytes, got);
    }
  }
  close(connection);
  return answer;
}

TEST(MetricsTest, TheVersionThatServesIsTheOnlyOneOfItsModel) {
  const auto metrics = Make();
  metrics->ModelServes("a", "1", 100);
  metrics->ModelServes("b", "7", 50);
  metrics->ModelServes("a", "2", 300);
  EXPECT_THAT(metrics->Text(), AllOf(HasSubstr("headlight_models_loaded 2\n"),
                                     HasSubstr("headlight_model_version_info{model=\"a\",version=\"2\"} 1\n"),
                                     HasSubstr("headlight_model_version_info{model=\"b\",version=\"7\"} 1\n"),
                                     HasSubstr("headlight_model_memory_bytes{model=\"a\"} 300\n"),
                                     Not(HasSubstr("version=\"1\""))));
  metrics->ModelIsGone("a");
  metrics->ModelIsGone("never was");
  EXPECT_THAT(metrics->Text(),
              AllOf(HasSubstr("headlight_models_loaded 1\n"), Not(HasSubstr("model=\"a\""))));
}

TEST(MetricsTest, LoadsAreCountedByResultAndTimed) {
  const auto metrics = Make();
  metrics->ModelLoadEnded("a", true, 0.05);
  metrics->ModelLoadEnded("a", false, 2);
  metrics->ModelLoadEnded("a", false, 1000);
  EXPECT_THAT(metrics->Text(),
              AllOf(HasSubstr("headlight_model_loads_total{model=\"a\",result=\"ok\"} 1\n"),
                    HasSubstr("headlight_model_loads_total{model=\"a\",result=\"error\"} 2\n"),
                    HasSubstr("headlight_model_load_seconds_bucket{le=\"0.1\"} 1\n"),
                    HasSubstr("headlight_model_load_seconds_count 3\n")));
}

TEST(MetricsTest, ServesThemOnAFreePort) {
  const auto metrics = Make("127.0.0.1:0");
  ASSERT_GT(metrics->port(), 0);
  metrics->ModelServes("a", "1", 100);
  EXPECT_THAT(Get(metrics->port()),
              AllOf(HasSubstr("200 OK"), HasSubstr("text/plain"), HasSubstr("headlight_models_loaded 1\n")));
}

TEST(MetricsTest, AnAddressThatCannotBeUsedIsNamed) {
  const auto metrics = Make("127.0.0.1:0");
  EXPECT_THAT(
      Metrics::Create("127.0.0.1:" + std::to_string(metrics->port())),
      StatusIs(absl::StatusCode::kUnavailable, HasSubstr("--metrics-listen: cannot listen on \"127")));
  for (const char* listen : {"8002", ":8002", "localhost", "localhost:x", "a:70000", "127.0.0.1:1,2"}) {
    EXPECT_THAT(Metrics::Create(listen),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("wanted HOST:PORT")))
        << listen;
  }
}

}  // namespace
}  // namespace headlight
