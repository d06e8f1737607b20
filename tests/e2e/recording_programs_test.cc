// SPDX-License-Identifier: Apache-2.0
//
// A request of every kind recorded from one server and repeated against others: the same bits, or a word why
// not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/e2e/server_process.h"
#include "tests/testing/subprocess.h"
#include "tests/testing/temp_folder.h"

namespace headlight {
namespace {

using e2e::ServerProcess;
using ::headlight::testing::RunProgram;
using ::headlight::testing::RunResult;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr int64_t kMaxRecordingBytes = 200'000;  // of all requests, so that they can be committed

RunResult VerifyAgainst(const ServerProcess& server, const std::string& recording) {
  return RunProgram({HEADLIGHT_CLIENT_PROGRAM, "verify", recording, "--server", server.address()});
}

// The folders of tests/golden/models without the cases beside them.
void CopyModels(const std::filesystem::path& repository) {
  for (const auto& entry : std::filesystem::directory_iterator(HEADLIGHT_GOLDEN_MODELS)) {
    if (entry.is_directory()) std::filesystem::copy(entry, repository / entry.path().filename());
  }
}

std::vector<std::string> AllModels(const testing::TempFolder& repository, const std::string& threads) {
  return {"--models", "demo,demo-gqa,demo-alibi", "--model-repository", repository.path(), "--threads",
          threads};
}

// tests/golden/requests.rec, which record_requests.sh made on a CPU with AVX-512.
TEST(RecordingProgramsTest, TheBitsThatWereCommittedAreThoseOfThisCpu) {
  const testing::TempFolder repository;
  CopyModels(repository.path());
  for (const char* isa : {"", "AVX2"}) {
    SCOPED_TRACE(isa);
    if (*isa != '\0') setenv("ONEDNN_MAX_CPU_ISA", isa, /*overwrite=*/1);
    ServerProcess server(AllModels(repository, "2"));
    if (*isa != '\0') unsetenv("ONEDNN_MAX_CPU_ISA");
    const RunResult verified = VerifyAgainst(server, HEADLIGHT_GOLDEN_MODELS "/../requests.rec");
    EXPECT_EQ(verified.exit_code, 0) << verified.output;
    EXPECT_THAT(verified.output, HasSubstr("0 differ, 0 differ as they may, 0 failed\n"));
  }
}

TEST(RecordingProgramsTest, EveryKindOfRequestHasTheSameBitsOnAnotherServer) {
  const testing::TempFolder folder;
  const testing::TempFolder repository;
  CopyModels(repository.path());
  const std::string recording = folder.File("requests.rec");
  {
    ServerProcess server(AllModels(repository, "1"));
    // Fifty clients, one after the other.
    const RunResult recorded = RunProgram({HEADLIGHT_GOLDEN_MODELS "/../record_requests.sh",
                                           HEADLIGHT_CLIENT_PROGRAM, server.address(), recording},
                                          std::chrono::seconds(300));
    ASSERT_EQ(recorded.exit_code, 0) << recorded.output;
  }
  EXPECT_LE(static_cast<int64_t>(std::filesystem::file_size(recording)), kMaxRecordingBytes);
  ServerProcess other(AllModels(repository, "2"));
  const RunResult verified = VerifyAgainst(other, recording);
  EXPECT_EQ(verified.exit_code, 0) << verified.output;
  EXPECT_THAT(verified.output, HasSubstr("0 differ, 0 differ as they may, 0 failed\n"));

  // As every CPU can have them; products in bf16 are f32 where there are none.
  ServerProcess narrow({"--models", "demo", "--parameters-precision", "bf16"});
  const RunResult narrowed = VerifyAgainst(narrow, recording);
  EXPECT_EQ(narrowed.exit_code, 1);
  EXPECT_THAT(narrowed.output,
              HasSubstr("1: demo version 1, f32: differs, as it may: output; parameters_precision bf16, "
                        "recorded none"));
  EXPECT_THAT(narrowed.output, HasSubstr("demo-gqa version 1, f32: failed: NOT_FOUND"));
  EXPECT_THAT(narrowed.output, Not(HasSubstr("DIFFERS")));
}

}  // namespace
}  // namespace headlight
