// SPDX-License-Identifier: Apache-2.0
//
// What loading a model takes at most, against what EstimateMemory says before. In a program of its own,
// because it replaces the allocation functions of the C library.
#include <gtest/gtest.h>
#include <malloc.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "core/base/status_macros.h"
#include "core/checkpoint/memory_estimate.h"
#include "core/model/model.h"
#include "core/model/precision_error.h"
#include "tests/core/checkpoint/load_cases.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace headlight {
namespace {

// What is allocated in the whole process, libraries included, and the most that it was since Begin().
std::atomic<int64_t> live_bytes = 0;
std::atomic<int64_t> peak_bytes = 0;

// Blocks of whole huge pages, and their sizes as they were asked for: the C library maps up to a huge page of
// addresses more than it hands out, by chance, and calls what is left behind the block usable. Nobody touches
// that.
constexpr size_t kHugePageBytes = size_t{2} << 20;
struct HugeBlock {
  void* memory;
  size_t size;
};
std::array<HugeBlock, 1024> huge_blocks;
std::atomic_flag huge_blocks_taken;

HugeBlock* HugeBlockOf(void* memory) {
  return std::find_if(huge_blocks.begin(), huge_blocks.end(),
                      [&](const HugeBlock& block) { return block.memory == memory; });
}

// Calls body() while no other thread does.
template <typename Body>
auto WithHugeBlocks(const Body& body) {
  while (huge_blocks_taken.test_and_set()) {
  }
  const auto result = body();
  huge_blocks_taken.clear();
  return result;
}

bool MayBeHuge(void* memory) { return reinterpret_cast<uintptr_t>(memory) % kHugePageBytes == 0; }

void* Huge(void* memory, size_t size) {
  if (memory == nullptr || !MayBeHuge(memory)) return memory;
  const bool known = WithHugeBlocks([&] {
    HugeBlock* const block = HugeBlockOf(nullptr);
    if (block == huge_blocks.end()) return false;
    *block = {memory, size};
    return true;
  });
  if (!known) std::abort();
  return memory;
}

int64_t SizeOfBlock(void* memory) {
  const size_t usable = malloc_usable_size(memory);
  if (!MayBeHuge(memory)) return static_cast<int64_t>(usable);
  return static_cast<int64_t>(WithHugeBlocks([&] {
    const HugeBlock* const block = HugeBlockOf(memory);
    return block == huge_blocks.end() ? usable : block->size;
  }));
}

void* Taken(void* memory) {
  if (memory == nullptr) return nullptr;
  const int64_t live = live_bytes += SizeOfBlock(memory);
  int64_t peak = peak_bytes;
  while (live > peak && !peak_bytes.compare_exchange_weak(peak, live)) {
  }
  return memory;
}

void Given(void* memory) {
  if (memory == nullptr) return;
  live_bytes -= SizeOfBlock(memory);
  if (!MayBeHuge(memory)) return;
  WithHugeBlocks([&] {
    HugeBlock* const block = HugeBlockOf(memory);
    if (block != huge_blocks.end()) *block = {};
    return true;
  });
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
  void* const memory = __libc_memalign(alignment, size);
  return headlight::Taken(alignment < headlight::kHugePageBytes ? memory : headlight::Huge(memory, size));
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

using testing::EstimateOf;
using testing::IsOk;
using testing::Load;
using testing::LoadCase;
using testing::LoadCases;
using testing::TempFolder;

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
  for (const LoadCase& load : LoadCases()) {
    const TempFolder parent;
    const std::string folder = parent.path() + "/model";
    ASSERT_THAT(load.write(folder), IsOk());
    for (const Precision precision : {Precision::kF32, Precision::kBf16, Precision::kInt8}) {
      SCOPED_TRACE(load.name + " in " + Name(precision));
      const MemoryEstimate estimate = EstimateOf(folder, precision);
      ASSERT_THAT(Load(folder, precision), IsOk());  // what libraries keep
      const int64_t before = live_bytes;
      peak_bytes = before;
      ASSERT_THAT(Load(folder, precision), IsOk());
      const int64_t peak = peak_bytes - before;
      std::cout << load.name << " in " << Name(precision) << ": " << peak << " bytes, estimated "
                << estimate.peak_bytes << "\n";
      EXPECT_LE(peak, estimate.peak_bytes);
      EXPECT_LE(estimate.peak_bytes, peak * 115 / 100);
    }
  }
}

// Gives the layers of a model as files do: in memory that stays from layer to layer.
class LayerAtATime : public ModelParameters {
 public:
  explicit LayerAtATime(ModelParameters from) : ModelParameters(std::move(from)) {}

  absl::StatusOr<const BlockParameters*> Layer(int64_t layer, BlockParameters& memory) const override {
    const auto copy = [](const std::vector<float>& from, std::vector<float>& to) {
      if (to.capacity() < from.size()) to = std::vector<float>();
      to.assign(from.begin(), from.end());
    };
    const BlockParameters& from = layers[layer];
    const auto copy_all = [&](auto member, const auto& tensors) {
      for (const auto tensor : tensors) copy(from.*member.*tensor, memory.*member.*tensor);
    };
    using A = AttentionParameters;
    using F = FeedForwardParameters;
    copy_all(&BlockParameters::attention,
             std::array{&A::wq, &A::wk, &A::wv, &A::wo, &A::bq, &A::bk, &A::bv, &A::bo});
    copy_all(&BlockParameters::feed_forward,
             std::array{&F::up, &F::up_bias, &F::gate, &F::gate_bias, &F::down, &F::down_bias});
    memory.attention_norm = from.attention_norm;
    memory.feed_forward_norm = from.feed_forward_norm;
    return &memory;
  }
};

TEST(LoadMemoryTest, TakesAtMostWhatIsEstimatedWhereLayersDiffer) {
  ModelConfig config;
  config.block.attention = {.embed_dim = 512, .num_heads = 8, .rope = RopeConfig{.theta = 1e4}};
  config.block.norm_placement = NormPlacement::kPre;
  config.block.feed_forward = {.hidden_dim = 2048, .gated = true};
  BlockConfig other = config.block;
  other.attention = {.embed_dim = 512, .num_heads = 16, .num_kv_heads = 4, .head_dim = 64};
  other.attention.rope = RopeConfig{.theta = 1e6};
  other.feed_forward = {.hidden_dim = 3000};
  config.other_blocks = {other};
  config.num_layers = 6;
  config.layer_blocks = {0, 1, 0, 0, 1, 0};
  config = config.Resolved();
  const LayerAtATime parameters(RandomModelParameters(config, 1));
  using enum Precision;
  for (const auto& [precision, held] :
       {std::pair(kF32, kF32), {kBf16, kF32}, {kInt8, kF32}, {kF32, kBf16}, {kF32, kInt8}, {kBf16, kInt8}}) {
    SCOPED_TRACE(std::string(Name(precision)) + ", parameters " + Name(held));
    config.SetPrecision(precision);
    config.SetParametersPrecision(held);
    const auto load = [&]() -> absl::Status {
      HEADLIGHT_ASSIGN_OR_RETURN(const Model model, Model::Create(config, parameters));
      return MeasurePrecisionError(model, parameters).status();
    };
    ASSERT_THAT(load(), IsOk());  // what libraries keep
    const int64_t before = live_bytes;
    peak_bytes = before;
    ASSERT_THAT(load(), IsOk());
    const int64_t peak = peak_bytes - before;
    const int64_t estimate = EstimateMemory(config).peak_bytes;
    std::cout << Name(precision) << ": " << peak << " bytes, estimated " << estimate << "\n";
    EXPECT_LE(peak, estimate);
    EXPECT_LE(estimate, peak * 135 / 100) << "of each part the largest, and what is compiled for two shapes";
  }
}

}  // namespace
}  // namespace headlight
