// SPDX-License-Identifier: Apache-2.0
#include "client/cli/write_file.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "tests/testing/status_matchers.h"

namespace headlight::client {
namespace {

using ::headlight::testing::IsOk;
using ::headlight::testing::StatusIs;

TEST(WriteFileTest, WritesBytesAsTheyAreInPlaceOfWhatWasThere) {
  const std::string path = ::testing::TempDir() + "/headlight_write_file_test";
  std::ostringstream out;
  ASSERT_THAT(WriteFile(path, "something longer", out), IsOk());
  const std::string bytes("a\r\n\0b", 5);
  ASSERT_THAT(WriteFile(path, bytes, out), IsOk());
  std::ostringstream read;
  read << std::ifstream(path, std::ios::binary).rdbuf();
  std::filesystem::remove(path);
  EXPECT_EQ(read.str(), bytes);
  EXPECT_EQ(out.str(), "");
}

TEST(WriteFileTest, ADashIsTheStreamThatIsGiven) {
  std::ostringstream out;
  ASSERT_THAT(WriteFile("-", "text", out), IsOk());
  EXPECT_EQ(out.str(), "text");
  out.setstate(std::ios::badbit);
  EXPECT_THAT(WriteFile("-", "text", out),
              StatusIs(absl::StatusCode::kUnavailable, "standard output: cannot be written"));
}

TEST(WriteFileTest, FailuresNameTheFileAndTheReason) {
  std::ostringstream out;
  EXPECT_THAT(WriteFile("/no/such/folder/file", "text", out),
              StatusIs(absl::StatusCode::kUnavailable,
                       "/no/such/folder/file: cannot be written: No such file or directory"));
  EXPECT_THAT(
      WriteFile(::testing::TempDir(), "text", out),
      StatusIs(absl::StatusCode::kUnavailable, ::testing::TempDir() + ": cannot be written: Is a directory"));
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  EXPECT_THAT(
      WriteFile("/dev/full", std::string(1 << 20, 'x'), out),
      StatusIs(absl::StatusCode::kUnavailable, "/dev/full: cannot be written: No space left on device"));
}

}  // namespace
}  // namespace headlight::client
