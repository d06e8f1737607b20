// SPDX-License-Identifier: Apache-2.0
#include "core/product/gemm_cache.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

namespace headlight {
namespace {

class IdleGemm final : public Gemm {
 public:
  explicit IdleGemm(const GemmShape& shape) : Gemm(shape) {}
  void Run(int64_t, const void*, const void*, void*, std::byte*, const float*, Ahead) const override {}
  int64_t scratch_bytes() const override { return 0; }
};

std::atomic<int> idle_gemms_made = 0;

std::unique_ptr<const Gemm> MakeIdle(const GemmShape& shape) {
  ++idle_gemms_made;
  return std::make_unique<IdleGemm>(shape);
}

std::unique_ptr<const Gemm> MakeNothing(const GemmShape&) { throw std::runtime_error("cannot"); }

absl::Status AlwaysAvailable(Precision) { return absl::OkStatus(); }

constexpr GemmProvider kIdleProvider = {"idle", AlwaysAvailable, MakeIdle, [] {}};
constexpr GemmProvider kOtherIdleProvider = {"other idle", AlwaysAvailable, MakeIdle, [] {}};
constexpr GemmProvider kThrowingProvider = {"throwing", AlwaysAvailable, MakeNothing, [] {}};
constexpr GemmShape kSomeShape = {.n = 64, .k = 32, .lda = 33, .ldb = 65, .ldc = 66};

TEST(SharedGemmTest, IsOneProductForOneShape) {
  const auto first = SharedGemm(kIdleProvider, kSomeShape);
  const int made = idle_gemms_made;
  EXPECT_EQ(SharedGemm(kIdleProvider, kSomeShape), first);
  EXPECT_EQ(idle_gemms_made, made);
}

TEST(SharedGemmTest, EachFieldOfAShapeAndEachProviderMakeAnother) {
  std::vector<GemmShape> shapes(9, kSomeShape);
  shapes[1].operands = Precision::kBf16;
  ++shapes[2].n;
  ++shapes[3].k;
  ++shapes[4].lda;
  ++shapes[5].ldb;
  ++shapes[6].ldc;
  shapes[7].accumulate = true;
  shapes[8].bias = true;
  std::vector<std::shared_ptr<const Gemm>> gemms = {SharedGemm(kOtherIdleProvider, kSomeShape)};
  for (const GemmShape& shape : shapes) gemms.push_back(SharedGemm(kIdleProvider, shape));
  for (size_t i = 0; i < gemms.size(); ++i) {
    for (size_t j = 0; j < i; ++j) EXPECT_NE(gemms[i], gemms[j]) << i << " and " << j;
  }
}

TEST(SharedGemmTest, LetsGoOfWhatNobodyHolds) {
  auto gemm = SharedGemm(kIdleProvider, kSomeShape);
  const std::weak_ptr<const Gemm> watched = gemm;
  gemm.reset();
  EXPECT_TRUE(watched.expired());
  const int made = idle_gemms_made;
  gemm = SharedGemm(kIdleProvider, kSomeShape);
  EXPECT_EQ(idle_gemms_made, made + 1);
}

TEST(SharedGemmTest, WhatAProviderThrowsComesThroughEachTime) {
  EXPECT_THROW(SharedGemm(kThrowingProvider, kSomeShape), std::runtime_error);
  EXPECT_THROW(SharedGemm(kThrowingProvider, kSomeShape), std::runtime_error);
  EXPECT_NE(SharedGemm(kIdleProvider, kSomeShape), nullptr);
}

TEST(SharedGemmTest, ThreadsThatAskAtOnceGetTheSame) {
  const int made = idle_gemms_made;
  std::vector<std::shared_ptr<const Gemm>> gemms(8);
  std::vector<std::thread> threads;
  for (auto& gemm : gemms) threads.emplace_back([&gemm] { gemm = SharedGemm(kIdleProvider, kSomeShape); });
  for (std::thread& thread : threads) thread.join();
  for (const auto& gemm : gemms) EXPECT_EQ(gemm, gemms[0]);
  EXPECT_EQ(idle_gemms_made, made + 1);
}

}  // namespace
}  // namespace headlight
