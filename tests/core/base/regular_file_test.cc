// SPDX-License-Identifier: Apache-2.0
#include "core/base/regular_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <utility>

#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace headlight {
namespace {

using testing::IsOk;
using ::testing::StartsWith;
using testing::StatusIs;
using testing::TempFolder;

TEST(RegularFileTest, IsOpenForReadingAndKnowsItsSize) {
  const TempFolder folder;
  const absl::StatusOr<RegularFile> file = RegularFile::Open(folder.Write("file", "words"));
  ASSERT_THAT(file, IsOk());
  EXPECT_EQ(file->size_bytes(), 5);
  char bytes[8] = {};
  EXPECT_EQ(read(file->descriptor(), bytes, sizeof(bytes)), 5);
  EXPECT_EQ(std::string(bytes), "words");
}

TEST(RegularFileTest, ClosesItsDescriptorOnce) {
  const TempFolder folder;
  int descriptor = -1;
  {
    absl::StatusOr<RegularFile> file = RegularFile::Open(folder.Write("file", "words"));
    ASSERT_THAT(file, IsOk());
    const RegularFile moved = *std::move(file);
    descriptor = moved.descriptor();
    struct stat status;
    EXPECT_EQ(fstat(descriptor, &status), 0);
  }
  struct stat status;
  EXPECT_EQ(fstat(descriptor, &status), -1) << "still open";
}

TEST(RegularFileTest, WhatIsNotThereIsNotFound) {
  const TempFolder folder;
  EXPECT_THAT(RegularFile::Open(folder.File("none")),
              StatusIs(absl::StatusCode::kNotFound, StartsWith(folder.File("none"))));
}

// A pipe that nobody writes to: opening it as a file would wait.
TEST(RegularFileTest, FoldersPipesAndDevicesAreRefusedAtOnce) {
  const TempFolder folder;
  ASSERT_EQ(mkfifo(folder.File("pipe").c_str(), 0600), 0);
  for (const std::string& path : {folder.path(), folder.File("pipe"), std::string("/dev/null")}) {
    EXPECT_THAT(RegularFile::Open(path), StatusIs(absl::StatusCode::kInvalidArgument, StartsWith(path)));
  }
}

TEST(RegularFileTest, ALinkIsWhatItPointsTo) {
  const TempFolder folder;
  std::filesystem::create_symlink(folder.Write("file", "words"), folder.File("link"));
  const absl::StatusOr<RegularFile> file = RegularFile::Open(folder.File("link"));
  ASSERT_THAT(file, IsOk());
  EXPECT_EQ(file->size_bytes(), 5);
}

}  // namespace
}  // namespace headlight
