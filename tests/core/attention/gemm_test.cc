// SPDX-License-Identifier: Apache-2.0
#include "core/attention/gemm.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/tensor/buffer.h"
#include "tests/core/testing/effort.h"

namespace headlight {
namespace {

class GemmTest : public ::testing::TestWithParam<const GemmProvider*> {
 protected:
  void SetUp() override {
    const absl::Status available = GetParam()->Available(Precision::kF32);
    if (!available.ok()) GTEST_SKIP() << available;
  }
};

INSTANTIATE_TEST_SUITE_P(Providers, GemmTest, ::testing::Values(&kBrgemmProvider, &kMatmulProvider),
                         [](const auto& info) { return std::string(info.param->kernel_name); });

// Small whole numbers, whose products and sums are exact in f32.
std::vector<float> WholeNumbers(int64_t size, int64_t seed) {
  std::vector<float> numbers(size);
  for (int64_t i = 0; i < size; ++i) numbers[i] = static_cast<float>((i * 37 + seed) % 11 - 5);
  return numbers;
}

// Exact, and nothing beside the product's columns is written.
void ExpectExactProduct(const Gemm& gemm, const GemmShape& shape, int64_t rows) {
  constexpr float kBefore = 7.0f;
  const std::vector<float> a = WholeNumbers(rows * shape.lda, 1);
  const std::vector<float> b = WholeNumbers(shape.k * shape.ldb, 2);
  std::vector<float> c((rows + 1) * shape.ldc, kBefore);
  const Buffer scratch = Buffer::Allocate(gemm.scratch_bytes());
  gemm.Run(rows, a.data(), b.data(), c.data(), scratch.bytes());

  std::vector<float> expected(c.size(), kBefore);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t col = 0; col < shape.n; ++col) {
      float sum = shape.accumulate ? kBefore : 0.0f;
      for (int64_t i = 0; i < shape.k; ++i) sum += a[row * shape.lda + i] * b[i * shape.ldb + col];
      expected[row * shape.ldc + col] = sum;
    }
  }
  EXPECT_EQ(c, expected);
}

TEST_P(GemmTest, MultipliesEveryShapeExactly) {
  for (const int64_t n : {1, 2, 15, 16, 48, 64}) {
    for (const int64_t k : {1, 3, 16, 80}) {
      for (const int64_t gap : {0, 5}) {
        for (const bool accumulate : {false, true}) {
          const GemmShape shape = {
              .n = n, .k = k, .lda = k + gap, .ldb = n, .ldc = n + gap, .accumulate = accumulate};
          const std::unique_ptr<const Gemm> gemm = GetParam()->Make(shape);
          for (const int64_t rows : {1, 7, 32, 71}) {
            SCOPED_TRACE(absl::StrCat("rows ", rows, ", n ", n, ", k ", k, ", gap ", gap, ", accumulate ",
                                      accumulate));
            ExpectExactProduct(*gemm, shape, rows);
            if (HasFailure()) return;
          }
        }
      }
    }
  }
}

// The same row at every place among others and alone: what it means for a layer's results not to depend on
// the batch.
TEST_P(GemmTest, ARowHasTheSameBitsWhereverItStands) {
  constexpr int64_t kMaxRows = 71;
  testing::Rng rng = testing::MakeRng(0);
  std::uniform_real_distribution<float> distribution(-1.0f, 1.0f);
  for (const int64_t n : {16, 40, 64}) {
    for (const int64_t k : {16, 80, 768}) {
      std::vector<float> row(k), b(k * n);
      for (std::vector<float>* values : {&row, &b}) {
        for (float& value : *values) value = distribution(rng);
      }
      std::vector<float> a;
      for (int64_t i = 0; i < kMaxRows; ++i) a.insert(a.end(), row.begin(), row.end());
      const std::unique_ptr<const Gemm> gemm =
          GetParam()->Make({.n = n, .k = k, .lda = k, .ldb = n, .ldc = n});
      const Buffer scratch = Buffer::Allocate(gemm->scratch_bytes());
      std::vector<float> alone(n);
      gemm->Run(1, a.data(), b.data(), alone.data(), scratch.bytes());
      for (const int64_t rows : {int64_t{2}, int64_t{31}, int64_t{32}, int64_t{48}, kMaxRows}) {
        std::vector<float> c(rows * n);
        gemm->Run(rows, a.data(), b.data(), c.data(), scratch.bytes());
        for (int64_t i = 0; i < rows; ++i) {
          EXPECT_EQ(std::memcmp(c.data() + i * n, alone.data(), n * sizeof(float)), 0)
              << "row " << i << " of " << rows << ", n " << n << ", k " << k;
        }
      }
    }
  }
}

}  // namespace
}  // namespace headlight
