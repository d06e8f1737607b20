// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "core/checkpoint/folder.h"
#include "server/program/program_commands.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using testing::IsOk;

class InitModelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = ::testing::TempDir() + ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  int Run(std::vector<const char*> flags) {
    flags.insert(flags.begin(),
                 {"init-model", "--embed-dim", "8", "--num-heads", "2", "--out", folder_.c_str()});
    return RunInitModel(static_cast<int>(flags.size()), flags.data(), out_, err_);
  }

  std::string folder_;
  std::ostringstream out_, err_;
};

TEST_F(InitModelTest, ThePrecisionIsLeftToTheServer) {
  ASSERT_EQ(Run({}), 0) << err_.str();
  const auto summary = InspectModelFolder(folder_);
  ASSERT_THAT(summary, IsOk());
  EXPECT_EQ(summary->precision, std::nullopt);
}

TEST_F(InitModelTest, APrecisionThatIsAskedForIsWritten) {
  ASSERT_EQ(Run({"--precision", "bf16"}), 0) << err_.str();
  const auto summary = InspectModelFolder(folder_);
  ASSERT_THAT(summary, IsOk());
  EXPECT_EQ(summary->precision, Precision::kBf16);
}

TEST_F(InitModelTest, AnUnknownPrecisionIsWrongUsage) { EXPECT_EQ(Run({"--precision", "f64"}), 2); }

}  // namespace
}  // namespace headlight
