// SPDX-License-Identifier: Apache-2.0
#include "core/base/atomic_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace headlight {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::IsOk;
using ::testing::StartsWith;
using testing::StatusIs;

class AtomicFileTest : public ::testing::Test {
 protected:
  absl::Status WriteTo(AtomicFile& file, const std::string& text) {
    return file.Write(std::as_bytes(std::span(text)));
  }
  std::optional<std::string> Read() const {
    std::ifstream file(path_, std::ios::binary);
    if (!file) return std::nullopt;
    return std::string(std::istreambuf_iterator<char>(file), {});
  }
  int64_t NumFiles() const { return std::distance(fs::directory_iterator(folder_.path()), {}); }

  const testing::TempFolder folder_;
  const std::string path_ = folder_.File("file");
};

TEST_F(AtomicFileTest, AppearsWholeWithCommitAndNotBefore) {
  ASSERT_THAT(WriteFileAtomically(path_, "old"), IsOk());
  absl::StatusOr<AtomicFile> file = AtomicFile::Create(path_);
  ASSERT_THAT(file, IsOk());
  ASSERT_THAT(WriteTo(*file, "ne"), IsOk());
  ASSERT_THAT(WriteTo(*file, "w"), IsOk());
  EXPECT_EQ(Read(), "old");
  ASSERT_THAT(file->Commit(), IsOk());
  EXPECT_EQ(Read(), "new");
  EXPECT_EQ(NumFiles(), 1);
}

TEST_F(AtomicFileTest, LeavesNothingWithoutCommit) {
  {
    absl::StatusOr<AtomicFile> file = AtomicFile::Create(path_);
    ASSERT_THAT(file, IsOk());
    ASSERT_THAT(WriteTo(*file, "half"), IsOk());
    const AtomicFile moved = *std::move(file);
    EXPECT_EQ(NumFiles(), 1);
  }
  EXPECT_EQ(NumFiles(), 0);
}

TEST_F(AtomicFileTest, TwoOfOneNameDoNotMix) {
  absl::StatusOr<AtomicFile> first = AtomicFile::Create(path_);
  absl::StatusOr<AtomicFile> second = AtomicFile::Create(path_);
  ASSERT_THAT(first, IsOk());
  ASSERT_THAT(second, IsOk());
  ASSERT_THAT(WriteTo(*second, "second"), IsOk());
  ASSERT_THAT(WriteTo(*first, "first"), IsOk());
  ASSERT_THAT(second->Commit(), IsOk());
  EXPECT_EQ(Read(), "second");
  ASSERT_THAT(first->Commit(), IsOk());
  EXPECT_EQ(Read(), "first");
}

TEST_F(AtomicFileTest, WithoutItsFolderThereIsNone) {
  const std::string path = folder_.File("missing/file");
  EXPECT_THAT(WriteFileAtomically(path, "text"),
              StatusIs(absl::StatusCode::kNotFound, AllOf(StartsWith(path), HasSubstr("cannot create"))));
}

TEST_F(AtomicFileTest, WhatCannotBeReplacedStaysAsItWas) {
  fs::create_directories(fs::path(path_) / "inside");
  EXPECT_FALSE(WriteFileAtomically(path_, "text").ok());
  EXPECT_TRUE(fs::exists(fs::path(path_) / "inside"));
  EXPECT_EQ(NumFiles(), 1);
}

}  // namespace
}  // namespace headlight
