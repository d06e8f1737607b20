// SPDX-License-Identifier: Apache-2.0
#include "server/observe/server_status.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

namespace headlight {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

ModelStatus Described(const std::string& name, ModelStatus::State state) {
  ModelStatus model;
  model.name = name;
  model.version = "3";
  model.state = state;
  model.precision = "f32";
  model.memory_bytes = 1 << 20;
  return model;
}

ServerStatus Serving() {
  ServerStatus status;
  status.version = "1.2.3";
  status.phase = ServerPhase::kServing;
  status.models = {Described("a", ModelStatus::State::kServing)};
  return status;
}

TEST(ServerStatusTest, ReadyOnlyWhileItServesAModel) {
  EXPECT_EQ(ReadyPage(Serving()).status, 200);
  ServerStatus status = Serving();
  status.phase = ServerPhase::kStarting;
  EXPECT_EQ(ReadyPage(status).status, 503);
  status.phase = ServerPhase::kDraining;
  EXPECT_EQ(ReadyPage(status).status, 503);
  EXPECT_THAT(ReadyPage(status).body, HasSubstr("draining"));
  status = Serving();
  status.models[0].state = ModelStatus::State::kFailed;
  EXPECT_EQ(ReadyPage(status).status, 503);
  EXPECT_THAT(ReadyPage(status).body, HasSubstr("there is no model"));
}

TEST(ServerStatusTest, AModelThatComputesOtherBitsDoesNotServe) {
  ServerStatus status = Serving();
  status.models[0].state = ModelStatus::State::kWrong;
  status.models[0].error = "model \"a\" computes other bits";
  EXPECT_EQ(ReadyPage(status).status, 503);
  EXPECT_THAT(ReadyPage(status).body, HasSubstr("computes other bits"));
  EXPECT_THAT(ModelsPage(status).body, AllOf(HasSubstr("\"wrong\""), HasSubstr("\"memory_bytes\"")));
  status.models.push_back(Described("b", ModelStatus::State::kServing));
  EXPECT_EQ(ReadyPage(status).status, 200);
}

TEST(ServerStatusTest, ReadyTellsWhatIsLoadingAndWhatFailed) {
  ServerStatus status;
  status.models = {Described("slow", ModelStatus::State::kLoading),
                   Described("broken", ModelStatus::State::kFailed)};
  status.models[0].loading_s = 12.34;
  status.models[1].error = "/models/broken: no config.json\nforged line";
  EXPECT_THAT(ReadyPage(status).body,
              AllOf(HasSubstr("starting"), HasSubstr("loading \"slow\" version \"3\" for 12.3 s\n"),
                    HasSubstr("failed \"broken\": /models/broken: no config.json\\nforged line\n")));
}

TEST(ServerStatusTest, ModelsAreJsonWhateverTheirNames) {
  ServerStatus status = Serving();
  status.models.push_back(Described("b\xff\"<", ModelStatus::State::kFailed));
  status.models.back().error = std::string(5000, 'e');
  const HttpPage page = ModelsPage(status);
  EXPECT_EQ(page.type, "application/json");
  const auto json = nlohmann::json::parse(page.body);
  EXPECT_EQ(json["state"], "serving");
  EXPECT_EQ(json["models"][0]["name"], "a");
  EXPECT_EQ(json["models"][0]["state"], "serving");
  EXPECT_EQ(json["models"][0]["precision"], "f32");
  EXPECT_EQ(json["models"][0]["memory_bytes"], 1 << 20);
  EXPECT_EQ(json["models"][1]["state"], "failed");
  EXPECT_EQ(json["models"][1]["error"].get<std::string>().size(), 5000u) << "in full";
  EXPECT_FALSE(json["models"][1].contains("memory_bytes"));
}

TEST(ServerStatusTest, ThePageShowsEverythingAndRunsNothing) {
  ServerStatus status = Serving();
  status.models[0].name = "<script>alert('&\"')</script>";
  status.load = {{"requests that wait", "7"}};
  status.limits = {{"memory", "1024.0 MiB"}};
  status.latencies = {{"a", 42, 0.00125, 0.5}};
  status.refusals = {{"queue_full", 13}};
  RecentError error = {{},  absl::StatusCode::kInternal,           "", "Attend",
                       "m", "<img src=x onerror=alert(1)>\x01\xff"};
  status.our_faults = {error};
  const HttpPage page = StatusPage(status);
  EXPECT_EQ(page.status, 200);
  EXPECT_THAT(page.body,
              AllOf(HasSubstr("&lt;script&gt;alert(&#39;&amp;&quot;&#39;)&lt;/script&gt;"),
                    Not(HasSubstr("<script")), Not(HasSubstr("<img")), HasSubstr("1.25 ms"),
                    HasSubstr("<td>42</td>"), HasSubstr("<td>queue_full</td><td>13</td>"),
                    HasSubstr("1970-01-01 00:00:00Z</td><td>INTERNAL</td>"), HasSubstr("1024.0 MiB"),
                    HasSubstr("<td>requests that wait</td><td>7</td>"), HasSubstr("1.2.3: serving")));
}

}  // namespace
}  // namespace headlight
