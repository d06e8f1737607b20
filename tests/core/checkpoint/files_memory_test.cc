// SPDX-License-Identifier: Apache-2.0
//
// How much memory model files can take before they are refused. In a program of its own, because it replaces
// the allocation functions.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <new>
#include <span>
#include <string>

#include "core/checkpoint/safetensors.h"
#include "core/checkpoint/shards.h"
#include "tests/core/checkpoint/corrupt_files.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace headlight {
namespace {

// What operator new gave and operator delete has not taken back, and the most that it was since Begin().
class Heap {
 public:
  static void Begin() { peak_ = start_ = live_.load(); }
  static int64_t PeakBytes() { return peak_ - start_; }

  static void* Take(void* memory) {
    if (memory == nullptr) throw std::bad_alloc();
    live_ += static_cast<int64_t>(malloc_usable_size(memory));
    peak_ = std::max(peak_.load(), live_.load());
    return memory;
  }
  static void Give(void* memory) {
    if (memory != nullptr) live_ -= static_cast<int64_t>(malloc_usable_size(memory));
    std::free(memory);
  }

 private:
  static inline std::atomic<int64_t> live_ = 0;
  static inline std::atomic<int64_t> start_ = 0;
  static inline std::atomic<int64_t> peak_ = 0;
};

}  // namespace
}  // namespace headlight

void* operator new(size_t size) { return headlight::Heap::Take(std::malloc(std::max<size_t>(size, 1))); }
void* operator new(size_t size, std::align_val_t alignment) {
  return headlight::Heap::Take(memalign(static_cast<size_t>(alignment), std::max<size_t>(size, 1)));
}
void operator delete(void* memory) noexcept { headlight::Heap::Give(memory); }
void operator delete(void* memory, size_t) noexcept { headlight::Heap::Give(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { headlight::Heap::Give(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { headlight::Heap::Give(memory); }

namespace headlight {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using testing::SafetensorsBytes;
using testing::StatusIs;
using testing::TempFolder;

// For messages, paths and the objects themselves, however small the file.
constexpr int64_t kSlackBytes = 16384;

int64_t ResidentBytes() {
  int64_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

TEST(HeapTest, NotesThePeakOfWhatLives) {
  Heap::Begin();
  std::string().reserve(100000);
  const std::string second(50000, 'x');
  EXPECT_GE(Heap::PeakBytes(), 100000);
  EXPECT_LT(Heap::PeakBytes(), 120000) << second;
}

TEST(ModelFilesMemory, ACorruptFileTakesNoMoreThanItsSize) {
  int64_t most = 0;
  for (const testing::CorruptFile& file : testing::CorruptFiles()) {
    Heap::Begin();
    EXPECT_FALSE(SafetensorsFile::FromBytes(std::as_bytes(std::span(file.bytes)), "f").ok());
    const int64_t peak = Heap::PeakBytes();
    EXPECT_LE(peak, std::ssize(file.bytes) + kSlackBytes) << file.name;
    most = std::max(most, peak);
  }
  std::cout << "corrupt files take at most " << most << " bytes\n";
}

TEST(ModelFilesMemory, ACorruptFolderTakesNoMoreThanItsSize) {
  int64_t most = 0;
  for (const testing::CorruptFolder& corrupt : testing::CorruptFolders()) {
    TempFolder folder;
    int64_t size = 0;
    for (const auto& [name, bytes] : corrupt.files) {
      folder.Write(name, bytes);
      size += std::ssize(bytes);
    }
    Heap::Begin();
    EXPECT_FALSE(Shards::Open(folder.path()).ok());
    const int64_t peak = Heap::PeakBytes();
    // A folder that is listed has a buffer for its names in the C library, which is not counted here.
    EXPECT_LE(peak, size + kSlackBytes) << corrupt.name;
    most = std::max(most, peak);
  }
  std::cout << "corrupt folders take at most " << most << " bytes\n";
}

TEST(ModelFilesMemory, AHeaderIsReadWhereItLies) {
  const std::string padded = SafetensorsBytes(
      R"({"w":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})" + std::string(10000000, ' '), "wwww");
  Heap::Begin();
  EXPECT_THAT(SafetensorsFile::FromBytes(std::as_bytes(std::span(padded)), "f"), IsOk());
  EXPECT_LE(Heap::PeakBytes(), kSlackBytes);
}

TEST(ModelFilesMemory, OpeningAFileTouchesNoTensor) {
  // 64 GiB, nearly all of it a hole.
  TempFolder folder;
  const std::string path = folder.Write(
      "f",
      SafetensorsBytes(R"({"w":{"dtype":"F32","shape":[17179869184],"data_offsets":[0,68719476736]}})", ""));
  std::filesystem::resize_file(path, std::filesystem::file_size(path) + 68719476736);
  const int64_t before = ResidentBytes();
  const auto file = SafetensorsFile::Open(path);
  ASSERT_THAT(file, IsOk());
  EXPECT_EQ((*file)->entries().at("w").bytes.size(), 68719476736u);
  EXPECT_LT(ResidentBytes() - before, int64_t{16} << 20);
}

TEST(ModelFilesMemory, AnIndexThatIsTooLargeIsNotRead) {
  TempFolder folder;
  const std::string index = folder.Write("model.safetensors.index.json", "{}");
  std::filesystem::resize_file(index, uint64_t{1} << 40);
  Heap::Begin();
  EXPECT_THAT(Shards::Open(folder.path()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("wanted at most")));
  EXPECT_LE(Heap::PeakBytes(), kSlackBytes);
}

}  // namespace
}  // namespace headlight
