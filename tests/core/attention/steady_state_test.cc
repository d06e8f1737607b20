// SPDX-License-Identifier: Apache-2.0
//
// What a layer does not do once it is warm: allocate; and what it stops doing when nobody waits: compute. In
// a program of its own, because it replaces the allocation functions.
#include <dlfcn.h>
#include <execinfo.h>
#include <gtest/gtest.h>
#include <malloc.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "core/attention/batch.h"
#include "core/attention/layer.h"
#include "core/model/model.h"
#include "core/runtime/cancellation.h"
#include "core/runtime/compute_arena.h"
#include "tests/core/model/test_model.h"
#include "tests/core/testing/effort.h"
#include "tests/core/testing/kernel_fixture.h"
#include "tests/core/testing/test_problem.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

// Allocations are attributed by the first frame beyond this file and the C++ library: ours are those that
// this program itself asks for, into which the core is linked. Those of the libraries (oneDNN, oneTBB,
// OpenMP) are not.
class OwnAllocations {
 public:
  static void Begin() {
    count_ = 0;
    counting_ = true;
  }
  static int64_t End() {
    counting_ = false;
    return count_;
  }
  // Where the first one came from: addresses in this program, the innermost first.
  static std::string FirstCaller() { return first_caller_.data(); }

  // Called by every replaced function.
  static void Note() {
    if (!counting_ || inside_) return;
    inside_ = true;  // what follows may allocate
    void* frames[16];
    const int num_frames = backtrace(frames, 16);
    for (int i = kOwnFrames; i < num_frames; ++i) {
      Dl_info info;
      if (dladdr(frames[i], &info) == 0 || info.dli_fname == nullptr) continue;
      if (std::strstr(info.dli_fname, "libstdc++") != nullptr) continue;
      if (info.dli_fbase == ProgramBase() && count_++ == 0) Describe(frames + i, num_frames - i);
      break;
    }
    inside_ = false;
  }

 private:
  static constexpr int kOwnFrames = 2;  // Note and the replaced function

  static void* ProgramBase() {
    Dl_info info;
    return dladdr(reinterpret_cast<void*>(&OwnAllocations::Note), &info) == 0 ? nullptr : info.dli_fbase;
  }

  // For `addr2line -Cfpe PROGRAM ADDRESSES`.
  static void Describe(void* const* frames, int num_frames) {
    char* out = first_caller_.data();
    char* const end = out + first_caller_.size();
    for (int i = 0; i < num_frames; ++i) {
      const ptrdiff_t offset = static_cast<char*>(frames[i]) - static_cast<char*>(ProgramBase());
      const int length = std::snprintf(out, end - out, " 0x%tx", offset);
      if (length >= end - out) return;
      out += length;
    }
  }

  static inline std::atomic<bool> counting_ = false;
  static inline std::atomic<int64_t> count_ = 0;
  static inline thread_local bool inside_ = false;
  static inline std::array<char, 256> first_caller_ = {};
};

}  // namespace
}  // namespace headlight

// noinline: Note counts frames.
#define HEADLIGHT_REPLACED __attribute__((noinline))

HEADLIGHT_REPLACED void* operator new(size_t size) {
  headlight::OwnAllocations::Note();
  void* memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
HEADLIGHT_REPLACED void* operator new(size_t size, std::align_val_t alignment) {
  headlight::OwnAllocations::Note();
  void* memory = memalign(static_cast<size_t>(alignment), size == 0 ? 1 : size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }

// What core/tensor/buffer.cc allocates with.
extern "C" HEADLIGHT_REPLACED void* aligned_alloc(size_t alignment, size_t size) noexcept {
  headlight::OwnAllocations::Note();
  return memalign(alignment, size);
}

namespace headlight {
namespace {

using testing::IsOk;
using testing::RandomInputs;
using testing::Rng;
using testing::SinkRequest;
using testing::TestBatch;
using testing::TestLayer;
using testing::TestSequence;

class SteadyStateTest : public testing::KernelTest {};

INSTANTIATE_TEST_SUITE_P(Kernels, SteadyStateTest, ::testing::ValuesIn(testing::KernelParams()),
                         testing::KernelTestName);

TEST(OwnAllocationsTest, AreThoseOfThisProgram) {
  OwnAllocations::Begin();
  auto number = std::make_unique<int>(1);
  std::vector<int> numbers(100, *number);
  const std::string text(100, 'x');  // from within the C++ library
  void* block = std::aligned_alloc(64, 128);
  std::free(block);
  EXPECT_EQ(OwnAllocations::End(), 4) << numbers[0] << text;
}

TEST_P(SteadyStateTest, AWarmLayerDoesNotAllocate) {
  if (GetParam().kernel == "matmul")
    GTEST_SKIP() << "oneDNN's primitives take memory objects that it allocates";
  Rng rng = MakeRng(0);
  for (const AttentionConfig& plain : {
           AttentionConfig{.embed_dim = 64, .num_heads = 4},
           AttentionConfig{.embed_dim = 48,
           .num_heads = 4,
           .num_kv_heads = 2,
           .add_zero_attn = true,
           .add_bias_kv = true,
           .rope = RopeConfig{},
           .alibi = true,
           .logit_softcap = 8.0,
           .window_left = 100},
       }) {
    const TestLayer layer = {plain.Resolved(), RandomParameters(plain.Resolved(), 1)};
    const absl::StatusOr<AttentionLayer> attention = Create(layer);
    ASSERT_THAT(attention, IsOk());
    const TestSequence long_sequence = RandomInputs(rng, layer.config, 300, 600);
    const TestSequence short_sequence = RandomInputs(rng, layer.config, 5, 7);
    std::vector<const TestSequence*> sequences;
    std::vector<SinkRequest> requests;
    for (const WeightsSink::Mode mode : testing::kSinkModes) {
      for (const TestSequence* sequence : {&long_sequence, &short_sequence}) {
        sequences.push_back(sequence);
        requests.push_back({.mode = mode});
      }
    }
    TestBatch batch(layer.config, sequences, requests);
    for (const int num_threads : {1, 2}) {
      SCOPED_TRACE(::testing::Message()
                   << testing::Describe(layer.config) << ", " << num_threads << " threads");
      ComputeArena arena(num_threads);
      const std::unique_ptr<Workspace> workspace = attention->NewWorkspace(arena);
      for (int warm_up = 0; warm_up < 2; ++warm_up) {
        ASSERT_THAT(attention->Forward(batch.batch(), arena, *workspace), IsOk());
      }
      OwnAllocations::Begin();
      const absl::Status status = attention->Forward(batch.batch(), arena, *workspace);
      EXPECT_EQ(OwnAllocations::End(), 0) << "the first one from" << OwnAllocations::FirstCaller();
      EXPECT_THAT(status, IsOk());
    }
  }
}

TEST_P(SteadyStateTest, AWarmModelDoesNotAllocate) {
  if (GetParam().kernel == "matmul")
    GTEST_SKIP() << "oneDNN's primitives take memory objects that it allocates";
  for (const auto& [name, plain] : testing::ModelConfigs()) {
    ModelConfig config = plain.Resolved();
    config.SetPrecision(GetParam().precision);
    const absl::StatusOr<Model> model =
        Model::Create(config, RandomModelParameters(config, 1), GetParam().kernel);
    ASSERT_THAT(model, IsOk());
    testing::ModelInputs inputs(config, {1, 300, 20}, {1, 2, 3});
    const ModelBatch batch = inputs.Batch();
    for (const int num_threads : {1, 2, 16}) {  // with 16, columns are split too
      SCOPED_TRACE(::testing::Message() << name << ", " << num_threads << " threads");
      ComputeArena arena(num_threads);
      const std::unique_ptr<ModelWorkspace> workspace = model->NewWorkspace(arena);
      for (int warm_up = 0; warm_up < 2; ++warm_up) {
        ASSERT_THAT(model->Forward(batch, arena, *workspace), IsOk());
      }
      OwnAllocations::Begin();
      const absl::Status status = model->Forward(batch, arena, *workspace);
      EXPECT_EQ(OwnAllocations::End(), 0) << "the first one from" << OwnAllocations::FirstCaller();
      EXPECT_THAT(status, IsOk());
    }
  }
}

// A batch that takes tens of seconds if nobody stops it, and the time that it may still take afterwards: a
// work item's, and much more for a machine that is busy with other things.
constexpr int64_t kLongLength = 16384;
constexpr auto kPatience = std::chrono::seconds(1);

class CancellationTest : public testing::KernelTest {
 protected:
  // Forward over one long sequence whose token is cancelled after `delay`; how long it went on from there.
  std::chrono::nanoseconds TimeToStop(std::chrono::milliseconds delay, WeightsSink::Mode mode) {
    const AttentionConfig config = AttentionConfig{.embed_dim = 256, .num_heads = 32}.Resolved();
    const TestLayer layer = {config, RandomParameters(config, 1)};
    const absl::StatusOr<AttentionLayer> attention = Create(layer);
    Rng rng = MakeRng(0);
    TestSequence sequence = RandomInputs(rng, config, kLongLength, kLongLength);
    TestBatch batch(config, {&sequence}, mode);
    CancellationToken token;
    batch.options(0).cancelled = &token;
    const std::unique_ptr<Workspace> workspace = attention->NewWorkspace(arena_);
    std::chrono::steady_clock::time_point cancelled;
    std::thread canceller([&] {
      std::this_thread::sleep_for(delay);
      cancelled = std::chrono::steady_clock::now();
      token.Cancel();
    });
    EXPECT_THAT(attention->Forward(batch.batch(), arena_, *workspace), IsOk());
    const auto returned = std::chrono::steady_clock::now();
    canceller.join();
    EXPECT_GT(returned, cancelled) << "the batch was too short for this test";
    return returned - cancelled;
  }
};

INSTANTIATE_TEST_SUITE_P(Kernels, CancellationTest, ::testing::ValuesIn(testing::KernelParams()),
                         testing::KernelTestName);

TEST_P(CancellationTest, ALongSequenceStopsSoonAfterItIsCancelled) {
  EXPECT_LT(TimeToStop(std::chrono::milliseconds(150), WeightsSink::Mode::kNone), kPatience);
  EXPECT_LT(TimeToStop(std::chrono::milliseconds(150), WeightsSink::Mode::kSummary), kPatience);
}

}  // namespace
}  // namespace headlight
