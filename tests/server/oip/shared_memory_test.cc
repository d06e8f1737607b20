// SPDX-License-Identifier: Apache-2.0
#include "server/oip/shared_memory.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace headlight {
namespace {

using ::headlight::testing::IsOk;
using ::headlight::testing::StatusIs;
using ::headlight::testing::TempFolder;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr auto kBad = absl::StatusCode::kInvalidArgument;
constexpr auto kAbsent = absl::StatusCode::kNotFound;
constexpr uint64_t kHuge = std::numeric_limits<uint64_t>::max();

std::string TextOf(const TensorBytes& read) {
  std::string text;
  for (const std::byte b : read.bytes()) text += static_cast<char>(b);
  return text;
}

std::span<const std::byte> BytesOf(const std::string& text) {
  return std::as_bytes(std::span<const char>(text.data(), text.size()));
}

// Two callers, and a folder in place of /dev/shm with the file "ten" of ten bytes.
class SharedMemoryTest : public ::testing::Test {
 protected:
  SharedMemoryTest() { folder_.Write("ten", "0123456789"); }

  absl::StatusOr<std::string> Read(const TensorPlace& part, const std::string& tenant = "a") {
    const absl::StatusOr<TensorBytes> read = regions_.Read(tenant, part);
    if (!read.ok()) return read.status();
    return TextOf(*read);
  }

  absl::Status Write(const TensorPlace& part, const std::vector<std::string>& pieces) {
    std::vector<std::span<const std::byte>> bytes;
    for (const std::string& piece : pieces) bytes.push_back(BytesOf(piece));
    return regions_.Write("a", part, bytes);
  }

  TempFolder folder_;
  MemoryBudget budget_{1 << 20};
  BufferPool pool_{0, &budget_};
  SharedMemoryRegions regions_{pool_, {.max_regions_of_tenant = 3, .max_regions = 5}, folder_.path()};
};

TEST_F(SharedMemoryTest, ReadsAndWritesWhatIsRegistered) {
  ASSERT_THAT(regions_.Register("a", {"r", "/ten", 2, 6}), IsOk());
  EXPECT_EQ(*Read({"r", 0, 6}), "234567");
  EXPECT_EQ(*Read({"r", 5, 1}), "7");
  EXPECT_EQ(*Read({"r", 6, 0}), "");
  EXPECT_THAT(Write({"r", 1, 4}, {"ab", "", "c"}), IsOk());
  EXPECT_EQ(folder_.Read("ten"), "012abc6789");
}

TEST_F(SharedMemoryTest, IsWhatShmOpenMakes) {
  const std::string key = absl::StrCat("/headlight_shared_memory_test_", getpid());
  const int descriptor = shm_open(key.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600);
  ASSERT_GE(descriptor, 0);
  ASSERT_EQ(ftruncate(descriptor, 8), 0);
  void* const mapped = mmap(nullptr, 8, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  close(descriptor);
  ASSERT_NE(mapped, MAP_FAILED);
  SharedMemoryRegions regions(pool_);
  EXPECT_THAT(regions.Register("", {"r", key, 0, 8}), IsOk());
  shm_unlink(key.c_str());  // who has it open keeps it
  std::copy_n("abcdefgh", 8, static_cast<char*>(mapped));
  const absl::StatusOr<TensorBytes> read = regions.Read("", {"r", 2, 3});
  ASSERT_THAT(read, IsOk());
  EXPECT_EQ(TextOf(*read), "cde");
  const std::string text = "XY";
  const std::span<const std::byte> pieces[] = {BytesOf(text)};
  EXPECT_THAT(regions.Write("", {"r", 6, 2}, pieces), IsOk());
  EXPECT_EQ(std::string(static_cast<char*>(mapped), 8), "abcdefXY");
  munmap(mapped, 8);
}

TEST_F(SharedMemoryTest, CallersDoNotSeeEachOther) {
  ASSERT_THAT(regions_.Register("a", {"r", "ten", 0, 10}), IsOk());
  EXPECT_THAT(Read({"r", 0, 1}, "b"), StatusIs(kAbsent, HasSubstr("shared_memory_region: got \"r\"")));
  EXPECT_THAT(*regions_.List("b", ""), IsEmpty());
  ASSERT_THAT(regions_.Register("b", {"r", "ten", 5, 2}), IsOk());
  EXPECT_EQ(*Read({"r", 0, 2}, "b"), "56");
  regions_.UnregisterAll("b");
  EXPECT_THAT(Read({"r", 0, 1}, "b"), StatusIs(kAbsent, HasSubstr("wanted a region that this caller")));
  EXPECT_EQ(*Read({"r", 0, 2}), "01");
  regions_.Unregister("b", "r");
  EXPECT_EQ(*Read({"r", 0, 2}), "01");
}

TEST_F(SharedMemoryTest, ListsByName) {
  ASSERT_THAT(regions_.Register("a", {"s", "/ten", 1, 2}), IsOk());
  ASSERT_THAT(regions_.Register("a", {"r", "ten", 0, 10}), IsOk());
  const auto named = [](const char* name) { return Field(&SharedRegion::name, name); };
  EXPECT_THAT(*regions_.List("a", ""), ElementsAre(named("r"), named("s")));
  const auto s = regions_.List("a", "s");
  ASSERT_THAT(s, IsOk());
  ASSERT_EQ(s->size(), 1u);
  EXPECT_EQ(s->front().key, "/ten");
  EXPECT_EQ(s->front().offset, 1u);
  EXPECT_EQ(s->front().byte_size, 2u);
  EXPECT_THAT(regions_.List("a", "q"), StatusIs(kAbsent, HasSubstr("name: got \"q\"")));
  regions_.Unregister("a", "r");
  EXPECT_THAT(*regions_.List("a", ""), ElementsAre(named("s")));
}

TEST_F(SharedMemoryTest, ANameIsRegisteredOnce) {
  ASSERT_THAT(regions_.Register("a", {"r", "ten", 0, 10}), IsOk());
  EXPECT_THAT(regions_.Register("a", {"r", "ten", 0, 10}),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("name: got \"r\"")));
  regions_.Unregister("a", "r");
  EXPECT_THAT(regions_.Register("a", {"r", "ten", 0, 1}), IsOk());
}

TEST_F(SharedMemoryTest, RegionsAreCounted) {
  for (const char* name : {"1", "2", "3"}) {
    ASSERT_THAT(regions_.Register("a", {name, "ten", 0, 1}), IsOk());
  }
  EXPECT_THAT(regions_.Register("a", {"4", "ten", 0, 1}),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("wanted at most 3")));
  ASSERT_THAT(regions_.Register("b", {"1", "ten", 0, 1}), IsOk());
  ASSERT_THAT(regions_.Register("b", {"2", "ten", 0, 1}), IsOk());
  EXPECT_THAT(regions_.Register("b", {"3", "ten", 0, 1}),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("of all callers together")));
  regions_.Unregister("a", "2");
  EXPECT_THAT(regions_.Register("a", {"4", "ten", 0, 1}), IsOk());
}

TEST_F(SharedMemoryTest, KeysAreOneComponentOfAPath) {
  folder_.Write("sub/file", "x");
  const std::string long_key(256, 'k'), zero("ten\0x", 5);
  for (const std::string& key :
       {std::string(), std::string("/"), std::string("."), std::string("/.."), std::string("//ten"),
        std::string("sub/file"), std::string("../x"), std::string("ten/"), long_key, zero}) {
    EXPECT_THAT(regions_.Register("a", {"r", key, 0, 1}), StatusIs(kBad, HasSubstr("key: got "))) << key;
  }
  EXPECT_THAT(regions_.Register("a", {"r", "absent", 0, 1}),
              StatusIs(kAbsent, HasSubstr("key: got \"absent\"")));
}

TEST_F(SharedMemoryTest, OnlyRegularFilesAreOpened) {
  std::filesystem::create_directory(folder_.File("sub"));
  std::filesystem::create_symlink(folder_.File("ten"), folder_.File("link"));
  ASSERT_EQ(mkfifo(folder_.File("pipe").c_str(), 0600), 0);
  for (const char* key : {"sub", "link", "pipe"}) {
    EXPECT_THAT(regions_.Register("a", {"r", key, 0, 1}), StatusIs(kBad, HasSubstr("wanted shared memory")))
        << key;
  }
  EXPECT_THAT(*regions_.List("a", ""), IsEmpty());
}

TEST_F(SharedMemoryTest, RegionsLieInTheirFile) {
  const auto refused = StatusIs(kBad, HasSubstr("wanted what lies in the 10 bytes of \"ten\""));
  EXPECT_THAT(regions_.Register("a", {"r", "ten", 0, 11}), refused);
  EXPECT_THAT(regions_.Register("a", {"r", "ten", 10, 1}), refused);
  EXPECT_THAT(regions_.Register("a", {"r", "ten", 11, 1}), refused);
  EXPECT_THAT(regions_.Register("a", {"r", "ten", kHuge, 2}), refused);
  EXPECT_THAT(regions_.Register("a", {"r", "ten", 2, kHuge}), refused);
  EXPECT_THAT(regions_.Register("a", {"r", "ten", kHuge - 3, 8}), refused);
  EXPECT_THAT(regions_.Register("a", {"r", "ten", 0, 0}),
              StatusIs(kBad, "byte_size: got 0, wanted at least 1"));
  EXPECT_THAT(regions_.Register("a", {"", "ten", 0, 1}), StatusIs(kBad, HasSubstr("name: got none")));
  EXPECT_THAT(regions_.Register("a", {std::string(257, 'n'), "ten", 0, 1}),
              StatusIs(kBad, "name: got 257 bytes, wanted at most 256"));
  EXPECT_THAT(regions_.Register("a", {"r", "ten", 9, 1}), IsOk());
}

TEST_F(SharedMemoryTest, PartsLieInTheirRegion) {
  ASSERT_THAT(regions_.Register("a", {"r", "ten", 2, 6}), IsOk());
  for (const TensorPlace& part : {TensorPlace{"r", 0, 7},
                                  {"r", 6, 1},
                                  {"r", 7, 0},
                                  {"r", kHuge, 1},
                                  {"r", kHuge, 2},
                                  {"r", kHuge - 1, 4},
                                  {"r", 1, kHuge},
                                  {"r", 0, kHuge}}) {
    const auto refused = StatusIs(kBad, HasSubstr("wanted what lies in the 6 bytes of region \"r\""));
    EXPECT_THAT(regions_.Check("a", part), refused);
    EXPECT_THAT(Read(part), refused);
    EXPECT_THAT(Write(part, {""}), refused);
  }
  EXPECT_THAT(regions_.Check("a", {"r", 0, 6}), IsOk());
  EXPECT_THAT(regions_.Check("a", {"q", 0, 6}), StatusIs(kAbsent, HasSubstr("got \"q\"")));
  EXPECT_THAT(Write({"r", 0, 3}, {"abc", "d"}),
              StatusIs(kBad, "shared_memory_byte_size: got 3, wanted room for 4 bytes"));
  EXPECT_EQ(folder_.Read("ten"), "0123456789");
}

TEST_F(SharedMemoryTest, WhatIsCutShortIsAnError) {
  ASSERT_THAT(regions_.Register("a", {"r", "ten", 2, 6}), IsOk());
  std::filesystem::resize_file(folder_.File("ten"), 5);
  const auto refused = StatusIs(
      kBad, HasSubstr("the file of \"r\" has become shorter: got 5 bytes, wanted what was registered"));
  EXPECT_THAT(Read({"r", 0, 6}), refused);
  EXPECT_THAT(Write({"r", 0, 6}, {"abcdef"}), refused);
  EXPECT_EQ(folder_.Read("ten"), "01234");  // not made longer
  std::filesystem::resize_file(folder_.File("ten"), 8);
  EXPECT_THAT(Read({"r", 0, 6}), IsOk());
}

TEST_F(SharedMemoryTest, BytesAreCountedWhileTheyAreHeld) {
  folder_.Write("large", std::string(100'000, 'x'));
  ASSERT_THAT(regions_.Register("a", {"r", "large", 0, 100'000}), IsOk());
  {
    const absl::StatusOr<TensorBytes> read = regions_.Read("a", {"r", 0, 100'000});
    ASSERT_THAT(read, IsOk());
    EXPECT_GE(budget_.Held(MemoryKind::kMessage), 100'000);
  }
  EXPECT_EQ(budget_.held(), 0);
  // A file may promise more than there is: nothing is allocated for it.
  std::filesystem::resize_file(folder_.File("large"), int64_t{1} << 40);
  ASSERT_THAT(regions_.Register("a", {"huge", "large", 0, uint64_t{1} << 40}), IsOk());
  EXPECT_THAT(regions_.Read("a", {"huge", 0, uint64_t{1} << 40}),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("there is no memory now")));
}

TEST_F(SharedMemoryTest, NoMoreIsReadThanAMessageMayBring) {
  SharedMemoryRegions regions(pool_, {.max_tensor_bytes = 4}, folder_.path());
  ASSERT_THAT(regions.Register("a", {"r", "ten", 0, 10}), IsOk());
  EXPECT_THAT(regions.Read("a", {"r", 0, 4}), IsOk());
  EXPECT_THAT(regions.Read("a", {"r", 0, 5}),
              StatusIs(kBad, HasSubstr("shared_memory_byte_size: got 5, wanted at most 4")));
}

TEST_F(SharedMemoryTest, ReadsGoOnWhileRegionsComeAndGo) {
  std::thread turnover([&] {
    for (int i = 0; i < 300; ++i) {
      EXPECT_THAT(regions_.Register("a", {"r", "ten", 0, 10}), IsOk());
      regions_.Unregister("a", "r");
    }
  });
  for (int i = 0; i < 300; ++i) {
    const absl::StatusOr<std::string> read = Read({"r", 3, 2});
    if (read.ok()) {
      EXPECT_EQ(*read, "34");
    } else {
      EXPECT_THAT(read, StatusIs(kAbsent, HasSubstr("\"r\"")));
    }
  }
  turnover.join();
}

TEST_F(SharedMemoryTest, WithoutTheOptionTheOptionIsNamed) {
  EXPECT_THAT(SharedMemoryNotAllowed(),
              StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("--allow-shared-memory")));
}

}  // namespace
}  // namespace headlight
