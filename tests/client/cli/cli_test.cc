// SPDX-License-Identifier: Apache-2.0
//
// What all commands share: help, version, exit codes, --server; and the two commands too small for a test of
// their own.
#include "client/cli/cli.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>
#include <string>

#include "client/cli/commands.h"
#include "tests/client/cli/run_cli.h"
#include "tests/client/fake_server.h"

namespace headlight::client {
namespace {

using ::headlight::testing::CliResult;
using ::headlight::testing::FakeServer;
using ::headlight::testing::RunHeadlight;
using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;
using ::testing::StartsWith;

TEST(CliTest, VersionIsPrinted) {
  const CliResult result = RunHeadlight({"--version"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, MatchesRegex("headlight [0-9]+\\.[0-9]+\\.[0-9]+\n"));
}

TEST(CliTest, AnExceptionEndsWithALineAndACode) {
  std::ostringstream out, err;
  const auto thrower = [](const Streams&) -> int { throw std::runtime_error("no more\x1b"); };
  EXPECT_EQ(RunGuarded(thrower, {.out = out, .err = err}), 1);
  EXPECT_EQ(err.str(), "headlight: INTERNAL: no more\\x1b\n");
}

TEST(CliTest, WhatAServerSaysReachesNoTerminalAsItIs) {
  FakeServer server([](grpc::ServerContext& context, const v1::AttendRequest&, v1::AttendResponse&) {
    context.AddTrailingMetadata("grpc-retry-pushback-ms", "86400000");
    return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "full\x1b]0;you\x07");
  });
  const CliResult result = RunHeadlight({"attend", "--server", server.target(), "--shape", "1x1"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.err,
            "headlight: RESOURCE_EXHAUSTED: full\\x1b]0;you\\x07; worth trying again in 86400000.000 ms\n");
}

TEST(CliTest, HelpNamesTheCommands) {
  const CliResult result = RunHeadlight({"--help"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out,
              AllOf(HasSubstr("attend"), HasSubstr("heatmap"), HasSubstr("loadtest"), HasSubstr("models"),
                    HasSubstr("health"), HasSubstr("HEADLIGHT_SERVER"), HasSubstr("Exit codes")));
}

TEST(CliTest, HelpOfEachCommandHasAnExample) {
  for (const std::string command : {"attend", "heatmap", "loadtest", "models", "health"}) {
    const CliResult result = RunHeadlight({command, "--help"});
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_THAT(result.out, AllOf(HasSubstr("Example"), HasSubstr("headlight " + command + " --"),
                                  HasSubstr("127.0.0.1:8001"), HasSubstr("--timeout-ms")));
  }
}

TEST(CliTest, WrongUsageIsTwoWithAReason) {
  const struct {
    std::vector<std::string> words;
    const char* reason;
  } cases[] = {
      {{}, "A command is required"},
      {{"dance"}, "dance"},
      {{"health", "--colour", "red"}, "--colour"},
      {{"health", "--timeout-ms", "0"}, "--timeout-ms"},
      {{"health", "--timeout-ms", "soon"}, "--timeout-ms"},
      {{"health", "--server", ""}, "target: got an empty string, wanted HOST:PORT"},
      {{"models", "--max-message-bytes", "0"}, "--max-message-bytes"},
      {{"attend", "--shape", "2by16"}, "--shape: got '2by16', wanted two positive numbers, as in 2x16"},
      {{"attend", "--seq-lens", "5,,9"}, "--seq-lens: got '5,,9', wanted positive numbers, as in 5,16,9"},
      {{"attend", "--weights", "all"},
       "--weights: got 'all', wanted none, full, mean, top-k, summary or grid"},
      {{"attend", "--heads", "a"}, "--heads: got 'a', wanted heads counted from 0, as in 0,3,5"},
      {{"attend", "--queries", "5"}, "--queries: got '5', wanted the first query and the one after the last"},
      {{"attend", "--dtype", "f64"}, "--dtype: got 'f64', wanted f32, bf16 or f16"},
      {{"loadtest", "--output-dtype", "i8"}, "--output-dtype: got 'i8', wanted f32, bf16 or f16"},
      {{"attend", "--top-k", "0"}, "--top-k"},
      {{"attend", "--layer", "-1"}, "--layer"},
      {{"attend", "--pooling", "median"}, "--pooling: got 'median', wanted cls, mean, max, mean_sqrt_len"},
      {{"attend", "--pooling", "cls", "--pooled"}, "--pooled"},
      {{"attend", "--window-left", "-1"}, "--window-left"},
      {{"loadtest", "--window-right", "x"}, "--window-right"},
      {{"loadtest", "--duration", "10"}, "--duration: got '10', wanted a whole number and a unit"},
      {{"loadtest", "--duration", "0s"}, "--duration: got 0, wanted at least 1ms"},
      {{"loadtest", "--concurrency", "0"}, "--concurrency"},
      {{"loadtest", "--channels", "0"}, "--channels"},
      {{"loadtest", "--channels", "1025"}, "--channels"},
  };
  for (const auto& [words, reason] : cases) {
    const CliResult result = RunHeadlight(words);
    EXPECT_EQ(result.exit_code, 2) << reason;
    EXPECT_THAT(result.err, HasSubstr(reason));
    EXPECT_THAT(result.out, IsEmpty());
  }
}

TEST(CliTest, AFailedRpcIsOneWithCodeAndMessage) {
  std::string target;
  {
    FakeServer server;
    target = server.target();
  }
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {"health"}, {"models"}, {"attend", "--shape", "1x1"}, {"loadtest", "--shape", "1x1"}}) {
    std::vector<std::string> all = words;
    all.insert(all.end(), {"--server", target});
    const CliResult result = RunHeadlight(all);
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_THAT(result.err, StartsWith("headlight: UNAVAILABLE: "));
    EXPECT_THAT(result.out, IsEmpty());
  }
}

TEST(CliTest, TheEnvironmentNamesTheServerAndTheFlagOutranksIt) {
  FakeServer server;
  setenv("HEADLIGHT_SERVER", server.target().c_str(), 1);
  EXPECT_EQ(RunHeadlight({"health"}).exit_code, 0);
  setenv("HEADLIGHT_SERVER", "127.0.0.1:1", 1);
  EXPECT_EQ(RunHeadlight({"health"}).exit_code, 1);
  EXPECT_EQ(RunHeadlight({"health", "--server", server.target()}).exit_code, 0);
  unsetenv("HEADLIGHT_SERVER");
}

TEST(HealthCommandTest, ServingIsZeroAndAnythingElseOne) {
  FakeServer server;
  const CliResult serving = RunHeadlight({"health", "--server", server.target()});
  EXPECT_EQ(serving.exit_code, 0);
  EXPECT_EQ(serving.out, "SERVING\n");

  server.SetServing(false);
  const CliResult not_serving = RunHeadlight({"health", "--server", server.target()});
  EXPECT_EQ(not_serving.exit_code, 1);
  EXPECT_EQ(not_serving.out, "NOT_SERVING\n");

  const CliResult json = RunHeadlight({"health", "--server", server.target(), "--json"});
  EXPECT_EQ(json.exit_code, 1);
  EXPECT_EQ(nlohmann::json::parse(json.out),
            nlohmann::json::parse(R"({"service": "", "status": "NOT_SERVING", "serving": false})"));

  const CliResult unknown =
      RunHeadlight({"health", "--server", server.target(), "--service", "no.such.Service"});
  EXPECT_EQ(unknown.exit_code, 1);
  EXPECT_THAT(unknown.err, StartsWith("headlight: NOT_FOUND: "));
}

TEST(ModelsCommandTest, PrintsALineForEachModel) {
  FakeServer server;
  const CliResult result = RunHeadlight({"models", "--server", server.target()});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, StartsWith("model    version  layers  input                      pooling           "
                                     "outputs  embed_dim  heads"));
  EXPECT_THAT(
      result.out,
      HasSubstr(
          "\ndemo     1        1       embeddings                 -                 -        4          2 "));
  EXPECT_THAT(
      result.out,
      HasSubstr("\nencoder  1        3       ids below 50, at most 512  mean, normalized  -        4 "));
  EXPECT_THAT(result.out, HasSubstr("\ncross    1 "));
  EXPECT_THAT(result.out,
              HasSubstr(" f32                                 0          fake    268.4 MB     -\n"));
  EXPECT_THAT(
      result.out,
      EndsWith(
          " f32 (asked: bf16), parameters int8  0.0012     fake    268.4 MB     rope, alibi, softcap 30, "
          "window 255 before, window 0 after, appended keys 2\n"));
}

TEST(ModelsCommandTest, JsonHasTheFieldsOfTheMessage) {
  FakeServer server;
  const CliResult result = RunHeadlight({"models", "--server", server.target(), "--json"});
  EXPECT_EQ(result.exit_code, 0);
  const auto json = nlohmann::json::parse(result.out);
  ASSERT_EQ(json["models"].size(), 3u);
  EXPECT_EQ(json["models"][2],
            nlohmann::json::parse(R"({"name": "cross", "version": "1", "embed_dim": 4, "num_heads": 2,
                                      "num_kv_heads": 2, "head_dim": 2, "kdim": 3, "vdim": 2, "scale": 0.0,
                                      "num_parameters": 80, "precision": "f32", "kernel": "fake",
                                      "max_message_bytes": 268435456, "precision_asked": "bf16",
                                      "precision_note": "computed in f32: because",
                                      "parameters_precision": "int8",
                                      "precision_error": {"max_abs": 0.0, "rms": 0.00123, "cosine": 1.0},
                                      "rope": {"theta": 10000.0, "rotary_dim": 0, "interleaved": false,
                                               "scaling": "SCALING_LLAMA3", "factor": 0.0,
                                               "low_freq_factor": 0.0, "high_freq_factor": 0.0,
                                               "original_max_len": 0, "magnitude": 0.0},
                                      "alibi": true, "logit_softcap": 30.0, "window_left": 255,
                                      "window_right": 0, "add_bias_kv": false, "add_zero_attn": false,
                                      "num_appended_keys": 2, "num_layers": 1, "hidden_dim": 0,
                                      "causal": false, "takes_key": true, "takes_token_ids": false,
                                      "vocab_size": 0, "num_token_types": 0, "max_seq_len": 0,
                                      "pooling": "POOLING_MODE_UNSPECIFIED", "normalize_pooled": false,
                                      "pooling_parts": [], "pooled_dim": 0, "no_pooling": "",
                                      "outputs": [], "num_labels": 0, "labels": [],
                                      "token_vector_dim": 0, "refused_outputs": [],
                                      "layout": "built-in", "load_error": ""})"));
  EXPECT_EQ(json["models"][1]["pooling"], "POOLING_MODE_MEAN");
  EXPECT_EQ(json["models"][1]["vocab_size"], 50);
  EXPECT_TRUE(json["models"][0]["rope"].is_null());
  EXPECT_TRUE(json["models"][0]["window_left"].is_null());
}

TEST(ModelsCommandTest, LoadSaysWhatServesNow) {
  FakeServer server;
  const CliResult text = RunHeadlight({"models", "--server", server.target(), "--load", "cross"});
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_EQ(text.out, "cross version 1 serves\n");

  const CliResult result = RunHeadlight({"models", "--server", server.target(), "--load", "cross", "--json"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const CliResult listed = RunHeadlight({"models", "--server", server.target(), "--json"});
  EXPECT_EQ(nlohmann::json::parse(result.out),
            nlohmann::json({{"loaded", nlohmann::json::parse(listed.out)["models"][2]}}));
}

TEST(ModelsCommandTest, UnloadSaysWhatIsGone) {
  FakeServer server;
  const CliResult text = RunHeadlight({"models", "--server", server.target(), "--unload", "encoder"});
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_EQ(text.out, "encoder is unloaded\n");

  const CliResult json =
      RunHeadlight({"models", "--server", server.target(), "--unload", "encoder", "--json"});
  EXPECT_EQ(json.exit_code, 0) << json.err;
  EXPECT_EQ(nlohmann::json::parse(json.out), nlohmann::json::parse(R"({"unloaded": "encoder"})"));
}

TEST(ModelsCommandTest, WhatTheServerDoesNotLoadOrUnloadIsItsError) {
  FakeServer server;
  for (const std::string what : {"--load", "--unload"}) {
    for (const bool json : {false, true}) {
      std::vector<std::string> words = {"models", "--server", server.target(), what, "none"};
      if (json) words.push_back("--json");
      const CliResult result = RunHeadlight(words);
      EXPECT_EQ(result.exit_code, 1) << what;
      EXPECT_EQ(result.err, "headlight: NOT_FOUND: model: got 'none', wanted demo or cross\n");
      EXPECT_THAT(result.out, IsEmpty());
    }
  }
  const CliResult both =
      RunHeadlight({"models", "--server", server.target(), "--load", "demo", "--unload", "demo"});
  EXPECT_EQ(both.exit_code, 2);
  EXPECT_THAT(both.err, HasSubstr("excludes"));
}

}  // namespace
}  // namespace headlight::client
