// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/shards.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <string>
#include <utility>

#include "tests/core/checkpoint/corrupt_files.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace headlight {
namespace {

using ::testing::AllOf;
using testing::CorruptFolder;
using testing::CorruptFolders;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::IsOk;
using ::testing::Key;
using testing::SafetensorsBytes;
using ::testing::StartsWith;
using testing::StatusIs;
using testing::TempFolder;

constexpr char kIndex[] = "model.safetensors.index.json";

// A file with one bf16 tensor [1] of value `value`, which bf16 has exactly.
std::string FileOf(const std::string& tensor, float value) {
  const std::string bytes = {static_cast<char>(std::bit_cast<uint32_t>(value) >> 16 & 0xff),
                             static_cast<char>(std::bit_cast<uint32_t>(value) >> 24)};
  return SafetensorsBytes("{\"" + tensor + R"(":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}})", bytes);
}

TEST(Shards, ReadsASingleFileOfAnyName) {
  for (const char* name : {"model.safetensors", "encoder.safetensors"}) {
    TempFolder folder;
    folder.Write(name, FileOf("w", 2));
    folder.Write("config.json", "{}");
    const auto checkpoint = Shards::Open(folder.path());
    ASSERT_THAT(checkpoint, IsOk());
    EXPECT_THAT(checkpoint->entries(), ElementsAre(Key("w")));
    EXPECT_THAT(*checkpoint->ReadF32("w"), ElementsAre(2.0f));
  }
}

TEST(Shards, ReadsTheShardsOfAnIndexAndNoOtherFile) {
  TempFolder folder;
  folder.Write("m-1.safetensors", FileOf("a", 1));
  folder.Write("m-2.safetensors", FileOf("b", 2));
  folder.Write("stray.safetensors", "not read");
  folder.Write(kIndex,
               R"({"metadata":{"total_size":4},"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors"}})");
  auto opened = Shards::Open(folder.path());
  ASSERT_THAT(opened, IsOk());
  const Shards moved = *std::move(opened);  // the files stay mapped where they are
  EXPECT_THAT(moved.entries(), ElementsAre(Key("a"), Key("b")));
  EXPECT_THAT(*moved.ReadF32("a"), ElementsAre(1.0f));
  EXPECT_THAT(*moved.ReadF32("b"), ElementsAre(2.0f));
}

TEST(Shards, HasTheTensorsOfAShardThatTheIndexForgets) {
  TempFolder folder;
  folder.Write("m-1.safetensors",
               SafetensorsBytes(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                R"("inv_freq":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                                "xy"));
  folder.Write(kIndex, R"({"weight_map":{"a":"m-1.safetensors"}})");
  const auto checkpoint = Shards::Open(folder.path());
  ASSERT_THAT(checkpoint, IsOk());
  EXPECT_THAT(checkpoint->entries(), ElementsAre(Key("a"), Key("inv_freq")));
}

TEST(Shards, WhereFilesOverlapTheIndexDecides) {
  TempFolder folder;
  folder.Write("base.safetensors",
               SafetensorsBytes(R"({"a":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]},)"
                                R"("b":{"dtype":"BF16","shape":[1],"data_offsets":[2,4]}})",
                                std::string("\x80\x3f\x80\x3f", 4)));
  folder.Write("tuned.safetensors", FileOf("b", 2));
  folder.Write(kIndex, R"({"weight_map":{"a":"base.safetensors","b":"tuned.safetensors"}})");
  const auto checkpoint = Shards::Open(folder.path());
  ASSERT_THAT(checkpoint, IsOk());
  EXPECT_THAT(*checkpoint->ReadF32("a"), ElementsAre(1.0f));
  EXPECT_THAT(*checkpoint->ReadF32("b"), ElementsAre(2.0f));
}

TEST(Shards, WhereItDoesNotDecideTheyAreRefused) {
  TempFolder folder;
  folder.Write("base.safetensors", FileOf("b", 1));
  folder.Write("tuned.safetensors",
               SafetensorsBytes(R"({"a":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]},)"
                                R"("b":{"dtype":"BF16","shape":[1],"data_offsets":[2,4]}})",
                                "abcd"));
  folder.Write("more.safetensors", FileOf("c", 1));
  folder.Write(kIndex, R"({"weight_map":{"a":"tuned.safetensors","c":"more.safetensors"}})");
  EXPECT_THAT(Shards::Open(folder.path()), IsOk()) << "a file that is not listed is not read";
  folder.Write("more.safetensors",
               SafetensorsBytes(R"({"b":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]},)"
                                R"("c":{"dtype":"BF16","shape":[1],"data_offsets":[2,4]}})",
                                "abcd"));
  EXPECT_THAT(Shards::Open(folder.path()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("tensor \"b\": got it in more.safetensors and tuned.safetensors")));
}

// safetensors.torch.save_model leaves out all but one of the names of a tensor, and says so in the metadata.
TEST(Shards, TensorsThatWereSavedUnderAnotherNameAreThere) {
  TempFolder folder;
  folder.Write("model.safetensors",
               SafetensorsBytes(R"({"__metadata__":{"format":"pt","table":"head","gone":"nothing"},)"
                                R"("head":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}})",
                                std::string("\x80\x3f", 2)));
  const auto checkpoint = Shards::Open(folder.path());
  ASSERT_THAT(checkpoint, IsOk());
  EXPECT_THAT(checkpoint->entries(), ElementsAre(Key("head"), Key("table")));
  EXPECT_THAT(*checkpoint->ReadF32("table"), ElementsAre(1.0f));
}

TEST(Shards, WhatWrappersPutBeforeAllNamesIsTakenOff) {
  for (const char* wrapper : {"_orig_mod.", "module.", "module._orig_mod."}) {
    TempFolder folder;
    folder.Write("model.safetensors", FileOf(wrapper + std::string("w"), 2));
    const auto checkpoint = Shards::Open(folder.path());
    ASSERT_THAT(checkpoint, IsOk());
    EXPECT_THAT(checkpoint->entries(), ElementsAre(Key("w")));
    EXPECT_EQ(checkpoint->wrapper(), wrapper);
  }
  TempFolder folder;  // "module." as a part of the model
  folder.Write("m-1.safetensors", FileOf("module.w", 1));
  folder.Write("m-2.safetensors", FileOf("head", 2));
  folder.Write(kIndex, R"({"weight_map":{"module.w":"m-1.safetensors","head":"m-2.safetensors"}})");
  const auto checkpoint = Shards::Open(folder.path());
  ASSERT_THAT(checkpoint, IsOk());
  EXPECT_THAT(checkpoint->entries(), ElementsAre(Key("head"), Key("module.w")));
}

TEST(Shards, ASingleFileComesBeforeAnIndexAsInTransformers) {
  TempFolder folder;
  folder.Write("model.safetensors", FileOf("new", 1));
  folder.Write(kIndex, R"({"weight_map":{"old":"model-00001-of-00002.safetensors"}})");
  const auto checkpoint = Shards::Open(folder.path());
  ASSERT_THAT(checkpoint, IsOk());
  EXPECT_THAT(checkpoint->entries(), ElementsAre(Key("new")));
}

TEST(Shards, FollowsSymbolicLinksAsHuggingFaceCachesHaveThem) {
  TempFolder cache;
  cache.Write("blob", FileOf("w", 2));
  std::filesystem::create_directories(cache.File("snapshot"));
  std::filesystem::create_symlink("../blob", cache.File("snapshot/model.safetensors"));
  const auto checkpoint = Shards::Open(cache.File("snapshot"));
  ASSERT_THAT(checkpoint, IsOk());
  EXPECT_THAT(*checkpoint->ReadF32("w"), ElementsAre(2.0f));
}

TEST(Shards, TellsWhichTensorCannotBeRead) {
  TempFolder folder;
  folder.Write("model.safetensors",
               SafetensorsBytes(R"({"ids":{"dtype":"I64","shape":[0],"data_offsets":[0,0]}})", ""));
  const auto checkpoint = Shards::Open(folder.path());
  ASSERT_THAT(checkpoint, IsOk());
  EXPECT_NE(checkpoint->Find("ids"), nullptr);
  EXPECT_EQ(checkpoint->Find("w"), nullptr);
  EXPECT_THAT(checkpoint->ReadF32("w"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(StartsWith(folder.path()), HasSubstr("tensor \"w\""))));
}

TEST(Shards, OtherDtypesAreNotReadAsF32EvenIfEmpty) {
  TempFolder folder;
  folder.Write("model.safetensors",
               SafetensorsBytes(R"({"ids":{"dtype":"I64","shape":[0],"data_offsets":[0,0]}})", ""));
  const auto checkpoint = Shards::Open(folder.path());
  ASSERT_THAT(checkpoint, IsOk());
  EXPECT_THAT(checkpoint->ReadF32("ids"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("tensor \"ids\": dtype: got \"I64\"")));
}

TEST(Shards, CorruptFoldersAreRefusedByNameAndReason) {
  double slowest_ms = 0;
  std::string slowest;
  for (const CorruptFolder& corrupt : CorruptFolders()) {
    SCOPED_TRACE(corrupt.name);
    TempFolder folder;
    for (const auto& [name, bytes] : corrupt.files) folder.Write(name, bytes);
    const auto start = std::chrono::steady_clock::now();
    const auto opened = Shards::Open(folder.path());
    const double ms =
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    if (ms > slowest_ms) slowest_ms = ms, slowest = corrupt.name;
    EXPECT_THAT(opened, StatusIs(corrupt.code, StartsWith(folder.path())));
    for (const std::string& part : corrupt.message_parts)
      EXPECT_THAT(opened, StatusIs(corrupt.code, HasSubstr(part)));
  }
  std::cout << CorruptFolders().size() << " corrupt folders refused, at most " << slowest_ms << " ms each ("
            << slowest << ")\n";
}

TEST(Shards, AnEndlessIndexIsNotRead) {
  TempFolder folder;
  folder.Write(kIndex, "{}");
  std::filesystem::resize_file(folder.File(kIndex), uint64_t{1} << 40);  // takes no space: it is a hole
  EXPECT_THAT(
      Shards::Open(folder.path()),
      StatusIs(absl::StatusCode::kInvalidArgument,
               AllOf(HasSubstr(kIndex), HasSubstr("got 1099511627776 bytes, wanted at most 33554432"))));
}

TEST(Shards, WhatIsNoFolderOrNoFileIsNamed) {
  TempFolder folder;
  EXPECT_THAT(Shards::Open(folder.File("none")),
              StatusIs(absl::StatusCode::kNotFound, StartsWith(folder.File("none"))));
  folder.Write("file", "");
  EXPECT_THAT(std::string(Shards::Open(folder.File("file")).status().message()),
              StartsWith(folder.File("file")));
  std::filesystem::create_directories(folder.File("model.safetensors"));
  EXPECT_THAT(Shards::Open(folder.path()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("got a folder")));
}

}  // namespace
}  // namespace headlight
