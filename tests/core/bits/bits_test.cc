// SPDX-License-Identifier: Apache-2.0
//
// An answer in f32 has the same bits on every x86 with fused multiply-adds, by every kernel but matmul, on any
// number of threads, alone or in a batch: the CRC-32C that golden_crcs.txt has for it. Run once for each
// instruction set. `core_bits golden` writes the file; `core_bits compare` compares many more problems.
#include <gtest/gtest.h>

#include <cctype>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "core/attention/tiled/softmax.h"
#include "core/model/activation.h"
#include "core/simd/targets.h"
#include "tests/core/bits/bit_cases.h"
#include "tests/testing/slow_crc32c.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using testing::BitsCase;
using testing::IsOk;

std::map<std::string, uint32_t> GoldenCrcs() {
  std::ifstream file(HEADLIGHT_GOLDEN_CRCS);
  std::map<std::string, uint32_t> crcs;
  std::string name;
  uint32_t crc = 0;
  while (file >> name >> std::hex >> crc) crcs[name] = crc;
  return crcs;
}

TEST(Crc32cTest, IsCastagnolis) {
  EXPECT_EQ(testing::ExtendSlowCrc32c(0, "123456789", 9), 0xe3069283u);  // as in RFC 3720's catalogue
  EXPECT_EQ(testing::ExtendSlowCrc32c(testing::ExtendSlowCrc32c(0, "1234", 4), "56789", 5), 0xe3069283u);
}

class BitsTest : public ::testing::TestWithParam<BitsCase> {
 protected:
  void SetUp() override {
    if (!testing::HasFusedMultiplyAdds()) GTEST_SKIP() << "no fused multiply-adds here";
    if (testing::KernelsOfTheSameBits().empty()) GTEST_SKIP() << "no kernel but matmul here";
  }
};

TEST_P(BitsTest, AreThoseOfEveryOtherX86) {
  const std::map<std::string, uint32_t> golden = GoldenCrcs();
  ASSERT_EQ(golden.size(), 40u) << HEADLIGHT_GOLDEN_CRCS;
  ASSERT_TRUE(golden.contains(GetParam().name));
  for (const std::string& kernel : testing::KernelsOfTheSameBits()) {
    for (const bool alone : {true, false}) {
      SCOPED_TRACE(kernel + (alone ? ", alone on one thread" : ", batched on two threads"));
      const absl::StatusOr<uint32_t> crc =
          GetParam().compute({.kernel = kernel, .num_threads = alone ? 1 : 2, .batched = !alone});
      ASSERT_THAT(crc, IsOk());
      EXPECT_EQ(*crc, golden.at(GetParam().name));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, BitsTest, ::testing::ValuesIn(testing::GoldenBits()), [](const auto& info) {
  std::string name = info.param.name;
  for (char& c : name) c = c == '-' ? '_' : c;
  return name;
});

// Of parameters that are held narrow. The other test says that what they are compared with is right.
class NarrowBitsTest : public ::testing::TestWithParam<BitsCase> {};

TEST_P(NarrowBitsTest, AreThoseOfParametersRoundedBefore) {
  for (const std::string& kernel : testing::KernelsOfF32()) {
    for (const Precision held : {Precision::kBf16, Precision::kInt8}) {
      SCOPED_TRACE(kernel + ", parameters in " + Name(held));
      const absl::StatusOr<uint32_t> wanted =
          GetParam().compute({.kernel = kernel, .parameters = held, .rounded_before = true});
      const absl::StatusOr<uint32_t> exact = GetParam().compute({.kernel = kernel});
      ASSERT_THAT(wanted, IsOk());
      ASSERT_THAT(exact, IsOk());
      // In int8 a column of one number is that number.
      const bool is_exact = held == Precision::kInt8 && GetParam().name == "model-tiny";
      EXPECT_EQ(*wanted == *exact, is_exact);
      for (const bool batched : {false, true}) {
        const absl::StatusOr<uint32_t> crc = GetParam().compute(
            {.kernel = kernel, .num_threads = batched ? 2 : 1, .batched = batched, .parameters = held});
        ASSERT_THAT(crc, IsOk());
        EXPECT_EQ(*crc, *wanted) << (batched ? "batched on two threads" : "alone on one thread");
      }
    }
  }
}

// The same for every other precision of products that this CPU has.
TEST_P(NarrowBitsTest, AreThoseOfParametersRoundedBeforeInBf16) {
  for (const std::string& kernel : testing::KernelsOfF32()) {
    const testing::BitsRun in_bf16 = {.kernel = kernel, .precision = Precision::kBf16};
    testing::BitsRun rounded = in_bf16, narrow = in_bf16;
    rounded.parameters = narrow.parameters = Precision::kInt8;
    rounded.rounded_before = true;
    const absl::StatusOr<uint32_t> wanted = GetParam().compute(rounded);
    if (absl::IsUnimplemented(wanted.status())) continue;
    ASSERT_THAT(wanted, IsOk());
    for (const bool batched : {false, true}) {
      narrow.batched = batched;
      narrow.num_threads = batched ? 2 : 1;
      const absl::StatusOr<uint32_t> crc = GetParam().compute(narrow);
      ASSERT_THAT(crc, IsOk());
      EXPECT_EQ(*crc, *wanted) << kernel << (batched ? ", batched" : ", alone");
    }
  }
}

std::vector<BitsCase> NarrowCases() {
  std::vector<BitsCase> cases = testing::GoldenBits();
  for (const BitsCase& of_model : testing::ModelConfigBits()) cases.push_back(of_model);
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Cases, NarrowBitsTest, ::testing::ValuesIn(NarrowCases()), [](const auto& info) {
  std::string name = info.param.name;
  for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return name;
});

// Finite numbers of every magnitude, of both signs or below zero.
std::vector<float> Sweep(bool only_negative) {
  constexpr uint32_t kBitsApart = 4099;  // a prime: all mantissas
  std::vector<float> numbers;
  for (uint64_t bits = only_negative ? uint64_t{1} << 31 : 0; bits < uint64_t{1} << 32; bits += kBitsApart) {
    const auto word = static_cast<uint32_t>(bits);
    float number = 0;
    std::memcpy(&number, &word, sizeof(number));
    if (std::isfinite(number)) numbers.push_back(number);
  }
  numbers.resize(numbers.size() / kReferenceKeys * kReferenceKeys);
  return numbers;
}

uint32_t CrcOf(const std::vector<float>& numbers) {
  return testing::ExtendSlowCrc32c(0, numbers.data(), numbers.size() * sizeof(float));
}

class FunctionBitsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!testing::HasFusedMultiplyAdds()) GTEST_SKIP() << "no fused multiply-adds here";
  }

  static uint32_t CrcOfActivation(Activation activation) {
    const std::vector<float> numbers = Sweep(false);
    const auto cols = static_cast<int64_t>(numbers.size());
    const std::vector<float> bias(numbers.size(), 0.0f);
    std::vector<float> out(numbers.size());
    Activate(activation, {.up = {numbers.data(), 1, cols, cols}, .up_bias = bias.data(), .gate = {}},
             MutableMatrixView{out.data(), 1, cols, cols});
    return CrcOf(out);
  }

  // Of 2^x, x = number or softcap * tanh(number), a panel at a time beside a score of 0, the largest.
  static uint32_t CrcOfPowers(float softcap) {
    std::vector<float> powers;
    const std::vector<float> numbers = Sweep(true);
    for (auto first = numbers.begin(); first != numbers.end(); first += kReferenceKeys) {
      std::vector<float> scores(first, first + kReferenceKeys);
      scores[0] = 0.0f;
      float reference = 0, sum[kLanes], acc[kLanes];
      const SoftmaxState state = {&reference, sum, {acc, 1, kLanes, kLanes}};
      BeginSoftmax(state, 1);
      const int64_t query = 0;
      ScoreRules rules;
      rules.softcap = softcap;
      rules.q_len = 1;
      rules.kv_len = rules.num_keys = kReferenceKeys;
      SoftmaxTile(ScoreTile<float>{.scores = {scores.data(), 1, kReferenceKeys, kReferenceKeys},
                                   .probabilities = scores.data(),
                                   .probability_stride = kReferenceKeys,
                                   .query = &query},
                  rules, state);
      powers.insert(powers.end(), scores.begin(), scores.end());
    }
    return CrcOf(powers);
  }
};

TEST_F(FunctionBitsTest, PowersOfTwo) { EXPECT_EQ(CrcOfPowers(0.0f), 0x7bf3656au); }
TEST_F(FunctionBitsTest, Softcap) { EXPECT_EQ(CrcOfPowers(40.0f), 0xff583392u); }
TEST_F(FunctionBitsTest, Relu) { EXPECT_EQ(CrcOfActivation(Activation::kRelu), 0x0d136088u); }
TEST_F(FunctionBitsTest, GeluErf) { EXPECT_EQ(CrcOfActivation(Activation::kGeluErf), 0x1c3794f9u); }
TEST_F(FunctionBitsTest, GeluTanh) { EXPECT_EQ(CrcOfActivation(Activation::kGeluTanh), 0xce8878b0u); }
TEST_F(FunctionBitsTest, Silu) { EXPECT_EQ(CrcOfActivation(Activation::kSilu), 0x75b0c26au); }

}  // namespace
}  // namespace headlight
