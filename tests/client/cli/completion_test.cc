// SPDX-License-Identifier: Apache-2.0
//
// The completion script as bash runs it: sourced, and its function called with the words of a command line.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "tests/client/cli/run_cli.h"
#include "tests/testing/subprocess.h"
#include "tests/testing/temp_folder.h"

namespace headlight::client {
namespace {

using ::headlight::testing::RunHeadlight;
using ::headlight::testing::RunProgram;
using ::headlight::testing::TempFolder;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

class CompletionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists("/bin/bash")) GTEST_SKIP() << "no bash here";
    folder_.Write("completion.bash", RunHeadlight({"completion", "bash"}).out);
  }

  // What bash offers for the last of `words`, which follow the program's name. Words must be split as bash
  // does it: "--dtype=b" is three.
  std::vector<std::string> Complete(const std::vector<std::string>& words) const {
    std::vector<std::string> argv = {"/bin/bash",
                                     "--norc",
                                     "-euc",
                                     "cd \"$1\"; source ./completion.bash; shift\n"
                                     "COMP_WORDS=(headlight \"$@\"); COMP_CWORD=$#\n"
                                     "_headlight\n"
                                     "[ ${#COMPREPLY[@]} = 0 ] || printf '%s\\n' \"${COMPREPLY[@]}\"\n",
                                     "bash",
                                     folder_.path()};
    argv.insert(argv.end(), words.begin(), words.end());
    const auto result = RunProgram(argv);
    EXPECT_EQ(result.exit_code, 0) << result.output;
    std::vector<std::string> lines = absl::StrSplit(result.output, '\n');
    lines.pop_back();
    return lines;
  }

  TempFolder folder_;
};

TEST_F(CompletionTest, CommandsComeFirst) {
  EXPECT_THAT(Complete({""}), AllOf(Contains("attend"), Contains("models"), Contains("health"),
                                    Contains("loadtest"), Contains("completion"), Contains("--version")));
  EXPECT_THAT(Complete({"heal"}), ElementsAre("health"));
  EXPECT_THAT(Complete({"--ver"}), ElementsAre("--version"));
  EXPECT_THAT(Complete({"dance", ""}), Contains("attend"));
}

TEST_F(CompletionTest, OptionsAreThoseOfTheCommand) {
  EXPECT_THAT(Complete({"attend", "--weights"}),
              UnorderedElementsAre("--weights", "--weights-output", "--weights-keys-output"));
  EXPECT_THAT(Complete({"health", ""}),
              AllOf(Contains("--json"), Contains("--help"), Not(Contains("--shape"))));
  EXPECT_THAT(Complete({"models", "--load", "demo", "--j"}), ElementsAre("--json"));
}

TEST_F(CompletionTest, EveryOptionOfEveryCommandIsThere) {
  for (const std::string command : {"attend", "loadtest", "models", "health"}) {
    const std::vector<std::string> offered = Complete({command, "--"});
    for (const std::string& line :
         std::vector<std::string>(absl::StrSplit(RunHeadlight({command, "--help"}).out, '\n'))) {
      const size_t begin = line.find("--");
      if (begin == std::string::npos || line.substr(0, begin).find_first_not_of(" -h,") != std::string::npos)
        continue;
      EXPECT_THAT(offered, Contains(line.substr(begin, line.find_first_of(" ,", begin) - begin))) << command;
    }
  }
}

TEST_F(CompletionTest, ValuesThatAreListedAreOffered) {
  EXPECT_THAT(Complete({"attend", "--weights", ""}),
              ElementsAre("none", "full", "mean", "top-k", "summary", "grid"));
  EXPECT_THAT(Complete({"attend", "--shape", "1x2", "--output-dtype", "b"}), ElementsAre("bf16"));
  EXPECT_THAT(Complete({"attend", "--weights", "="}),
              ElementsAre("none", "full", "mean", "top-k", "summary", "grid"));
  EXPECT_THAT(Complete({"attend", "--weights", "=", "t"}), ElementsAre("top-k"));
  EXPECT_THAT(Complete({"completion", ""}), Contains("bash"));
}

TEST_F(CompletionTest, FilesAreOfferedForFilesAndNothingForNumbers) {
  folder_.Write("my query.npy", "");
  folder_.Write("mask.npy", "");
  EXPECT_THAT(Complete({"attend", "--input", "m"}), UnorderedElementsAre("my query.npy", "mask.npy"));
  EXPECT_THAT(Complete({"attend", "--mask", "=", "mas"}), ElementsAre("mask.npy"));
  EXPECT_THAT(Complete({"attend", "--top-k", ""}), IsEmpty());
  EXPECT_THAT(Complete({"models", "--load", ""}), IsEmpty());
}

TEST(CompletionCommandTest, ZshReadsTheScriptOfBash) {
  const std::string bash = RunHeadlight({"completion", "bash"}).out;
  EXPECT_THAT(bash, EndsWith("complete -F _headlight headlight\n"));
  EXPECT_EQ(RunHeadlight({"completion", "zsh"}).out, "autoload -U +X bashcompinit && bashcompinit\n" + bash);
}

TEST(CompletionCommandTest, OtherShellsAreRefused) {
  const auto result = RunHeadlight({"completion", "fish"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("fish"));
  EXPECT_EQ(RunHeadlight({"completion"}).exit_code, 2);
}

}  // namespace
}  // namespace headlight::client
