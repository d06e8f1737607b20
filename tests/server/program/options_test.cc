// SPDX-License-Identifier: Apache-2.0
#include "server/program/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cctype>
#include <cstdlib>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using testing::IsOk;
using ::testing::Pair;
using testing::StatusIs;

absl::StatusOr<CommandLine> ParseFlags(std::vector<const char*> flags) {
  flags.insert(flags.begin(), "headlight-server");
  return ParseCommandLine(static_cast<int>(flags.size()), flags.data());
}

// An environment variable for the time of a test.
class ScopedVariable {
 public:
  ScopedVariable(const char* name, const char* value) : name_(name) { setenv(name, value, 1); }
  ~ScopedVariable() { unsetenv(name_); }

 private:
  const char* name_;
};

std::string WriteConfig(const std::string& text) {
  const std::string path =
      ::testing::TempDir() + ::testing::UnitTest::GetInstance()->current_test_info()->name() + ".toml";
  std::ofstream(path) << text;
  return path;
}

auto Refused(const std::string& message) {
  return StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(message));
}

TEST(OptionsTest, DefaultsAreThoseOfTheStruct) {
  const auto line = ParseFlags({});
  ASSERT_THAT(line, IsOk());
  EXPECT_EQ(line->print, "");
  EXPECT_EQ(EffectiveValues(line->options), EffectiveValues(ServerOptions()));
  EXPECT_EQ(line->options.listen, "127.0.0.1:8001");
  EXPECT_EQ(line->options.max_message_bytes, 0);
}

TEST(OptionsTest, EveryOptionHasAFlagAVariableAndAKey) {
  const std::vector<std::pair<std::string, std::string>> values = {{"listen", "[::1]:9"},
                                                                   {"threads", "3"},
                                                                   {"models", "demo-alibi,demo"},
                                                                   {"model-repository", "/models"},
                                                                   {"model", "a=/a,b=/b=c"},
                                                                   {"load", "bert,gpt2"},
                                                                   {"repository-poll-s", "0.5"},
                                                                   {"allow-model-control", "true"},
                                                                   {"tokens", "/etc/tokens.toml"},
                                                                   {"allow-plaintext", "true"},
                                                                   {"allow-shared-memory", "true"},
                                                                   {"canary-period-s", "9"},
                                                                   {"strict", "true"},
                                                                   {"memory-limit", "1000000"},
                                                                   {"memory-for-models", "500000"},
                                                                   {"precision", "bf16,bert=int8"},
                                                                   {"parameters-precision", "bf16,bert=int8"},
                                                                   {"pooling", "bert=mean,gpt2=mean+last"},
                                                                   {"kernel", "matmul"},
                                                                   {"admin-listen", "[::]:8002"},
                                                                   {"max-message-bytes", "70000"},
                                                                   {"max-batch-tokens", "17"},
                                                                   {"queue-max-requests", "5"},
                                                                   {"batch-budget-us", "900"},
                                                                   {"max-age-ms", "2000"},
                                                                   {"default-deadline-ms", "200"},
                                                                   {"max-deadline-ms", "3000"},
                                                                   {"reply-timeout-s", "7"},
                                                                   {"receive-window-bytes", "65536"},
                                                                   {"max-connections", "300"},
                                                                   {"max-connections-per-address", "30"},
                                                                   {"abuse-pause-s", "3"},
                                                                   {"max-streams", "64"},
                                                                   {"max-header-bytes", "8192"},
                                                                   {"idle-timeout-s", "60"},
                                                                   {"max-connection-age-s", "600"},
                                                                   {"connection-age-grace-s", "90"},
                                                                   {"tls-cert", "/tls/cert.pem"},
                                                                   {"tls-key", "/tls/key.pem"},
                                                                   {"tls-client-ca", "/tls/ca.pem"},
                                                                   {"lame-duck-s", "4"},
                                                                   {"shutdown-grace-s", "2"},
                                                                   {"log-level", "debug"},
                                                                   {"log-format", "json"},
                                                                   {"access-log-per-s", "3"},
                                                                   {"otlp-endpoint", "http://[::1]:4318"}};
  ASSERT_EQ(EffectiveValues(ServerOptions()).size(), values.size());

  std::vector<std::string> flags;
  std::string file;
  for (const auto& [name, value] : values) {
    flags.push_back("--" + name + "=" + value);
    file += name + " = \"" + value + "\"\n";
  }
  std::vector<const char*> argv;
  for (const std::string& flag : flags) argv.push_back(flag.c_str());
  const auto from_flags = ParseFlags(argv);
  ASSERT_THAT(from_flags, IsOk());
  EXPECT_EQ(EffectiveValues(from_flags->options), values);

  const auto from_file = ParseFlags({"--config", WriteConfig(file).c_str()});
  ASSERT_THAT(from_file, IsOk());
  EXPECT_EQ(EffectiveValues(from_file->options), values);

  for (const auto& [name, value] : values) {
    std::string variable = "HEADLIGHT_";
    for (char c : name) variable += c == '-' ? '_' : static_cast<char>(std::toupper(c));
    const ScopedVariable scoped(variable.c_str(), value.c_str());
    const auto from_environment =
        ParseFlags({"--model-repository=/models", "--allow-plaintext"});  // for what needs them
    ASSERT_THAT(from_environment, IsOk());
    EXPECT_THAT(EffectiveValues(from_environment->options), Contains(Pair(name, value)));
  }
}

TEST(OptionsTest, AFlagBeatsTheEnvironmentAndTheEnvironmentBeatsTheFile) {
  const std::string path = WriteConfig("threads = 1\nmax-batch-tokens = 1\nqueue-max-requests = 1\n");
  const ScopedVariable threads("HEADLIGHT_THREADS", "2");
  const ScopedVariable tokens("HEADLIGHT_MAX_BATCH_TOKENS", "2");
  const auto line = ParseFlags({"--threads=3", "--config", path.c_str()});
  ASSERT_THAT(line, IsOk());
  EXPECT_EQ(line->options.threads, 3);
  EXPECT_EQ(line->options.max_batch_tokens, 2);
  EXPECT_EQ(line->options.queue_max_requests, 1);
}

TEST(OptionsTest, TheFileMayBeNamedByTheEnvironment) {
  const ScopedVariable config("HEADLIGHT_CONFIG",
                              WriteConfig("# a comment\nthreads = 4  # and another\n").c_str());
  const auto line = ParseFlags({});
  ASSERT_THAT(line, IsOk());
  EXPECT_EQ(line->options.threads, 4);
}

TEST(OptionsTest, TheLastOfARepeatedFlagCounts) {
  const auto line = ParseFlags({"--threads=1", "--threads=2"});
  ASSERT_THAT(line, IsOk());
  EXPECT_EQ(line->options.threads, 2);
}

TEST(OptionsTest, AWrongValueIsRefusedWhereverItComesFrom) {
  EXPECT_THAT(ParseFlags({"--threads=many"}),
              Refused("--threads or HEADLIGHT_THREADS: got \"many\", wanted a whole number from 0"));
  const std::string path = WriteConfig("threads = 1.5\n");
  EXPECT_THAT(ParseFlags({"--config", path.c_str()}),
              Refused(path + ": threads: got \"1.5\", wanted a whole number from 0"));
  const ScopedVariable threads("HEADLIGHT_THREADS", "-1");
  EXPECT_THAT(ParseFlags({}), Refused("HEADLIGHT_THREADS: got \"-1\", wanted a whole number from 0 to 4096"));
}

TEST(OptionsTest, NumbersOutsideTheirRangeAreRefused) {
  EXPECT_THAT(ParseFlags({"--max-message-bytes=2147483648"}),
              Refused("wanted a whole number from 65536 to 2147483647"));
  EXPECT_THAT(ParseFlags({"--max-batch-tokens=0"}), Refused("wanted a whole number from 1"));
  EXPECT_THAT(ParseFlags({"--max-batch-tokens=99999999999999999999"}),
              Refused("wanted a whole number from 1"));
  EXPECT_THAT(ParseFlags({"--threads="}), Refused("threads"));
}

TEST(OptionsTest, AChoiceNamesWhatThereIs) {
  EXPECT_THAT(ParseFlags({"--log-level=loud"}), Refused("got \"loud\", wanted debug|info|warn|error"));
  EXPECT_THAT(ParseFlags({"--log-format=xml"}), Refused("got \"xml\", wanted text|json"));
}

TEST(OptionsTest, ModelsAreBuiltInOnesEachOnce) {
  const auto line = ParseFlags({"--models=demo-gqa,demo", "--precision=int8"});
  ASSERT_THAT(line, IsOk());
  EXPECT_THAT(line->options.models, ::testing::ElementsAre("demo-gqa", "demo"));
  EXPECT_EQ(line->options.precision, (PrecisionChoice{Precision::kInt8, {}}));
  EXPECT_THAT(ParseFlags({"--models=demo,bert"}),
              Refused("got \"bert\", wanted names out of demo, demo-gqa, demo-alibi, separated by commas"));
  EXPECT_THAT(ParseFlags({"--models="}), Refused("--models"));
  EXPECT_THAT(ParseFlags({"--models=demo,"}), Refused("got \"\", wanted names out of"));
  EXPECT_THAT(ParseFlags({"--models=demo,demo"}), Refused("got \"demo\" twice, wanted each name once"));
  EXPECT_THAT(ParseFlags({"--precision=f64"}), Refused("got \"f64\", wanted f32|bf16|int8"));
  EXPECT_THAT(ParseFlags({"--parameters-precision=int4"}), Refused("got \"int4\", wanted f32|bf16|int8"));
}

TEST(OptionsTest, ASwitchAloneMeansTrue) {
  const auto alone = ParseFlags({"--allow-model-control", "--threads=3"});
  ASSERT_THAT(alone, IsOk());
  EXPECT_TRUE(alone->options.allow_model_control);
  EXPECT_EQ(alone->options.threads, 3);
  const auto off = ParseFlags({"--allow-model-control=false"});
  ASSERT_THAT(off, IsOk());
  EXPECT_FALSE(off->options.allow_model_control);
  EXPECT_THAT(ParseFlags({"--allow-model-control=maybe"}), Refused("got \"maybe\", wanted true or false"));
}

TEST(OptionsTest, WhatNeedsARepositorySaysSo) {
  EXPECT_THAT(ParseFlags({"--load=bert"}), Refused("--load: got bert, wanted --model-repository with it"));
  EXPECT_THAT(ParseFlags({"--repository-poll-s=1"}), Refused("wanted --model-repository or --model with it"));
  EXPECT_THAT(ParseFlags({"--model-repository=/m", "--load=a,a"}), Refused("got \"a\" twice"));
  EXPECT_THAT(ParseFlags({"--model-repository=/m", "--repository-poll-s=-1"}),
              Refused("got \"-1\", wanted a number from 0 to 86400"));
  EXPECT_THAT(ParseFlags({"--model-repository=/m", "--repository-poll-s=nan"}), Refused("wanted a number"));
}

TEST(OptionsTest, ARetiredOptionIsToldOfAndChangesNothing) {
  for (const auto& line : {ParseFlags({"--queue-max-bytes=1000"}),
                           ParseFlags({"--config", WriteConfig("queue-max-bytes = 1000\n").c_str()})}) {
    ASSERT_THAT(line, IsOk());
    EXPECT_THAT(line->warnings,
                ::testing::ElementsAre(
                    HasSubstr("queue-max-bytes has no effect: requests that wait count in --memory-limit")));
    EXPECT_EQ(EffectiveValues(line->options), EffectiveValues(ServerOptions()));
  }
  EXPECT_THAT(ParseFlags({})->warnings, ::testing::IsEmpty());
}

TEST(OptionsTest, TheFormerNameOfTheAdminPortStillSetsIt) {
  for (const auto& line : {ParseFlags({"--metrics-listen=[::]:9"}),
                           ParseFlags({"--config", WriteConfig("metrics-listen = \"[::]:9\"\n").c_str()})}) {
    ASSERT_THAT(line, IsOk());
    EXPECT_THAT(line->warnings,
                ::testing::ElementsAre(HasSubstr("metrics-listen has a new name: --admin-listen")));
    EXPECT_EQ(line->options.admin_listen, "[::]:9");
    EXPECT_TRUE(line->options.admin_listen_given);
  }
  const auto both = ParseFlags({"--metrics-listen=[::]:9", "--admin-listen=[::]:8"});
  ASSERT_THAT(both, IsOk());
  EXPECT_EQ(both->options.admin_listen, "[::]:8");
  EXPECT_FALSE(ParseFlags({})->options.admin_listen_given);
}

TEST(OptionsTest, WhatContradictsItselfIsRefused) {
  EXPECT_THAT(ParseFlags({"--memory-limit=1000", "--memory-for-models=1001"}),
              Refused("--memory-for-models: got 1001, wanted at most --memory-limit 1000"));
  EXPECT_THAT(ParseFlags({"--default-deadline-ms=200", "--max-deadline-ms=100"}),
              Refused("--default-deadline-ms: got 200, wanted at most --max-deadline-ms 100"));
  EXPECT_THAT(ParseFlags({"--default-deadline-ms=200"}), IsOk());
}

TEST(OptionsTest, TokensWantAConnectionThatNobodyReads) {
  EXPECT_THAT(ParseFlags({"--tokens", "t.toml"}),
              Refused("--tokens: got \"t.toml\" with --listen 127.0.0.1:8001"));
  EXPECT_THAT(ParseFlags({"--tokens", "t.toml", "--listen", "0.0.0.0:1"}), Refused("--allow-plaintext"));
  EXPECT_THAT(ParseFlags({"--tokens", "t.toml", "--allow-plaintext"}), IsOk());
  EXPECT_THAT(ParseFlags({"--tokens", "t.toml", "--listen", "unix:/run/h"}), IsOk());
}

TEST(OptionsTest, BesideTokensModelControlIsTheirs) {
  const auto line = ParseFlags({"--tokens", "t.toml", "--allow-plaintext", "--allow-model-control"});
  ASSERT_THAT(line, IsOk());
  EXPECT_THAT(line->warnings, Contains(HasSubstr("--allow-model-control has no effect")));
}

TEST(OptionsTest, OneFolderIsServedUnderAName) {
  const auto line = ParseFlags({"--model", "bert=/mnt/models", "--model=gpt=/gpt", "--repository-poll-s=1"});
  ASSERT_THAT(line, IsOk());
  EXPECT_THAT(line->options.model_folders,
              ::testing::ElementsAre(Pair("bert", "/mnt/models"), Pair("gpt", "/gpt")));
  EXPECT_THAT(ParseFlags({"--model=/mnt/models"}), Refused("got \"/mnt/models\", wanted NAME=DIR"));
  EXPECT_THAT(ParseFlags({"--model=a=/b", "--model=a=/c"}), Refused("got \"a\" twice"));
}

TEST(OptionsTest, TheDemoModelIsServedWhereNoOtherIsNamed) {
  const auto built_in = [](std::vector<const char*> flags) {
    return BuiltInModelsToServe(ParseFlags(std::move(flags))->options);
  };
  EXPECT_THAT(built_in({}), ::testing::ElementsAre("demo"));
  EXPECT_THAT(built_in({"--models=demo-gqa"}), ::testing::ElementsAre("demo-gqa"));
  EXPECT_THAT(built_in({"--model-repository=/m"}), ::testing::IsEmpty());
  EXPECT_THAT(built_in({"--model=a=/a"}), ::testing::IsEmpty());
  EXPECT_THAT(built_in({"--model-repository=/m", "--models=demo"}), ::testing::ElementsAre("demo"));
}

TEST(OptionsTest, AListInTheFileIsAList) {
  const std::string path = WriteConfig(
      "models = [\"demo\", \"demo-gqa\"]\nmodel = [\"a=/a\", \"b=/b\"]\nprecision = [\"bf16\", "
      "\"demo=int8\"]\n");
  const auto line = ParseFlags({"--config", path.c_str()});
  ASSERT_THAT(line, IsOk());
  EXPECT_THAT(line->options.models, ::testing::ElementsAre("demo", "demo-gqa"));
  EXPECT_THAT(line->options.model_folders, ::testing::ElementsAre(Pair("a", "/a"), Pair("b", "/b")));
  EXPECT_EQ(ToText(line->options.precision), "bf16,demo=int8");
}

TEST(OptionsTest, UnknownFlagsAndArgumentsAreRefused) {
  EXPECT_THAT(ParseFlags({"--nonsense"}), Refused("--nonsense"));
  EXPECT_THAT(ParseFlags({"stray"}), Refused("stray"));
}

TEST(OptionsTest, TheFileMayNotHoldWhatThereIsNot) {
  std::string path = WriteConfig("nonsense = 1\n");
  EXPECT_THAT(ParseFlags({"--config", path.c_str()}), Refused("nonsense: there is no such option"));
  path = WriteConfig("[section]\nthreads = 1\n");
  EXPECT_THAT(ParseFlags({"--config", path.c_str()}), Refused("there is no such option"));
  path = WriteConfig("threads = [1, 2]\n");
  EXPECT_THAT(ParseFlags({"--config", path.c_str()}), Refused("threads: got 2 values, wanted one"));
}

TEST(OptionsTest, AFileThatCannotBeReadIsRefused) {
  EXPECT_THAT(ParseFlags({"--config", "/nowhere/headlight.toml"}),
              Refused("--config: cannot read \"/nowhere/headlight.toml\""));
  EXPECT_THAT(ParseFlags({"--config", ::testing::TempDir().c_str()}), Refused("--config: cannot read"));
}

TEST(OptionsTest, HelpShowsUnitsDefaultsAndVariables) {
  const auto line = ParseFlags({"--help"});
  ASSERT_THAT(line, IsOk());
  EXPECT_THAT(line->print, AllOf(HasSubstr("--max-message-bytes BYTES [0]"),
                                 HasSubstr("HEADLIGHT_MAX_MESSAGE_BYTES"), HasSubstr("--config FILE")));
}

TEST(OptionsTest, VersionIsTheProjectsOwn) {
  const auto line = ParseFlags({"--version"});
  ASSERT_THAT(line, IsOk());
  EXPECT_THAT(line->print, ::testing::MatchesRegex("headlight-server [0-9]+\\.[0-9]+\\.[0-9]+\n"));
}

}  // namespace
}  // namespace headlight
