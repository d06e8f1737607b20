// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/safetensors_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <bit>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "core/checkpoint/safetensors.h"
#include "core/checkpoint/safetensors_header.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace headlight {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::IsOk;
using ::testing::Pair;
using ::testing::StartsWith;
using testing::StatusIs;
using testing::TempFolder;

// Names in the folder, to see that nothing else is left.
std::vector<std::string> Names(const TempFolder& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path()))
    names.push_back(entry.path().filename());
  return names;
}

TEST(SafetensorsWriter, WhatIsWrittenIsReadBackBitForBit) {
  const std::vector<float> odd = {std::bit_cast<float>(0x7fc12345u), -0.0f, 1e-45f,
                                  std::numeric_limits<float>::infinity(), 1.0f};
  const std::vector<float> scalar = {3.0f};
  TempFolder folder;
  const std::string path = folder.File("model.safetensors");
  ASSERT_THAT(WriteSafetensors(path,
                               {{"layer.0.weight", {.shape = {5, 1}, .data = odd.data()}},
                                {"\u03bb\n\"quoted\"", {.shape = {}, .data = scalar.data()}},
                                {"empty", {.shape = {0, 3}, .data = nullptr}}},
                               {{"format", "pt"}, {"note", "\u00e9"}}),
              IsOk());
  const auto file = SafetensorsFile::Open(path);
  ASSERT_THAT(file, IsOk());
  EXPECT_THAT((*file)->metadata(), ElementsAre(Pair("format", "pt"), Pair("note", "\u00e9")));
  ASSERT_EQ((*file)->entries().size(), 3u);
  const SafetensorsEntry& weight = (*file)->entries().at("layer.0.weight");
  EXPECT_EQ(weight.dtype, "F32");
  EXPECT_THAT(weight.shape, ElementsAre(5, 1));
  ASSERT_EQ(weight.bytes.size(), odd.size() * 4);
  EXPECT_EQ(std::memcmp(weight.bytes.data(), odd.data(), weight.bytes.size()), 0);
  EXPECT_THAT((*file)->entries().at("empty").shape, ElementsAre(0, 3));
  const auto read = ReadF32((*file)->entries().at("\u03bb\n\"quoted\""), "");
  ASSERT_THAT(read, IsOk());
  EXPECT_THAT(*read, ElementsAre(3.0f));
  EXPECT_THAT(Names(folder), ElementsAre("model.safetensors"));
}

TEST(SafetensorsWriter, DataBeginsAtAMultipleOfEightBytesWhateverTheHeader) {
  const float value = 1;
  TempFolder folder;
  for (size_t length = 1; length <= 16; ++length) {
    ASSERT_THAT(
        WriteSafetensors(folder.File("f"), {{std::string(length, 'n'), {.shape = {}, .data = &value}}}),
        IsOk());
    EXPECT_EQ((folder.Read("f").size() - sizeof(value)) % 8, 0u);
    EXPECT_THAT(SafetensorsFile::Open(folder.File("f")), IsOk());
  }
}

TEST(SafetensorsWriter, TheSameTensorsGiveTheSameBytes) {
  const std::vector<float> values = {1, 2, 3, 4};
  TempFolder folder;
  for (const char* name : {"x", "y"}) {
    ASSERT_THAT(WriteSafetensors(folder.File(name),
                                 {{"b", {.shape = {2}, .data = values.data()}},
                                  {"a", {.shape = {4}, .data = values.data()}}},
                                 {{"k", "v"}}),
                IsOk());
  }
  EXPECT_EQ(folder.Read("x"), folder.Read("y"));
}

TEST(SafetensorsWriter, AFileWithoutTensorsIsAFile) {
  TempFolder folder;
  ASSERT_THAT(WriteSafetensors(folder.File("f"), {}), IsOk());
  EXPECT_THAT(SafetensorsFile::Open(folder.File("f")), IsOk());
}

TEST(SafetensorsWriter, AnOlderFileIsReplacedAndStaysReadableWhereItIsMapped) {
  const std::vector<float> first = {1}, second = {2};
  TempFolder folder;
  const std::string path = folder.File("f");
  ASSERT_THAT(WriteSafetensors(path, {{"w", {.shape = {1}, .data = first.data()}}}), IsOk());
  const auto old = SafetensorsFile::Open(path);
  ASSERT_THAT(old, IsOk());
  ASSERT_THAT(WriteSafetensors(path, {{"w", {.shape = {1}, .data = second.data()}}}), IsOk());
  EXPECT_THAT(*ReadF32((*old)->entries().at("w"), ""), ElementsAre(1.0f));
  const auto replaced = SafetensorsFile::Open(path);
  ASSERT_THAT(replaced, IsOk());
  EXPECT_THAT(*ReadF32((*replaced)->entries().at("w"), ""), ElementsAre(2.0f));
}

TEST(SafetensorsWriter, AFailedWriteLeavesTheOldFileAndNothingElse) {
  const std::vector<float> small = {1}, large(100000, 2.0f);
  TempFolder folder;
  const std::string path = folder.File("f");
  ASSERT_THAT(WriteSafetensors(path, {{"w", {.shape = {1}, .data = small.data()}}}), IsOk());
  const std::string before = folder.Read("f");
  // A limit on the size of files stands for a full disk.
  const auto old_handler = signal(SIGXFSZ, SIG_IGN);
  rlimit old_limit;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old_limit), 0);
  const rlimit limit = {.rlim_cur = 65536, .rlim_max = old_limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  const absl::Status status = WriteSafetensors(path, {{"w", {.shape = {100000}, .data = large.data()}}});
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &old_limit), 0);
  signal(SIGXFSZ, old_handler);
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()),
              AllOf(StartsWith(path), HasSubstr("cannot write"), HasSubstr("File too large")));
  EXPECT_EQ(folder.Read("f"), before);
  EXPECT_THAT(Names(folder), ElementsAre("f"));
}

TEST(SafetensorsWriter, WhatTheReaderWouldRefuseIsNotWritten) {
  const float value = 1;
  const auto refused = [&](const std::string& name, const Shape& shape, const std::string& message) {
    TempFolder folder;
    const std::string path = folder.File("f");
    EXPECT_THAT(
        WriteSafetensors(path, {{name, {.shape = shape, .data = shape.empty() ? &value : nullptr}}}),
        StatusIs(absl::StatusCode::kInvalidArgument, AllOf(StartsWith(path + ": "), HasSubstr(message))));
    EXPECT_TRUE(Names(folder).empty());
  };
  refused("__metadata__", {}, "the format keeps this name for itself");
  refused(std::string(kMaxTensorNameBytes + 1, 'n'), {}, "name: got 1025 bytes, wanted at most 1024");
  refused("w", Shape(kMaxTensorRank + 1, 1), "shape: got 65 dimensions, wanted at most 64");
  refused("w", {-1}, "tensor \"w\": shape: got [-1]");
  refused("w", {int64_t{1} << 62}, "tensor \"w\": shape: got [4611686018427387904]");
  refused("w", {2}, "tensor \"w\": data: got null, wanted 2 elements");
  refused("w\xff", {}, "not UTF-8");
}

TEST(SafetensorsWriter, AFolderThatIsNotThereIsNamed) {
  TempFolder folder;
  EXPECT_THAT(WriteSafetensors(folder.File("none/f"), {}),
              StatusIs(absl::StatusCode::kNotFound,
                       AllOf(StartsWith(folder.File("none/f")), HasSubstr("cannot create"))));
}

}  // namespace
}  // namespace headlight
