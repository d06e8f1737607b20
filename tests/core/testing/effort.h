// SPDX-License-Identifier: Apache-2.0
//
// How much work the random tests do, and from which seed.
#ifndef HEADLIGHT_TESTS_CORE_TESTING_EFFORT_H_
#define HEADLIGHT_TESTS_CORE_TESTING_EFFORT_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <random>

namespace headlight::testing {

using Rng = std::mt19937_64;

// Repetitions of a random test: `count` in ordinary builds, a quarter of it under a sanitizer, a twentieth where another
// CPU is emulated.
inline int Repetitions(int count) {
#if defined(HEADLIGHT_TEST_EMULATED)
  return std::max(count / 20, 1);
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return std::max(count / 4, 1);
#else
  return count;
#endif
}

// The seed of the run: --gtest_random_seed or GTEST_RANDOM_SEED; 1 unless given, so that a plain run repeats
// itself.
inline uint32_t TestSeed() { return static_cast<uint32_t>(std::max(GTEST_FLAG_GET(random_seed), 1)); }

// The random numbers of repetition `index` of a test; independent of those of other repetitions.
inline Rng MakeRng(int index) {
  std::seed_seq seed{TestSeed(), static_cast<uint32_t>(index)};
  return Rng(seed);
}

inline int64_t UniformInt(Rng& rng, int64_t min, int64_t max) {
  return std::uniform_int_distribution<int64_t>(min, max)(rng);
}

// True in one of `n` cases.
inline bool OneIn(Rng& rng, int64_t n) { return UniformInt(rng, 1, n) == 1; }

}  // namespace headlight::testing

// Names the repetition in every failure that follows in the scope.
#define HEADLIGHT_TRACE_REPETITION(index)                       \
  SCOPED_TRACE(::testing::Message() << "repetition " << (index) \
                                    << ", --gtest_random_seed=" << ::headlight::testing::TestSeed())

#endif  // HEADLIGHT_TESTS_CORE_TESTING_EFFORT_H_
