// SPDX-License-Identifier: Apache-2.0
//
// The two programs as a user meets them: started as processes, talking over a real port, judged by their exit
// codes, their output and the files they write.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "client/npy.h"
#include "nlohmann/json.hpp"
#include "tests/e2e/lone_run.h"
#include "tests/e2e/server_process.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/subprocess.h"

namespace headlight {
namespace {

using ::headlight::testing::IsOk;
using ::headlight::testing::RunProgram;
using ::headlight::testing::RunResult;
using ::headlight::testing::Subprocess;
using ::testing::HasSubstr;
using namespace std::chrono_literals;
using e2e::ServerProcess;

const char kServer[] = HEADLIGHT_SERVER_PROGRAM;
const char kClient[] = HEADLIGHT_CLIENT_PROGRAM;

std::string TempFile(const std::string& name) { return ::testing::TempDir() + "/programs_test_" + name; }

client::Tensor ReadTensor(const std::string& path) {
  absl::StatusOr<client::Tensor> tensor = client::ReadNpyTensorFile(path);
  EXPECT_THAT(tensor, IsOk());
  return tensor.ok() ? *std::move(tensor) : client::Tensor{};
}

TEST(ProgramsTest, AttendOverFilesGivesTheBitsOfALoneRun) {
  ServerProcess server;
  const std::vector<int64_t> lens = {5, 16, 9};
  const e2e::Request request = e2e::RandomRequest(lens, /*seed=*/7, e2e::MaskKind::kCausal);
  ASSERT_THAT(client::WriteNpyFile({{30, e2e::kEmbedDim}, request.query}, TempFile("in.npy")), IsOk());

  const RunResult run =
      RunProgram({kClient, "attend", "--server", server.address(), "--model", "demo", "--input",
                  TempFile("in.npy"), "--seq-lens", "5,16,9", "--causal", "--weights", "full", "--output",
                  TempFile("out.npy"), "--weights-output", TempFile("weights.npy")});
  ASSERT_EQ(run.exit_code, 0) << run.output;

  const e2e::Answer lone = e2e::LoneRun(e2e::DemoModel(), request, {.mode = WeightsSink::Mode::kFull});
  const client::Tensor output = ReadTensor(TempFile("out.npy"));
  EXPECT_EQ(output.shape, (client::Shape{30, e2e::kEmbedDim}));
  EXPECT_TRUE(e2e::SameBits(output.values, lone.output));
  const client::Tensor weights = ReadTensor(TempFile("weights.npy"));
  EXPECT_EQ(weights.shape, (client::Shape{3, 12, 16, 16}));
  EXPECT_TRUE(e2e::SameBits(weights.values, lone.weights));
}

TEST(ProgramsTest, EveryBuiltInModelAnswersNarrowTensorsTopKAndSummaries) {
  ServerProcess server({"--models", "demo,demo-gqa,demo-alibi", "--precision", "bf16"});
  for (const std::string model : {"demo", "demo-gqa", "demo-alibi"}) {
    const RunResult top_k =
        RunProgram({kClient,          "attend", "--server",         server.address(),
                    "--model",        model,    "--seq-lens",       "5,300",
                    "--weights",      "top-k",  "--top-k",          "4",
                    "--heads",        "0,11",   "--dtype",          "bf16",
                    "--output-dtype", "f16",    "--weights-output", TempFile("top_k.npy")});
    EXPECT_EQ(top_k.exit_code, 0) << top_k.output;
    EXPECT_EQ(ReadTensor(TempFile("top_k.npy")).shape, (client::Shape{2, 2, 300, 4}));
    const RunResult summary =
        RunProgram({kClient, "attend", "--server", server.address(), "--model", model, "--shape", "1x40",
                    "--weights", "summary", "--window-left", "8", "--queries", "0:16"});
    EXPECT_EQ(summary.exit_code, 0) << summary.output;
    EXPECT_THAT(summary.output, HasSubstr("effective_support"));
  }
  const RunResult models = RunProgram({kClient, "models", "--server", server.address()});
  EXPECT_THAT(models.output, HasSubstr("rope, softcap 30, window 255 before"));
  EXPECT_THAT(models.output, HasSubstr("alibi, appended keys 2"));
}

TEST(ProgramsTest, ModelsHealthAndLoadtestAnswer) {
  ServerProcess server;
  const RunResult health = RunProgram({kClient, "health", "--server", server.address()});
  EXPECT_EQ(health.exit_code, 0) << health.output;
  EXPECT_THAT(health.output, HasSubstr("SERVING"));
  const RunResult models = RunProgram({kClient, "models", "--server", server.address()});
  EXPECT_EQ(models.exit_code, 0) << models.output;
  EXPECT_THAT(models.output, HasSubstr("demo"));

  const RunResult load = RunProgram({kClient, "loadtest", "--server", server.address(), "--model", "demo",
                                     "--seq-lens", "1,5,16", "--concurrency", "4", "--duration", "2s",
                                     "--warmup", "200ms", "--json", TempFile("load.json")});
  ASSERT_EQ(load.exit_code, 0) << load.output;
  std::ifstream file(TempFile("load.json"));
  const nlohmann::json report = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  ASSERT_TRUE(report.is_object()) << load.output;
}

TEST(ProgramsTest, AModelIsMadeCheckedServedAndTakenOut) {
  const std::string repository = TempFile("repository");
  std::filesystem::remove_all(repository);
  const std::string folder = repository + "/small/3";
  const std::vector<std::string> init = {
      kServer, "init-model",   "--embed-dim", "48",     "--num-heads", "3",     "--num-layers",
      "2",     "--vocab-size", "100",         "--seed", "5",           "--out", folder};
  const RunResult made = RunProgram(init);
  ASSERT_EQ(made.exit_code, 0) << made.output;
  EXPECT_EQ(RunProgram(init).exit_code, 1);  // it does not write over a model

  const RunResult checked = RunProgram({kServer, "check-model", folder, "--precision", "bf16"});
  EXPECT_EQ(checked.exit_code, 0) << checked.output;
  for (const char* text : {"native", "token ids below 100", "48 -> 192 -> 48, GELU", "FLOPs per token",
                           "while loading", "error against f32"}) {
    EXPECT_THAT(checked.output, HasSubstr(text));
  }

  const RunResult narrow = RunProgram({kServer, "check-model", folder, "--parameters-precision", "int8"});
  EXPECT_EQ(narrow.exit_code, 0) << narrow.output;
  EXPECT_THAT(narrow.output, HasSubstr("f32, parameters int8"));

  ServerProcess server({"--model-repository", repository, "--allow-model-control"});
  EXPECT_NE(server.process().WaitForOutput("admin port on http://127.0.0.1", 10s), "");
  EXPECT_THAT(RunProgram({kClient, "models", "--server", server.address()}).output, HasSubstr("small"));
  const RunResult unload = RunProgram({kClient, "models", "--server", server.address(), "--unload", "small"});
  EXPECT_EQ(unload.exit_code, 0) << unload.output;
  const RunResult load = RunProgram({kClient, "models", "--server", server.address(), "--load", "small"});
  EXPECT_EQ(load.exit_code, 0) << load.output;
  EXPECT_THAT(load.output, HasSubstr("small version 3 serves"));
  const RunResult none = RunProgram({kClient, "models", "--server", server.address(), "--load", "none"});
  EXPECT_EQ(none.exit_code, 1);
  EXPECT_THAT(none.output, HasSubstr("NOT_FOUND"));
  const RunResult health =
      RunProgram({kClient, "health", "--server", server.address(), "--service", "models/small"});
  EXPECT_EQ(health.exit_code, 0) << health.output;
}

TEST(ProgramsTest, CheckModelListsWhatIsWrong) {
  const std::string folder = TempFile("broken");
  std::filesystem::remove_all(folder);
  EXPECT_EQ(RunProgram({kServer, "check-model", folder}).exit_code, 1);
  ASSERT_EQ(
      RunProgram({kServer, "init-model", "--embed-dim", "8", "--num-heads", "2", "--out", folder}).exit_code,
      0);
  std::filesystem::resize_file(folder + "/model.safetensors", 100);
  const RunResult checked = RunProgram({kServer, "check-model", folder});
  EXPECT_EQ(checked.exit_code, 1);
  EXPECT_THAT(checked.output, HasSubstr("model.safetensors"));
}

TEST(ProgramsTest, ARefusedRequestIsExitCode1WithCodeAndMessage) {
  ServerProcess server;
  const RunResult run = RunProgram(
      {kClient, "attend", "--server", server.address(), "--model", "no-such-model", "--shape", "1x4"});
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.output, HasSubstr("NOT_FOUND"));
  EXPECT_THAT(run.output, HasSubstr("demo"));
}

TEST(ProgramsTest, WrongUsageIsExitCode2) {
  EXPECT_EQ(RunProgram({kClient, "attend", "--shape", "2xx"}).exit_code, 2);
  EXPECT_EQ(RunProgram({kClient, "no-such-command"}).exit_code, 2);
  EXPECT_EQ(RunProgram({kServer, "--no-such-flag"}).exit_code, 2);
  EXPECT_EQ(RunProgram({kServer, "--kernel", "no-such-kernel"}).exit_code, 2);
  EXPECT_EQ(RunProgram({kServer, "--models", "no-such-model"}).exit_code, 2);
  EXPECT_EQ(RunProgram({kServer, "init-model"}).exit_code, 2);
  EXPECT_EQ(
      RunProgram({kServer, "init-model", "--embed-dim", "9", "--num-heads", "2", "--out", TempFile("x")})
          .exit_code,
      2);
  EXPECT_EQ(RunProgram({kServer, "check-model"}).exit_code, 2);
  EXPECT_EQ(RunProgram({kServer, "check-model", "x", "--precision", "f64"}).exit_code, 2);
  EXPECT_EQ(RunProgram({kServer, "check-model", "x", "--parameters-precision", "int4"}).exit_code, 2);
  EXPECT_EQ(RunProgram({kServer, "--model-repository", TempFile("nowhere")}).exit_code, 1);
}

TEST(ProgramsTest, AnAddressInUseIsAnErrorNotAHang) {
  ServerProcess server;
  const RunResult second = RunProgram({kServer, "--listen", server.address()});
  EXPECT_EQ(second.exit_code, 1);
  EXPECT_THAT(second.output, HasSubstr(server.address()));
}

TEST(ProgramsTest, SigtermFinishesWhatWasAcceptedAndExitsWith0) {
  ServerProcess server({"--log-level", "debug"});
  // Long enough in work for the signal to come before its answer.
  Subprocess request(
      {kClient, "attend", "--server", server.address(), "--model", "demo", "--shape", "2x2048"});
  ASSERT_NE(server.process().WaitForOutput("arrived", 60s), "");
  server.process().Signal(SIGTERM);
  EXPECT_EQ(request.Wait(60s), 0) << request.Output();
  EXPECT_EQ(server.process().Wait(30s), 0) << server.process().Output();
}

TEST(ProgramsTest, AnIdleServerStopsAtOnceOnSigterm) {
  ServerProcess server;
  server.process().Signal(SIGTERM);
  EXPECT_EQ(server.process().Wait(25s), 0) << server.process().Output();  // its grace is 30 s
}

}  // namespace
}  // namespace headlight
