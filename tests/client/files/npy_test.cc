// SPDX-License-Identifier: Apache-2.0
#include "client/npy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "client/files/npy_header.h"
#include "tests/testing/status_matchers.h"

namespace headlight::client {
namespace {

using ::headlight::testing::IsOk;
using ::headlight::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr auto kBadFile = absl::StatusCode::kInvalidArgument;

template <typename T>
std::string Bytes(const std::vector<T>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

// A file of version 1 with any dictionary.
std::string File(const std::string& dictionary, const std::string& data) {
  const auto size = static_cast<char>(dictionary.size());
  return std::string("\x93NUMPY\x01\x00", 8) + size + '\0' + dictionary + data;
}

absl::StatusOr<Tensor> ReadTensor(const std::string& file) {
  std::istringstream in(file);
  return ReadNpyTensor(in);
}

absl::StatusOr<Mask> ReadMask(const std::string& file) {
  std::istringstream in(file);
  return ReadNpyMask(in);
}

TEST(NpyTest, WritesWhatNumpyWrites) {
  std::ostringstream out;
  WriteNpy({.shape = {2, 3}, .values = {0, 1, 2, 3, 4, 5}}, out);
  // Made by: numpy.save(file, numpy.arange(6, dtype='<f4').reshape(2, 3)), 128 bytes of header.
  const std::string header = std::string("\x93NUMPY\x01\x00\x76\x00", 10) +
                             "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }" +
                             std::string(58, ' ') + "\n";
  EXPECT_EQ(out.str(), header + Bytes<float>({0, 1, 2, 3, 4, 5}));
}

TEST(NpyTest, WritesHalvesAndWholeNumbers) {
  std::ostringstream halves;
  WriteNpy({.shape = {3}, .values = {1.0f, 65504.0f, 1e9f}}, halves, NpyFloat::kF16);
  EXPECT_EQ(halves.str(), FormatNpyHeader("<f2", {3}) + Bytes<uint16_t>({0x3c00, 0x7bff, 0x7c00}));
  std::ostringstream whole;
  WriteIntNpy({.shape = {1, 2}, .values = {-1, 70'000}}, whole);
  EXPECT_EQ(whole.str(), FormatNpyHeader("<i4", {1, 2}) + Bytes<int32_t>({-1, 70'000}));
}

TEST(NpyTest, HeaderIsAlignedForEveryRank) {
  Shape shape;
  for (int rank = 0; rank < 20; ++rank) {
    const std::string header = FormatNpyHeader("<f4", shape);
    EXPECT_EQ(header.size() % 64, 0u) << header;
    EXPECT_THAT(header, EndsWith("\n"));
    std::istringstream in(header);
    const auto read = ReadNpyHeader(in);
    ASSERT_THAT(read, IsOk());
    EXPECT_EQ(read->shape, shape);
    shape.push_back(1000 + rank);
  }
}

TEST(NpyTest, RoundTripKeepsEveryBit) {
  const Tensor tensor{
      .shape = {2, 1, 3},
      .values = {0.0f, -0.0f, 1e-42f, 3.5f, -INFINITY, std::numeric_limits<float>::quiet_NaN()}};
  std::stringstream stream;
  WriteNpy(tensor, stream);
  const auto read = ReadNpyTensor(stream);
  ASSERT_THAT(read, IsOk());
  EXPECT_EQ(read->shape, tensor.shape);
  EXPECT_EQ(Bytes(read->values), Bytes(tensor.values));
}

TEST(NpyTest, ReadsEveryVersion) {
  const std::string dictionary = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }\n";
  for (char version : {'\x02', '\x03'}) {
    const std::string file = std::string("\x93NUMPY", 6) + version + '\0' +
                             static_cast<char>(dictionary.size()) + std::string(3, '\0') + dictionary +
                             Bytes<float>({7});
    const auto read = ReadTensor(file);
    ASSERT_THAT(read, IsOk());
    EXPECT_THAT(read->values, ElementsAre(7));
  }
}

TEST(NpyTest, ReadsKeysInAnyOrderAndWithoutBlanks) {
  const auto read =
      ReadTensor(File(R"({"shape":(2,1),"fortran_order":False,"descr":"<f4"})", Bytes<float>({1, 2})));
  ASSERT_THAT(read, IsOk());
  EXPECT_THAT(read->shape, ElementsAre(2, 1));
}

TEST(NpyTest, ConvertsDoubles) {
  const auto read = ReadTensor(
      File("{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }", Bytes<double>({0.1, -2, 1e300})));
  ASSERT_THAT(read, IsOk());
  EXPECT_THAT(read->values, ElementsAre(0.1f, -2.0f, INFINITY));
}

TEST(NpyTest, ConvertsHalves) {
  const std::vector<uint16_t> halves = {0x3c00, 0xc000, 0x0001, 0x8000, 0x7bff, 0x7c00, 0xfe00};
  const auto read =
      ReadTensor(File("{'descr': '<f2', 'fortran_order': False, 'shape': (7,), }", Bytes(halves)));
  ASSERT_THAT(read, IsOk());
  EXPECT_EQ(read->values[0], 1.0f);
  EXPECT_EQ(read->values[1], -2.0f);
  EXPECT_EQ(read->values[2], 0x1p-24f);
  EXPECT_TRUE(read->values[3] == 0 && std::signbit(read->values[3]));
  EXPECT_EQ(read->values[4], 65504.0f);
  EXPECT_EQ(read->values[5], INFINITY);
  EXPECT_TRUE(std::isnan(read->values[6]));
}

TEST(NpyTest, ReadsOneDimensionalArraysInEitherOrder) {
  const auto read =
      ReadTensor(File("{'descr': '<f4', 'fortran_order': True, 'shape': (1,), }", Bytes<float>({3})));
  ASSERT_THAT(read, IsOk());
  EXPECT_THAT(read->values, ElementsAre(3));
}

TEST(NpyTest, ReadsBooleanAndAdditiveMasks) {
  for (const char* dtype : {"|b1", "|u1"}) {
    const auto mask =
        ReadMask(File("{'descr': '" + std::string(dtype) + "', 'fortran_order': False, 'shape': (2,), }",
                      std::string("\x01\x00", 2)));
    ASSERT_THAT(mask, IsOk());
    EXPECT_THAT(std::get<std::vector<uint8_t>>(mask->values), ElementsAre(1, 0));
  }
  const auto mask =
      ReadMask(File("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", Bytes<float>({-1})));
  ASSERT_THAT(mask, IsOk());
  EXPECT_THAT(std::get<std::vector<float>>(mask->values), ElementsAre(-1));
}

TEST(NpyTest, ReadsIdsInTheirWidth) {
  const auto read = [](const std::string& file) {
    std::istringstream in(file);
    return ReadNpyIds(in);
  };
  const auto narrow = read(FormatNpyHeader("<i4", {1, 2}) + Bytes<int32_t>({-1, 70'000}));
  ASSERT_THAT(narrow, IsOk());
  EXPECT_THAT(narrow->shape, ElementsAre(1, 2));
  EXPECT_THAT(std::get<std::vector<int32_t>>(narrow->values), ElementsAre(-1, 70'000));
  const auto wide = read(FormatNpyHeader("<i8", {2}) + Bytes<int64_t>({-1, int64_t{1} << 40}));
  ASSERT_THAT(wide, IsOk());
  EXPECT_THAT(std::get<std::vector<int64_t>>(wide->values), ElementsAre(-1, int64_t{1} << 40));
  for (const std::string dtype : {"<f4", "<u4", ">i8", "<i2", "|b1"}) {
    EXPECT_THAT(read(FormatNpyHeader(dtype, {1}) + std::string(8, '\0')),
                StatusIs(kBadFile, "dtype: got '" + dtype + "', wanted '<i4' or '<i8'"));
  }
  EXPECT_THAT(read(FormatNpyHeader("<i8", {2}) + std::string(8, '\0')),
              StatusIs(kBadFile, "the shape [2] of dtype '<i8' wants 16 bytes, got 8"));
}

TEST(NpyTest, RefusesOtherDtypes) {
  const std::string file = File("{'descr': '>f4', 'fortran_order': False, 'shape': (1,), }", "1234");
  EXPECT_THAT(ReadTensor(file), StatusIs(kBadFile, "dtype: got '>f4', wanted '<f4', '<f8' or '<f2'"));
  EXPECT_THAT(ReadMask(file),
              StatusIs(kBadFile, "dtype: got '>f4', wanted '|b1', '|u1', '<f4', '<f8' or '<f2'"));
  EXPECT_THAT(ReadTensor(File("{'descr': '|b1', 'fortran_order': False, 'shape': (1,), }", "1")),
              StatusIs(kBadFile, HasSubstr("got '|b1'")));
}

TEST(NpyTest, RefusesFortranOrder) {
  EXPECT_THAT(ReadTensor(File("{'descr': '<f4', 'fortran_order': True, 'shape': (1, 1), }", "1234")),
              StatusIs(kBadFile,
                       "the array is in Fortran order, wanted C order: save it through "
                       "numpy.ascontiguousarray"));
}

TEST(NpyTest, RefusesDataOfAnotherSizeThanTheShapeSays) {
  const std::string dictionary = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
  EXPECT_THAT(ReadTensor(File(dictionary, std::string(23, 'x'))),
              StatusIs(kBadFile, "the shape [2, 3] of dtype '<f4' wants 24 bytes, got 23"));
  EXPECT_THAT(ReadTensor(File(dictionary, std::string(25, 'x'))), StatusIs(kBadFile, EndsWith("got 25")));
}

TEST(NpyTest, RefusesShapesThatOverflowBeforeTakingMemory) {
  for (const char* shape : {"4611686018427387904, 4", "4611686018427387904,"}) {  // in elements; in bytes
    EXPECT_THAT(ReadTensor(File(
                    "{'descr': '<f4', 'fortran_order': False, 'shape': (" + std::string(shape) + "), }", "")),
                StatusIs(kBadFile, AllOf(StartsWith("the shape ["), EndsWith("overflows"))));
  }
  EXPECT_THAT(
      ReadTensor(File("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }", "1234")),
      StatusIs(kBadFile, HasSubstr("wants 4000000000000 bytes, got 4")));
}

TEST(NpyTest, RefusesWhatIsNotAnNpyFile) {
  EXPECT_THAT(ReadTensor(""), StatusIs(kBadFile, "not a .npy file: its first bytes are others"));
  EXPECT_THAT(ReadTensor("PK\x03\x04 is an .npz"), StatusIs(kBadFile, HasSubstr("not a .npy file")));
}

TEST(NpyTest, RefusesOtherVersions) {
  EXPECT_THAT(ReadTensor(std::string("\x93NUMPY\x04\x00\x01\x00{", 11)),
              StatusIs(kBadFile, ".npy version: got 4.0, wanted 1.0, 2.0 or 3.0"));
  EXPECT_THAT(ReadTensor(std::string("\x93NUMPY\x01\x01\x01\x00{", 11)),
              StatusIs(kBadFile, HasSubstr("got 1.1")));
}

TEST(NpyTest, RefusesAHeaderThatIsCutShortAtEveryByte) {
  std::ostringstream out;
  WriteNpy({.shape = {1}, .values = {1}}, out);
  const size_t header_bytes = out.str().size() - sizeof(float);
  for (size_t size = 6; size < header_bytes; ++size) {
    EXPECT_THAT(ReadTensor(out.str().substr(0, size)),
                StatusIs(kBadFile, "the .npy header is damaged: it is cut short"));
  }
}

TEST(NpyTest, RefusesAHeaderThatClaimsToBeHuge) {
  EXPECT_THAT(ReadTensor(std::string("\x93NUMPY\x02\x00\xff\xff\xff\xff{", 13)),
              StatusIs(kBadFile, HasSubstr("it says that it has 4294967295 bytes, wanted at most 65536")));
}

struct DamagedHeader {
  const char* name;
  const char* dictionary;
  const char* message;
};

class NpyDamagedHeaderTest : public ::testing::TestWithParam<DamagedHeader> {};

TEST_P(NpyDamagedHeaderTest, IsRefusedWithItsReason) {
  EXPECT_THAT(ReadTensor(File(GetParam().dictionary, "1234")),
              StatusIs(kBadFile, std::string("the .npy header is damaged: ") + GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    All, NpyDamagedHeaderTest,
    ::testing::Values(
        DamagedHeader{"NoBrace", "'descr': '<f4'", "it does not begin with '{'"},
        DamagedHeader{"NoKey", "{descr: '<f4'}", "a key is missing"},
        DamagedHeader{"NoColon", "{'descr' '<f4'}", "a key is missing"},
        DamagedHeader{"OpenString", "{'descr: <f4}", "a key is missing"},
        DamagedHeader{"UnknownKey", "{'colour': 'red'}", "unknown key 'colour'"},
        DamagedHeader{"TwiceTheSameKey", "{'descr': '<f4', 'descr': '<f4'}", "'descr' comes twice"},
        DamagedHeader{"DtypeOfAStruct", "{'descr': [('x', '<f4')]}", "the value of 'descr' cannot be read"},
        DamagedHeader{"OrderIsANumber", "{'fortran_order': 0}",
                      "the value of 'fortran_order' cannot be read"},
        DamagedHeader{"ShapeIsANumber", "{'shape': (3)}", "the value of 'shape' cannot be read"},
        DamagedHeader{"NegativeDimension", "{'shape': (-3,)}", "the value of 'shape' cannot be read"},
        DamagedHeader{"DimensionOverInt64", "{'shape': (9223372036854775808,)}",
                      "the value of 'shape' cannot be read"},
        DamagedHeader{"OpenShape", "{'shape': (3, 4", "the value of 'shape' cannot be read"},
        DamagedHeader{"RankOverTheLimit",
                      "{'shape': (1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1)}",
                      "the value of 'shape' cannot be read"},
        DamagedHeader{"NoComma", "{'descr': '<f4' 'shape': (1,)}", "',' or '}' is missing"},
        DamagedHeader{"OpenDictionary", "{'descr': '<f4'", "',' or '}' is missing"},
        DamagedHeader{"NoDtype", "{'fortran_order': False, 'shape': (1,)}", "'descr' is missing"},
        DamagedHeader{"NoOrder", "{'descr': '<f4', 'shape': (1,), }", "'fortran_order' is missing"},
        DamagedHeader{"NoShape", "{'descr': '<f4', 'fortran_order': False}", "'shape' is missing"},
        DamagedHeader{"Empty", "{}", "'descr' is missing"},
        DamagedHeader{"MoreBehind", "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} 5",
                      "something follows its '}'"}),
    [](const auto& info) { return info.param.name; });

TEST(NpyTest, WhatAFileCallsThingsReachesNoTerminalAsItIs) {
  const std::string escape = "\x1b]0;title\x07";
  EXPECT_THAT(ReadTensor(File("{'" + escape + "': 1}", "")),
              StatusIs(kBadFile, HasSubstr("unknown key '?]0;title?'")));
  EXPECT_THAT(ReadTensor(File("{'descr': '" + escape + "', 'fortran_order': False, 'shape': (1,)}", "")),
              StatusIs(kBadFile, HasSubstr("dtype: got '?]0;title?', wanted")));
}

TEST(NpyTest, LongNamesAreCut) {
  const absl::StatusOr<Tensor> read = ReadTensor(File("{'" + std::string(100, 'k') + "': 1}", ""));
  EXPECT_THAT(read, StatusIs(kBadFile, EndsWith("unknown key '" + std::string(64, 'k') + "...'")));
}

TEST(NpyFileTest, RoundTripsThroughAFile) {
  const std::string path = ::testing::TempDir() + "headlight_npy_test.npy";
  ASSERT_THAT(WriteNpyFile({.shape = {1, 2}, .values = {1, 2}}, path), IsOk());
  const auto read = ReadNpyTensorFile(path);
  ASSERT_THAT(read, IsOk());
  EXPECT_THAT(read->values, ElementsAre(1, 2));
  std::filesystem::remove(path);
}

TEST(NpyFileTest, ErrorsBeginWithThePath) {
  const std::string missing = ::testing::TempDir() + "no_such_directory/x.npy";
  EXPECT_THAT(ReadNpyTensorFile(missing),
              StatusIs(absl::StatusCode::kNotFound, missing + ": No such file or directory"));
  EXPECT_THAT(WriteNpyFile({.shape = {0}}, missing),
              StatusIs(absl::StatusCode::kUnavailable, StartsWith(missing + ": cannot be written")));
  const std::string damaged = ::testing::TempDir() + "headlight_npy_test_damaged.npy";
  std::ofstream(damaged) << "hello";
  EXPECT_THAT(ReadNpyMaskFile(damaged), StatusIs(kBadFile, StartsWith(damaged + ": not a .npy file")));
  std::filesystem::remove(damaged);
}

}  // namespace
}  // namespace headlight::client
