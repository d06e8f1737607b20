// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <limits>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "core/checkpoint/safetensors_header.h"
#include "tests/core/checkpoint/corrupt_files.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace headlight {
namespace {

using testing::CorruptFile;
using testing::CorruptFiles;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::IsOk;
using ::testing::Pair;
using testing::SafetensorsBytes;
using ::testing::StartsWith;
using testing::StatusIs;
using testing::TempFolder;

absl::StatusOr<std::unique_ptr<const SafetensorsFile>> Parse(const std::string& bytes,
                                                             const std::string& name = "f") {
  return SafetensorsFile::FromBytes(std::as_bytes(std::span(bytes)), name);
}

std::string Text(const SafetensorsEntry& entry) {
  return std::string(static_cast<const char*>(static_cast<const void*>(entry.bytes.data())),
                     entry.bytes.size());
}

// The bytes of numbers, as they lie in memory.
template <typename T>
std::string Bytes(const std::vector<T>& values) {
  std::string bytes(values.size() * sizeof(T), '\0');
  if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

TEST(Safetensors, TellsNamesDtypesShapesBytesAndMetadata) {
  // The tensors lie in another order than that of their names; one begins at an odd address.
  const std::string bytes =
      SafetensorsBytes(R"({"__metadata__":{"format":"pt","k\u00e9y":""},)"
                       R"("z.weight":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},)"
                       R"("a.weight":{"data_offsets":[3,11],"shape":[1,2],"dtype":"F32"},)"
                       R"("scalar":{"dtype":"BOOL","shape":[],"data_offsets":[11,12]},)"
                       R"("none":{"dtype":"I64","shape":[7,0],"data_offsets":[11,11]},)"
                       R"("":{"dtype":"F4","shape":[2],"data_offsets":[12,13]}}   )",
                       "zzzaaaaaaaas4");
  TempFolder folder;
  const std::string path = folder.Write("x.safetensors", bytes);
  const auto mapped = SafetensorsFile::Open(path);
  ASSERT_THAT(mapped, IsOk());
  const auto parsed = Parse(bytes);
  ASSERT_THAT(parsed, IsOk());
  for (const SafetensorsFile* file : {mapped->get(), parsed->get()}) {
    EXPECT_THAT(file->metadata(), ElementsAre(Pair("format", "pt"), Pair("k\u00e9y", "")));
    ASSERT_EQ(file->entries().size(), 5u);
    EXPECT_EQ(file->entries().at("z.weight").dtype, "U8");
    EXPECT_EQ(Text(file->entries().at("z.weight")), "zzz");
    EXPECT_EQ(file->entries().at("a.weight").dtype, "F32");
    EXPECT_THAT(file->entries().at("a.weight").shape, ElementsAre(1, 2));
    EXPECT_EQ(Text(file->entries().at("a.weight")), "aaaaaaaa");
    EXPECT_THAT(file->entries().at("scalar").shape, IsEmpty());
    EXPECT_EQ(Text(file->entries().at("scalar")), "s");
    EXPECT_THAT(file->entries().at("none").shape, ElementsAre(7, 0));
    EXPECT_EQ(Text(file->entries().at("none")), "");
    EXPECT_EQ(Text(file->entries().at("")), "4");
  }
}

TEST(Safetensors, AFileMayHoldNoTensors) {
  const auto file = Parse(SafetensorsBytes("{}", ""));
  ASSERT_THAT(file, IsOk());
  EXPECT_THAT((*file)->entries(), IsEmpty());
  EXPECT_THAT((*file)->metadata(), IsEmpty());
}

TEST(Safetensors, MetadataMayBeNull) {
  const auto file = Parse(
      SafetensorsBytes(R"({"__metadata__":null,"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "x"));
  ASSERT_THAT(file, IsOk());
  EXPECT_THAT((*file)->metadata(), IsEmpty());
  EXPECT_EQ((*file)->entries().size(), 1u);
  EXPECT_THAT(Parse(SafetensorsBytes(R"({"w":null})", "x")),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("got null")));
}

TEST(Safetensors, APointerOfGitLfsIsSaidToBeOne) {
  EXPECT_THAT(Parse("version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 5\n"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("git lfs pull")));
}

TEST(Safetensors, EveryDtypeOfTheFormatIsKnownByItsSize) {
  for (const char* dtype : {"BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"})
    EXPECT_EQ(SafetensorsDtypeBits(dtype), 8);
  for (const char* dtype : {"I16", "U16", "F16", "BF16"}) EXPECT_EQ(SafetensorsDtypeBits(dtype), 16);
  for (const char* dtype : {"I32", "U32", "F32"}) EXPECT_EQ(SafetensorsDtypeBits(dtype), 32);
  for (const char* dtype : {"I64", "U64", "F64"}) EXPECT_EQ(SafetensorsDtypeBits(dtype), 64);
  EXPECT_EQ(SafetensorsDtypeBits("F31"), std::nullopt);
}

TEST(Safetensors, LimitsAreReachable) {
  const std::string name(kMaxTensorNameBytes, 'n');
  std::string shape = "[1";
  for (size_t i = 1; i < kMaxTensorRank; ++i) shape += ",1";
  const auto file = Parse(SafetensorsBytes(
      "{\"" + name + R"(":{"dtype":"U8","shape":)" + shape + R"(],"data_offsets":[0,1]}})", "x"));
  ASSERT_THAT(file, IsOk());
  EXPECT_EQ((*file)->entries().at(name).shape.size(), kMaxTensorRank);
}

TEST(Safetensors, NumbersOfTensorsAndOfMetadataAreBounded) {
  // As small as they can be, these take more memory than text.
  std::string tensors = "{", metadata = R"({"__metadata__":{)";
  for (size_t i = 0; i <= kMaxSafetensorsEntries; ++i) {
    const std::string comma = i == 0 ? "" : ",";
    tensors += comma + '"' + std::to_string(i) + R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
    metadata += comma + '"' + std::to_string(i) + R"(":"")";
  }
  EXPECT_THAT(Parse(SafetensorsBytes(tensors + "}", "")),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("more than 131072 tensors")));
  EXPECT_THAT(
      Parse(SafetensorsBytes(metadata + "}}", "")),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("__metadata__: \"131071\": more than 131072")));
}

TEST(Safetensors, CorruptFilesAreRefusedByNameAndReason) {
  const std::vector<CorruptFile> cases = CorruptFiles();
  ASSERT_GE(cases.size(), 30u);
  TempFolder folder;
  double slowest_ms = 0;
  std::string slowest;
  std::set<std::string> names;
  for (const CorruptFile& file : cases) {
    SCOPED_TRACE(file.name);
    EXPECT_TRUE(names.insert(file.name).second) << "two cases of one name";
    const std::string path = folder.Write(file.name, file.bytes);
    const auto start = std::chrono::steady_clock::now();
    const auto opened = SafetensorsFile::Open(path);
    const double ms =
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    if (ms > slowest_ms) slowest_ms = ms, slowest = file.name;
    EXPECT_THAT(opened, StatusIs(absl::StatusCode::kInvalidArgument, StartsWith(path + ": ")));
    for (const std::string& part : file.message_parts) {
      EXPECT_THAT(opened, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(part)));
    }
    const std::string message(opened.status().message());
    EXPECT_LT(message.size(), path.size() + 1200);
    EXPECT_TRUE(std::all_of(message.begin(), message.end(), [](char c) { return c >= ' ' && c <= '~'; }))
        << message;
    // The same without a file.
    EXPECT_THAT(Parse(file.bytes, path), StatusIs(absl::StatusCode::kInvalidArgument, message));
  }
  std::cout << cases.size() << " corrupt files refused, at most " << slowest_ms << " ms each (" << slowest
            << ")\n";
}

TEST(Safetensors, EveryTruncationOfAFileIsRefused) {
  const std::string good = SafetensorsBytes(
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F16","shape":[1],"data_offsets":[8,10]}})",
      "aaaaaaaabb");
  ASSERT_THAT(Parse(good), IsOk());
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_THAT(Parse(good.substr(0, size)), StatusIs(absl::StatusCode::kInvalidArgument, StartsWith("f: ")))
        << size;
  }
}

TEST(Safetensors, WhatIsNoRegularFileIsNamed) {
  TempFolder folder;
  EXPECT_THAT(SafetensorsFile::Open(folder.File("none.safetensors")),
              StatusIs(absl::StatusCode::kNotFound, StartsWith(folder.File("none.safetensors"))));
  EXPECT_THAT(SafetensorsFile::Open(folder.path()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("got a folder, wanted a regular file")));
  ASSERT_EQ(mkfifo(folder.File("fifo").c_str(), 0600), 0);
  EXPECT_THAT(SafetensorsFile::Open(folder.File("fifo")),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("got a special file")));
}

TEST(Safetensors, AReplacedFileStaysReadableWhileItIsMapped) {
  TempFolder folder;
  const std::string json = R"({"w":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}})";
  const std::string path = folder.Write("w", SafetensorsBytes(json, "old"));
  const auto old = SafetensorsFile::Open(path);
  ASSERT_THAT(old, IsOk());
  std::filesystem::rename(folder.Write("new", SafetensorsBytes(json, "new")), path);
  EXPECT_EQ(Text((*old)->entries().at("w")), "old");
}

// One tensor of `dtype`, read as f32 from an odd address.
template <typename T>
absl::StatusOr<std::vector<float>> ReadAs(const std::string& dtype, const std::vector<T>& values) {
  const std::string data = Bytes(values);
  const std::string end = std::to_string(1 + data.size());
  const std::string bytes = SafetensorsBytes(
      R"({"pad":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"w":{"dtype":")" + dtype + R"(","shape":[)" +
          std::to_string(values.size()) + R"(],"data_offsets":[1,)" + end + "]}}",
      "x" + data);
  const auto file = Parse(bytes);
  if (!file.ok()) return file.status();
  return ReadF32((*file)->entries().at("w"), "f: tensor \"w\"");
}

TEST(Safetensors, FloatingPointTensorsAreReadAsF32) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const auto f32 = ReadAs<float>("F32", {1.5f, -0.0f, 3e-45f, kInf});
  ASSERT_THAT(f32, IsOk());
  EXPECT_THAT(*f32, ElementsAre(1.5f, -0.0f, 3e-45f, kInf));
  EXPECT_TRUE(std::signbit((*f32)[1]));
  const auto f16 = ReadAs<uint16_t>("F16", {0x3c00, 0xc000, 0x0001, 0x7bff, 0x7c00});
  ASSERT_THAT(f16, IsOk());
  EXPECT_THAT(*f16, ElementsAre(1.0f, -2.0f, 0x1p-24f, 65504.0f, kInf));
  const auto bf16 = ReadAs<uint16_t>("BF16", {0x3f80, 0xc000, 0x0001});
  ASSERT_THAT(bf16, IsOk());
  EXPECT_THAT(*bf16, ElementsAre(1.0f, -2.0f, 0x1p-133f));
  const auto f64 = ReadAs<double>("F64", {1.0, -0.1, 1.0 + 0x1p-24, 1.0 + 0x1p-24 + 0x1p-50, 1e300});
  ASSERT_THAT(f64, IsOk());
  EXPECT_THAT(*f64, ElementsAre(1.0f, -0.1f, 1.0f, 1.0f + 0x1p-23f, kInf));
  const auto none = ReadAs<float>("F32", {});
  ASSERT_THAT(none, IsOk());
  EXPECT_THAT(*none, IsEmpty());
}

TEST(Safetensors, OtherTensorsAreNotReadAsF32) {
  EXPECT_THAT(ReadAs<int64_t>("I64", {1}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       R"(f: tensor "w": dtype: got "I64", wanted F32, F16, BF16 or F64)"));
}

}  // namespace
}  // namespace headlight
