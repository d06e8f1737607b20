// SPDX-License-Identifier: Apache-2.0
//
// What loading a model takes at most, against what EstimateMemory says before. In a program of its own,
// because it replaces the allocation functions of the C library.
#include <gtest/gtest.h>
#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "core/checkpoint/folder.h"
#include "core/model/model.h"
#include "core/model/precision_error.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace headlight {
namespace {

// What is allocated in the whole process, libraries included, and the most that it was since Begin().
std::atomic<int64_t> live_bytes = 0;
std::atomic<int64_t> peak_bytes = 0;

void* Taken(void* memory) {
  if (memory == nullptr) return nullptr;
  const int64_t live = live_bytes += static_cast<int64_t>(malloc_usable_size(memory));
  int64_t peak = peak_bytes;
  while (live > peak && !peak_bytes.compare_exchange_weak(peak, live)) {
  }
  return memory;
}

void Given(void* memory) {
  if (memory != nullptr) live_bytes -= static_cast<int64_t>(malloc_usable_size(memory));
}

}  // namespace
}  // namespace headlight

extern "C" {
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* memory, size_t size);
void* __libc_memalign(size_t alignment, size_t size);
void __libc_free(void* memory);

void* malloc(size_t size) noexcept { return headlight::Taken(__libc_malloc(size)); }
void* calloc(size_t count, size_t size) noexcept { return headlight::Taken(__libc_calloc(count, size)); }
void* realloc(void* memory, size_t size) noexcept {
  headlight::Given(memory);
  return headlight::Taken(__libc_realloc(memory, size));
}
void* memalign(size_t alignment, size_t size) noexcept {
  return headlight::Taken(__libc_memalign(alignment, size));
}
void* aligned_alloc(size_t alignment, size_t size) noexcept { return memalign(alignment, size); }
int posix_memalign(void** out, size_t alignment, size_t size) noexcept {
  *out = memalign(alignment, size);
  return *out == nullptr ? ENOMEM : 0;
}
void free(void* memory) noexcept {
  headlight::Given(memory);
  __libc_free(memory);
}
}

namespace headlight {
namespace {

using testing::IsOk;
using testing::TempFolder;

// For the objects around the weights, and what libraries set up when they are first used.
constexpr int64_t kSlackBytes = int64_t{1} << 20;

struct LoadCase {
  std::string name;
  ModelConfig config;
};

std::vector<LoadCase> LoadCases() {
  ModelConfig encoder;
  encoder.block.attention = {.embed_dim = 384, .num_heads = 12};
  encoder.block.norm_placement = NormPlacement::kPost;
  encoder.block.feed_forward.hidden_dim = 1536;
  encoder.num_layers = 4;
  encoder.embedding = {.vocab_size = 500, .num_positions = 128, .norm = true};

  ModelConfig gated = encoder;
  gated.block.norm_placement = NormPlacement::kPre;
  gated.block.norm_kind = NormKind::kRmsNorm;
  gated.block.feed_forward.gated = true;
  gated.num_layers = 1;

  ModelConfig many_words = encoder;
  many_words.embedding = {.vocab_size = 20000, .num_positions = 128, .norm = true};
  many_words.num_layers = 1;

  ModelConfig bare;
  bare.block.attention = {.embed_dim = 1024, .num_heads = 16};
  return {{"encoder", encoder}, {"gated", gated}, {"many words", many_words}, {"bare", bare}};
}

// All that the server does to make a model of a folder.
void Load(const std::string& folder, Precision precision) {
  auto loaded = LoadModelFolder(folder);
  ASSERT_THAT(loaded, IsOk());
  loaded->summary.config.block.attention.precision = precision;
  const auto model = Model::Create(loaded->summary.config, loaded->weights);
  ASSERT_THAT(model, IsOk());
  ASSERT_THAT(MeasurePrecisionError(*model, loaded->weights), IsOk());
}

TEST(AllocationsTest, AreCountedHoweverTheyAreMade) {
  const int64_t before = live_bytes;
  void* volatile plain = std::malloc(100000);
  void* volatile aligned = std::aligned_alloc(64, 64000);
  auto* volatile made = new char[50000];
  EXPECT_GE(live_bytes - before, 214000);
  std::free(plain);
  std::free(aligned);
  delete[] made;
  EXPECT_LT(live_bytes - before, 4096);
}

TEST(LoadMemoryTest, TakesAtMostWhatIsEstimated) {
  for (const auto& [name, config] : LoadCases()) {
    TempFolder folder;
    {
      const ModelConfig resolved = config.Resolved();
      ASSERT_THAT(SaveModelFolder(folder.path(), resolved, RandomModelParameters(resolved, 1)), IsOk());
    }
    for (const Precision precision : {Precision::kF32, Precision::kBf16, Precision::kInt8}) {
      ModelConfig in_precision = config;
      in_precision.block.attention.precision = precision;
      const MemoryEstimate estimate = EstimateMemory(in_precision);
      Load(folder.path(), precision);  // what libraries keep
      const int64_t before = live_bytes;
      peak_bytes = before;
      Load(folder.path(), precision);
      const int64_t peak = peak_bytes - before;
      std::cout << name << " in " << Name(precision) << ": " << peak << " bytes, estimated "
                << estimate.peak_bytes << "\n";
      EXPECT_LE(peak, estimate.peak_bytes) << name << " in " << Name(precision);
      EXPECT_LE(estimate.peak_bytes, peak * 3 / 2 + kSlackBytes) << name << " in " << Name(precision);
    }
  }
}

}  // namespace
}  // namespace headlight
