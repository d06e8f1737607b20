// SPDX-License-Identifier: Apache-2.0
#include "client/files/npz.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <sstream>
#include <string>
#include <variant>
#include <vector>

#include "client/files/npy_header.h"
#include "client/files/zip_format.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/subprocess.h"
#include "tests/testing/temp_folder.h"

namespace headlight::client {
namespace {

using ::headlight::testing::IsOk;
using ::headlight::testing::RunProgram;
using ::headlight::testing::StatusIs;
using ::headlight::testing::TempFolder;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr auto kBadArchive = absl::StatusCode::kInvalidArgument;
constexpr int64_t kMaxBytes = 1 << 20;

std::string Little(uint64_t value, size_t size) {
  std::string bytes;
  for (size_t i = 0; i < size; ++i, value >>= 8) bytes.push_back(static_cast<char>(value & 0xff));
  return bytes;
}

// Raw deflate, as zip files hold it.
std::string Deflated(const std::string& bytes) {
  z_stream stream = {};
  EXPECT_EQ(deflateInit2(&stream, 9, Z_DEFLATED, -MAX_WBITS, 9, Z_DEFAULT_STRATEGY), Z_OK);
  std::string packed(deflateBound(&stream, bytes.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

uint32_t Crc(const std::string& bytes) {
  return static_cast<uint32_t>(crc32(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

// An entry as an archive might tell of it; what is not given is the truth.
struct Told {
  std::string name = "a.npy";
  std::string stored;
  uint16_t flags = 0;
  uint16_t method = kZipStored;
  uint32_t crc32 = 0;
  uint32_t stored_bytes = 0;
  uint32_t size_bytes = 0;
  uint32_t header_offset = 0;
  std::string name_in_header;
};

Told Stored(const std::string& name, const std::string& bytes) {
  const auto size = static_cast<uint32_t>(bytes.size());
  return {.name = name,
          .stored = bytes,
          .crc32 = Crc(bytes),
          .stored_bytes = size,
          .size_bytes = size,
          .name_in_header = name};
}

Told Packed(const std::string& name, const std::string& bytes) {
  Told told = Stored(name, bytes);
  told.stored = Deflated(bytes);
  told.method = kZipDeflated;
  told.stored_bytes = static_cast<uint32_t>(told.stored.size());
  return told;
}

// An archive without zip64. Entries whose `header_offset` is not 0 keep it.
std::string Archive(std::vector<Told> entries, const std::string& comment = "") {
  std::string file, directory;
  for (Told& told : entries) {
    if (told.header_offset == 0) told.header_offset = static_cast<uint32_t>(file.size());
    const std::string common = Little(20, 2) + Little(told.flags, 2) + Little(told.method, 2) + Little(0, 4) +
                               Little(told.crc32, 4) + Little(told.stored_bytes, 4) +
                               Little(told.size_bytes, 4);
    file += Little(kZipHeaderSignature, 4) + common + Little(told.name_in_header.size(), 2) + Little(0, 2) +
            told.name_in_header + told.stored;
    directory += Little(kZipRecordSignature, 4) + Little(20, 2) + common + Little(told.name.size(), 2) +
                 Little(0, 2 + 2 + 2 + 2 + 4) + Little(told.header_offset, 4) + told.name;
  }
  const size_t directory_offset = file.size();
  return file + directory + Little(kZipEndSignature, 4) + Little(0, 4) + Little(entries.size(), 2) +
         Little(entries.size(), 2) + Little(directory.size(), 4) + Little(directory_offset, 4) +
         Little(comment.size(), 2) + comment;
}

std::string Npy(const Shape& shape, const std::vector<float>& values) {
  std::ostringstream out;
  WriteNpy({.shape = shape, .values = values}, out);
  return out.str();
}

class NpzTest : public ::testing::Test {
 protected:
  absl::StatusOr<NpzReader> Open(const std::string& bytes) const {
    return NpzReader::Open(folder_.Write("x.npz", bytes), kMaxBytes);
  }

  // Opens the archive and reads the array "a"; the first error there is.
  absl::Status Read(const std::string& bytes) const {
    absl::StatusOr<NpzReader> reader = Open(bytes);
    if (!reader.ok()) return reader.status();
    return reader->ReadTensor("a").status();
  }

  TempFolder folder_;
};

class NpzFixtureTest : public ::testing::TestWithParam<const char*> {};

// See make_archives.py for what is in them.
TEST_P(NpzFixtureTest, HoldsWhatItWasMadeOf) {
  absl::StatusOr<NpzReader> reader =
      NpzReader::Open(std::string(HEADLIGHT_CLIENT_TESTDATA "/") + GetParam(), kMaxBytes);
  ASSERT_THAT(reader, IsOk());
  EXPECT_THAT(reader->names(), ElementsAre("query", "key", "value", "mask", "seq_lens", "kv_seq_lens"));
  std::string dtype;
  const auto query = reader->ReadTensor("query", &dtype);
  ASSERT_THAT(query, IsOk());
  EXPECT_EQ(dtype, "<f4");
  EXPECT_THAT(query->shape, ElementsAre(1, 6, 4));
  for (size_t i = 0; i < 24; ++i) EXPECT_EQ(query->values[i], static_cast<float>(i) / 8);
  const auto key = reader->ReadTensor("key", &dtype);
  ASSERT_THAT(key, IsOk());
  EXPECT_EQ(dtype, "<f8");
  for (size_t i = 0; i < 12; ++i) EXPECT_EQ(key->values[i], static_cast<float>(static_cast<double>(i) / 10));
  const auto value = reader->ReadTensor("value", &dtype);
  ASSERT_THAT(value, IsOk());
  EXPECT_EQ(dtype, "<f2");
  EXPECT_EQ(value->values[11], 11.0f);
  const auto mask = reader->ReadMask("mask", &dtype);
  ASSERT_THAT(mask, IsOk());
  EXPECT_EQ(dtype, "|b1");
  EXPECT_THAT(std::get<std::vector<uint8_t>>(mask->values),
              ElementsAre(1, 0, 0, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1));
  const auto seq_lens = reader->ReadIds("seq_lens");
  ASSERT_THAT(seq_lens, IsOk());
  EXPECT_THAT(std::get<std::vector<int64_t>>(seq_lens->values), ElementsAre(6));
  const auto kv_seq_lens = reader->ReadIds("kv_seq_lens");
  ASSERT_THAT(kv_seq_lens, IsOk());
  EXPECT_THAT(std::get<std::vector<int32_t>>(kv_seq_lens->values), ElementsAre(3));
}

// Stored and deflated, with 64-bit sizes and without, with sizes behind the entries.
INSTANTIATE_TEST_SUITE_P(All, NpzFixtureTest,
                         ::testing::Values("stored.npz", "plain.npz", "deflated.npz", "streamed.npz"),
                         [](const auto& info) { return std::string(info.param, strlen(info.param) - 4); });

TEST_F(NpzTest, RoundTripKeepsEveryBit) {
  const Tensor tensor{.shape = {2, 1, 3}, .values = {0.0f, -0.0f, 1e-42f, 3.5f, -INFINITY, std::nanf("")}};
  NpzWriter writer(folder_.File("out.npz"));
  writer.Add("output", tensor);
  writer.Add("half", {.shape = {2}, .values = {1.5f, 1e9f}}, NpyFloat::kF16);
  writer.Add("weights_keys", IntTensor{.shape = {3}, .values = {-1, 0, 70'000}});
  writer.Add("empty", Tensor{.shape = {0}});
  ASSERT_THAT(writer.Finish(), IsOk());
  EXPECT_TRUE(IsNpzFile(folder_.File("out.npz")));

  absl::StatusOr<NpzReader> reader = NpzReader::Open(folder_.File("out.npz"), kMaxBytes);
  ASSERT_THAT(reader, IsOk());
  EXPECT_THAT(reader->names(), ElementsAre("output", "half", "weights_keys", "empty"));
  const auto output = reader->ReadTensor("output");
  ASSERT_THAT(output, IsOk());
  EXPECT_EQ(output->shape, tensor.shape);
  EXPECT_EQ(memcmp(output->values.data(), tensor.values.data(), 6 * sizeof(float)), 0);
  EXPECT_THAT(reader->ReadTensor("half")->values, ElementsAre(1.5f, INFINITY));
  EXPECT_THAT(std::get<std::vector<int32_t>>(reader->ReadIds("weights_keys")->values),
              ElementsAre(-1, 0, 70'000));
  EXPECT_THAT(reader->ReadTensor("empty")->shape, ElementsAre(0));
  EXPECT_THAT(
      reader->ReadTensor("key"),
      StatusIs(absl::StatusCode::kNotFound,
               folder_.File("out.npz") + ": got no array 'key', but output, half, weights_keys, empty"));
}

TEST_F(NpzTest, TheSameArraysMakeTheSameBytes) {
  for (const char* name : {"one.npz", "two.npz"}) {
    NpzWriter writer(folder_.File(name));
    writer.Add("a", Tensor{.shape = {2}, .values = {1, 2}});
    ASSERT_THAT(writer.Finish(), IsOk());
  }
  EXPECT_EQ(folder_.Read("one.npz"), folder_.Read("two.npz"));
}

TEST_F(NpzTest, ArraysOfManyBuffersAreReadWhole) {
  std::vector<float> values(200'000);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 1013);
  const std::string npy = Npy({200'000}, values);
  for (const Told& told : {Stored("a.npy", npy), Packed("a.npy", npy)}) {
    absl::StatusOr<NpzReader> reader = Open(Archive({told}, "a comment with PK\x05\x06 in it"));
    ASSERT_THAT(reader, IsOk());
    const auto array = reader->ReadTensor("a");
    ASSERT_THAT(array, IsOk());
    EXPECT_EQ(array->values, values);
  }
}

TEST_F(NpzTest, WhatIsNotAnArchiveIsNone) {
  EXPECT_FALSE(IsNpzFile(folder_.File("missing.npz")));
  EXPECT_FALSE(IsNpzFile(folder_.Write("x.npy", Npy({1}, {1}))));
  EXPECT_FALSE(IsNpzFile(folder_.Write("short", "PK")));
  EXPECT_TRUE(IsNpzFile(folder_.Write("empty.npz", Archive({}))));
  EXPECT_THAT(
      NpzReader::Open(folder_.File("missing.npz"), kMaxBytes),
      StatusIs(absl::StatusCode::kNotFound, folder_.File("missing.npz") + ": No such file or directory"));
  EXPECT_THAT(Open("").status(), StatusIs(kBadArchive, HasSubstr("it has no end record; is it cut short?")));
  EXPECT_THAT(Open(Npy({1}, {1})).status(), StatusIs(kBadArchive, HasSubstr("it has no end record")));
}

TEST_F(NpzTest, ArraysAreBoundedAndMemoryIsNotTakenForPromises) {
  const std::string bomb = Npy({4'000'000}, std::vector<float>(4'000'000));  // 16 MB out of 16 kB
  EXPECT_THAT(Read(Archive({Packed("a.npy", bomb)})),
              StatusIs(kBadArchive, HasSubstr("a.npy has 16000128 bytes, wanted at most 1048576")));
  // Each of them would fit, all of them together do not: 3 x 400,128 bytes.
  const std::string third = Npy({100'000}, std::vector<float>(100'000));
  EXPECT_THAT(Read(Archive({Packed("a.npy", third), Packed("b.npy", third)})), IsOk());
  EXPECT_THAT(Read(Archive({Packed("a.npy", third), Packed("b.npy", third), Packed("c.npy", third)})),
              StatusIs(kBadArchive,
                       HasSubstr("c.npy has 400128 bytes, wanted at most 1048576 in all arrays together")));
  Told liar = Packed("a.npy", Npy({1}, {1}));
  liar.size_bytes = 1 << 20;
  EXPECT_THAT(Read(Archive({liar})),
              StatusIs(kBadArchive, HasSubstr("'a.npy' cannot have 1048576 bytes when")));
  // Says little and unpacks to much.
  Told secret = Packed("a.npy", bomb);
  secret.size_bytes = 132;
  EXPECT_THAT(Read(Archive({secret})),
              StatusIs(kBadArchive, HasSubstr("a: it is damaged: it unpacks to another size")));
  std::vector<Told> many(65, Stored("a.npy", Npy({1}, {1})));
  EXPECT_THAT(Read(Archive(many)), StatusIs(kBadArchive, HasSubstr("has 65 entries, wanted at most 64")));
}

TEST_F(NpzTest, EntriesMayNotShareBytesOrNames) {
  const Told one = Stored("a.npy", Npy({1}, {1}));
  EXPECT_THAT(Read(Archive({one, one})), StatusIs(kBadArchive, HasSubstr("'a.npy' comes twice")));
  // The second entry is the same bytes as an inner part of the first.
  const Told inner = Stored("b.npy", Npy({1}, {2}));
  const std::string inner_file = Archive({inner}).substr(0, kZipHeaderBytes + 5 + inner.stored.size());
  Told outer = Stored("a.npy", inner_file);
  Told shared = inner;
  shared.header_offset = kZipHeaderBytes + 5;
  EXPECT_THAT(Read(Archive({outer, shared})), StatusIs(kBadArchive, HasSubstr("two entries share bytes")));
}

TEST_F(NpzTest, DamageIsNamed) {
  const std::string npy = Npy({2}, {1, 2});
  Told crc = Stored("a.npy", npy);
  crc.crc32 ^= 1;
  EXPECT_THAT(
      Read(Archive({crc})),
      StatusIs(kBadArchive, HasSubstr("a: it is damaged: it has another CRC-32 than the directory says")));
  Told cut = Packed("a.npy", npy);
  cut.stored.resize(cut.stored.size() / 2);
  cut.stored_bytes = static_cast<uint32_t>(cut.stored.size());
  EXPECT_THAT(Read(Archive({cut})), StatusIs(kBadArchive, HasSubstr("a: it is damaged: it is cut short")));
  Told garbage = Packed("a.npy", npy);
  garbage.stored[0] = '\xff';
  EXPECT_THAT(Read(Archive({garbage})), StatusIs(kBadArchive, HasSubstr("it is not what deflate writes")));
  Told beyond = Stored("a.npy", npy);
  beyond.stored_bytes = beyond.size_bytes = 1 << 20;
  EXPECT_THAT(Read(Archive({beyond})), StatusIs(kBadArchive, HasSubstr("'a.npy' is larger than the file")));
  Told shorter = Stored("a.npy", npy);
  shorter.size_bytes -= 1;
  EXPECT_THAT(Read(Archive({shorter})), StatusIs(kBadArchive, HasSubstr("'a.npy' cannot have")));
  Told two_names = Stored("a.npy", npy);
  two_names.name_in_header = "b.npy";
  EXPECT_THAT(Read(Archive({two_names})),
              StatusIs(kBadArchive, HasSubstr("the directory and the header of 'a.npy' contradict")));
  EXPECT_THAT(Read(Archive({Stored("a.npy", npy + "x")})),
              StatusIs(kBadArchive, HasSubstr("a: the shape [2] of dtype '<f4' wants 8 bytes, got 9")));
  EXPECT_THAT(Read(Archive({Stored("a.npy", "hello")})),
              StatusIs(kBadArchive, HasSubstr("a: not a .npy file")));
}

TEST_F(NpzTest, WhatNumpyDoesNotWriteIsRefused) {
  const std::string npy = Npy({1}, {1});
  EXPECT_THAT(Read(Archive({Stored("notes.txt", "hello")})),
              StatusIs(kBadArchive, HasSubstr("the archive holds something else than NAME.npy")));
  EXPECT_THAT(Read(Archive({Stored(".npy", npy)})), StatusIs(kBadArchive, HasSubstr("something else")));
  Told encrypted = Stored("a.npy", npy);
  encrypted.flags = 1;
  EXPECT_THAT(Read(Archive({encrypted})), StatusIs(kBadArchive, HasSubstr("has encrypted entries")));
  Told lzma = Stored("a.npy", npy);
  lzma.method = 14;
  EXPECT_THAT(Read(Archive({lzma})), StatusIs(kBadArchive, HasSubstr("entries of compression method 14")));
}

TEST_F(NpzTest, EveryCutIsRefused) {
  for (const char* name : {"stored.npz", "streamed.npz"}) {
    std::ifstream file(std::string(HEADLIGHT_CLIENT_TESTDATA "/") + name, std::ios::binary);
    const std::string whole(std::istreambuf_iterator<char>(file), {});
    for (size_t size = 0; size < whole.size(); ++size)
      EXPECT_THAT(Open(whole.substr(0, size)).status(), StatusIs(kBadArchive, StartsWith(folder_.path())));
  }
}

int64_t PeakMemoryBytes() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

// Whatever is done to an archive: it is refused or its arrays are within the limit, and nothing takes memory
// beyond that.
TEST_F(NpzTest, MutatedArchivesAreReadOrRefused) {
  std::mt19937 random(static_cast<uint32_t>(::testing::UnitTest::GetInstance()->random_seed()));
  std::vector<std::string> seeds;
  for (const char* name : {"stored.npz", "plain.npz", "deflated.npz", "streamed.npz"}) {
    std::ifstream file(std::string(HEADLIGHT_CLIENT_TESTDATA "/") + name, std::ios::binary);
    seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  const int64_t peak_before = PeakMemoryBytes();
  int num_read = 0, num_refused = 0;
  for (int round = 0; round < 1500; ++round) {
    std::string bytes = seeds[random() % seeds.size()];
    const size_t num_changes = 1 + random() % 4;
    for (size_t i = 0; i < num_changes; ++i) {
      // The directory is at the end, and most of what can be believed wrongly.
      const size_t at = random() % 2 == 0 ? random() % bytes.size()
                                          : bytes.size() - 1 - random() % std::min<size_t>(bytes.size(), 600);
      switch (random() % 4) {
        case 0:
          bytes[at] = static_cast<char>(random());
          break;
        case 1:
          bytes[at] = static_cast<char>(bytes[at] ^ 1 << random() % 8);
          break;
        case 2:
          bytes.replace(at, 4, Little(random() % 2 == 0 ? 0xffffffff : random(), 4));
          break;
        default:
          bytes.erase(at, random() % 16);
      }
      if (bytes.empty()) bytes = "P";
    }
    absl::StatusOr<NpzReader> reader = Open(bytes);
    bool all_read = reader.ok();
    for (const std::string& name : reader.ok() ? reader->names() : std::vector<std::string>()) {
      const auto tensor = reader->ReadTensor(name);
      const size_t num_values = tensor.ok() ? tensor->values.size() : 0;
      EXPECT_LE(num_values * sizeof(float), static_cast<size_t>(kMaxBytes));
      all_read = reader->ReadMask(name).ok() && all_read;
      all_read = (tensor.ok() || reader->ReadIds(name).ok()) && all_read;
    }
    ++(reader.ok() ? num_read : num_refused);
  }
  EXPECT_GE(num_read, 100);  // a test that only knows one of the two says little
  EXPECT_GE(num_refused, 100);
#ifndef __SANITIZE_ADDRESS__  // which keeps freed memory for a while
  EXPECT_LE(PeakMemoryBytes() - peak_before, 16 * kMaxBytes);
#endif
  static_cast<void>(peak_before);
}

// A Python that has NumPy; empty if there is none.
std::string PythonWithNumpy() {
  for (const char* python : {"python3", "/usr/bin/python3"}) {
    if (RunProgram({"/usr/bin/env", python, "-c", "import numpy"}).exit_code == 0) return python;
  }
  return "";
}

TEST_F(NpzTest, NumpyReadsWhatIsWritten) {
  const std::string python = PythonWithNumpy();
  if (python.empty()) GTEST_SKIP() << "no python3 with NumPy here";
  NpzWriter writer(folder_.File("out.npz"));
  writer.Add("output", Tensor{.shape = {2, 3}, .values = {0, 1, 2, 3, 4, 5}});
  writer.Add("half", Tensor{.shape = {1}, .values = {1.5f}}, NpyFloat::kF16);
  writer.Add("keys", IntTensor{.shape = {1, 2}, .values = {-1, 7}});
  ASSERT_THAT(writer.Finish(), IsOk());
  const auto result = RunProgram({"/usr/bin/env", python, "-c",
                                  "import numpy, sys, zipfile\n"
                                  "assert zipfile.ZipFile(sys.argv[1]).testzip() is None\n"
                                  "a = numpy.load(sys.argv[1])\n"
                                  "for n in a.files: print(n, a[n].dtype.str, a[n].tolist())\n",
                                  folder_.File("out.npz")});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.output,
            "output <f4 [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]\nhalf <f2 [1.5]\nkeys <i4 [[-1, 7]]\n");
}

TEST_F(NpzTest, ReadsWhatNumpyWrites) {
  const std::string python = PythonWithNumpy();
  if (python.empty()) GTEST_SKIP() << "no python3 with NumPy here";
  const auto result =
      RunProgram({"/usr/bin/env", python, "-c",
                  "import numpy, sys\n"
                  "arrays = dict(query=numpy.arange(150000, dtype='f4').reshape(2, 75000) / 3,\n"
                  "              ids=numpy.arange(10) ** 9)\n"
                  "numpy.savez(sys.argv[1], **arrays)\n"
                  "numpy.savez_compressed(sys.argv[2], **arrays)\n",
                  folder_.File("stored.npz"), folder_.File("deflated.npz")});
  ASSERT_EQ(result.exit_code, 0) << result.output;
  for (const char* name : {"stored.npz", "deflated.npz"}) {
    absl::StatusOr<NpzReader> reader = NpzReader::Open(folder_.File(name), kMaxBytes);
    ASSERT_THAT(reader, IsOk());
    const auto query = reader->ReadTensor("query");
    ASSERT_THAT(query, IsOk());
    EXPECT_THAT(query->shape, ElementsAre(2, 75000));
    for (size_t i = 0; i < query->values.size(); ++i)
      ASSERT_EQ(query->values[i], static_cast<float>(i) / 3.0f);
    const auto ids = reader->ReadIds("ids");
    ASSERT_THAT(ids, IsOk());
    EXPECT_EQ(std::get<std::vector<int64_t>>(ids->values)[9], 387'420'489);
  }
}

}  // namespace
}  // namespace headlight::client
