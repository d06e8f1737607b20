// SPDX-License-Identifier: Apache-2.0
#include "core/product/gemm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/attention/config.h"
#include "core/tensor/bf16.h"
#include "core/tensor/buffer.h"
#include "tests/core/testing/effort.h"

namespace headlight {
namespace {

using GemmParam = std::tuple<const GemmProvider*, Precision>;

// A matrix in the memory of operands. Numbers of kInt8 are whole.
class OperandMatrix {
 public:
  OperandMatrix(Precision operands, int64_t elements)
      : operands_(operands), bytes_(elements * OperandBytes(operands)) {}

  void Set(int64_t place, float value) {
    switch (operands_) {
      case Precision::kF32:
        return Store(place, value);
      case Precision::kBf16:
        return Store(place, ToBf16(value));
      case Precision::kInt8:
        return Store(place, static_cast<int8_t>(value));  // u8 below 128 looks the same
    }
  }
  const std::byte* data() const { return bytes_.data(); }

 private:
  template <typename T>
  void Store(int64_t place, T value) {
    std::memcpy(bytes_.data() + place * sizeof(T), &value, sizeof(T));
  }

  const Precision operands_;
  std::vector<std::byte> bytes_;
};

// a [rows, shape.k] as operand A, whose surplus columns hold `surplus`; b [shape.k, shape.n] as operand B.
OperandMatrix OperandA(const GemmShape& shape, const std::vector<float>& a, float surplus) {
  const auto rows = static_cast<int64_t>(a.size()) / shape.k;
  OperandMatrix out(shape.operands, rows * shape.lda);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < shape.lda; ++i)
      out.Set(row * shape.lda + i, i < shape.k ? a[row * shape.k + i] : surplus);
  }
  return out;
}
OperandMatrix OperandB(const GemmShape& shape, const std::vector<float>& b) {
  const int64_t interleaved = InterleavedRows(shape.operands);
  OperandMatrix out(shape.operands, shape.k * shape.ldb);
  for (int64_t i = 0; i < shape.k; ++i) {
    for (int64_t col = 0; col < shape.n; ++col) {
      out.Set((i / interleaved * shape.ldb + col) * interleaved + i % interleaved, b[i * shape.n + col]);
    }
  }
  return out;
}

// Products come as f32, or as s32 for kInt8; both are 4 bytes wide.
std::vector<float> AsNumbers(Precision operands, std::vector<float> c) {
  if (operands != Precision::kInt8) return c;
  for (float& element : c) {
    int32_t number;
    std::memcpy(&number, &element, sizeof(number));
    element = static_cast<float>(number);
  }
  return c;
}
std::vector<float> FromNumbers(Precision operands, std::vector<float> c) {
  if (operands != Precision::kInt8) return c;
  for (float& element : c) {
    const auto number = static_cast<int32_t>(element);
    std::memcpy(&element, &number, sizeof(number));
  }
  return c;
}

class GemmTest : public ::testing::TestWithParam<GemmParam> {
 protected:
  void SetUp() override {
    const absl::Status available = provider().Available(operands());
    if (!available.ok()) GTEST_SKIP() << available;
  }
  static const GemmProvider& provider() { return *std::get<0>(GetParam()); }
  static Precision operands() { return std::get<1>(GetParam()); }
};

INSTANTIATE_TEST_SUITE_P(
    Providers, GemmTest,
    ::testing::Combine(::testing::Values(&kVectorProvider, &kBrgemmProvider, &kMatmulProvider),
                       ::testing::Values(Precision::kF32, Precision::kBf16, Precision::kInt8)),
    [](const auto& info) {
      return absl::StrCat(std::get<0>(info.param)->name, "_", Name(std::get<1>(info.param)));
    });

// Small whole numbers, whose products and sums are exact in every precision; none below `least`.
std::vector<float> WholeNumbers(int64_t size, int64_t seed, int64_t least) {
  std::vector<float> numbers(size);
  for (int64_t i = 0; i < size; ++i) numbers[i] = static_cast<float>((i * 37 + seed) % 11 + least);
  return numbers;
}

// Exact, and nothing beside the product's columns is written.
void ExpectExactProduct(const Gemm& gemm, const GemmShape& shape, int64_t rows) {
  constexpr float kBefore = 7.0f;
  const std::vector<float> a = WholeNumbers(rows * shape.k, 1, shape.operands == Precision::kInt8 ? 0 : -5);
  const std::vector<float> b = WholeNumbers(shape.k * shape.n, 2, -5);
  std::vector<float> c = FromNumbers(shape.operands, std::vector<float>((rows + 1) * shape.ldc, kBefore));
  const std::vector<float> bias = WholeNumbers(shape.n, 3, -5);
  const OperandMatrix operand_b = OperandB(shape, b);
  const Ahead ahead = {operand_b.data(),
                       shape.k * shape.n * OperandBytes(shape.operands)};  // changes nothing
  const Buffer scratch = Buffer::Allocate(gemm.scratch_bytes());
  gemm.Run(rows, OperandA(shape, a, 3.0f).data(), operand_b.data(), c.data(), scratch.bytes(), bias.data(),
           ahead);

  std::vector<float> expected(c.size(), kBefore);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t col = 0; col < shape.n; ++col) {
      float sum = shape.accumulate ? kBefore : shape.bias ? bias[col] : 0.0f;
      for (int64_t i = 0; i < shape.k; ++i) sum += a[row * shape.k + i] * b[i * shape.n + col];
      expected[row * shape.ldc + col] = sum;
    }
  }
  EXPECT_EQ(AsNumbers(shape.operands, c), expected);
}

// A depth that the operands allow, at least `k`.
int64_t DepthOf(Precision operands, int64_t k) {
  const int64_t interleaved = InterleavedRows(operands);
  return (k + interleaved - 1) / interleaved * interleaved;
}

// What a product's sums begin with.
enum class Start { kZero, kC, kBias };

TEST_P(GemmTest, MultipliesEveryShapeExactly) {
  for (const int64_t n : {1, 2, 15, 16, 32, 48, 64}) {
    for (const int64_t depth : {1, 3, 16, 80}) {
      for (const int64_t gap : {0, 5, 8}) {
        for (const Start start : {Start::kZero, Start::kC, Start::kBias}) {
          if (start == Start::kBias && operands() == Precision::kInt8) continue;  // has none
          const int64_t k = DepthOf(operands(), depth);
          const GemmShape shape = {.operands = operands(),
                                   .n = n,
                                   .k = k,
                                   .lda = k + gap,
                                   .ldb = n,
                                   .ldc = n + gap,
                                   .accumulate = start == Start::kC,
                                   .bias = start == Start::kBias};
          const std::unique_ptr<const Gemm> gemm = provider().Make(shape);
          for (const int64_t rows : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 32, 71}) {
            SCOPED_TRACE(absl::StrCat("rows ", rows, ", n ", n, ", k ", k, ", gap ", gap,
                                      ", sums begin with ",
                                      start == Start::kZero ? "0"
                                      : start == Start::kC  ? "C"
                                                            : "a bias"));
            ExpectExactProduct(*gemm, shape, rows);
            if (HasFailure()) return;
          }
        }
      }
    }
  }
}

// Sums of the largest products: neither halves of them nor partial sums may saturate.
TEST_P(GemmTest, DoesNotSaturate) {
  if (operands() != Precision::kInt8) GTEST_SKIP() << "only whole numbers could";
  const GemmShape shape = {.operands = operands(), .n = 16, .k = 64, .lda = 64, .ldb = 16, .ldc = 16};
  const std::unique_ptr<const Gemm> gemm = provider().Make(shape);
  const std::vector<uint8_t> a(64, 255);
  const std::vector<int8_t> b(64 * 16, -127);
  std::vector<int32_t> c(16);
  const Buffer scratch = Buffer::Allocate(gemm->scratch_bytes());
  gemm->Run(1, a.data(), b.data(), c.data(), scratch.bytes(), nullptr, {});
  EXPECT_EQ(c, std::vector<int32_t>(16, -255 * 127 * 64));
}

// The same row at every place among others and alone: what it means for a layer's results not to depend on
// the batch.
TEST_P(GemmTest, ARowHasTheSameBitsWhereverItStands) {
  constexpr int64_t kMaxRows = 71;
  testing::Rng rng = testing::MakeRng(0);
  std::uniform_real_distribution<float> distribution(-1.0f, 1.0f);
  for (const int64_t n : {16, 32, 40, 48, 64}) {
    for (const int64_t k : {16, 80, 768}) {
      const GemmShape shape = {.operands = operands(), .n = n, .k = k, .lda = k, .ldb = n, .ldc = n};
      std::vector<float> row(k), b(k * n);
      const float range = operands() == Precision::kInt8 ? 127.0f : 1.0f;
      for (float& value : row) value = std::abs(distribution(rng)) * range;
      for (float& value : b) value = distribution(rng) * range;
      std::vector<float> a;
      for (int64_t i = 0; i < kMaxRows; ++i) a.insert(a.end(), row.begin(), row.end());
      const OperandMatrix operand_a = OperandA(shape, a, 0.0f);
      const OperandMatrix operand_b = OperandB(shape, b);
      const std::unique_ptr<const Gemm> gemm = provider().Make(shape);
      const Buffer scratch = Buffer::Allocate(gemm->scratch_bytes());
      std::vector<float> alone(n);
      gemm->Run(1, operand_a.data(), operand_b.data(), alone.data(), scratch.bytes(), nullptr, {});
      for (const int64_t rows :
           {int64_t{2}, int64_t{5}, int64_t{7}, int64_t{11}, int64_t{31}, int64_t{48}, kMaxRows}) {
        std::vector<float> c(rows * n);
        gemm->Run(rows, operand_a.data(), operand_b.data(), c.data(), scratch.bytes(), nullptr, {});
        for (int64_t i = 0; i < rows; ++i) {
          EXPECT_EQ(std::memcmp(c.data() + i * n, alone.data(), n * sizeof(float)), 0)
              << "row " << i << " of " << rows << ", n " << n << ", k " << k;
        }
      }
    }
  }
}

// Each element is what std::fma makes of C or the bias, one step of k after the other.
void ExpectOneChain(const Gemm& gemm, const GemmShape& shape, int64_t rows, testing::Rng& rng) {
  std::uniform_real_distribution<float> distribution(-1.0f, 1.0f);
  const auto draw = [&](int64_t size) {
    std::vector<float> numbers(size);
    for (float& number : numbers) number = distribution(rng);
    return numbers;
  };
  const std::vector<float> a = draw(rows * shape.k), b = draw(shape.k * shape.n), bias = draw(shape.n);
  std::vector<float> c = draw(rows * shape.n);
  std::vector<float> expected = c;
  for (int64_t i = 0; i < rows * shape.n; ++i) {
    const int64_t row = i / shape.n, col = i % shape.n;
    if (!shape.accumulate) expected[i] = shape.bias ? bias[col] : 0.0f;
    for (int64_t j = 0; j < shape.k; ++j) {
      expected[i] = std::fma(a[row * shape.k + j], b[j * shape.n + col], expected[i]);
    }
  }
  const Buffer scratch = Buffer::Allocate(gemm.scratch_bytes());
  gemm.Run(rows, a.data(), b.data(), c.data(), scratch.bytes(), bias.data(), {});
  EXPECT_EQ(c, expected) << rows << " rows, n " << shape.n << ", k " << shape.k
                         << (shape.accumulate ? ", added to C"
                             : shape.bias     ? ", with a bias"
                                              : "");
}

// What it means for an answer to have the same bits on every instruction set.
TEST_P(GemmTest, AnF32ElementIsOneChainOfMultiplyAdds) {
  if (operands() != Precision::kF32) GTEST_SKIP() << "only f32 promises it";
  if (&provider() == &kMatmulProvider) GTEST_SKIP() << "oneDNN's matmul sums as it likes";
  if (MakeVectorGemm({.n = 16, .k = 1, .lda = 1, .ldb = 16, .ldc = 16}) == nullptr) {
    GTEST_SKIP() << "this build or CPU has no vectors for it";
  }
  testing::Rng rng = testing::MakeRng(0);
  for (const int64_t n : {1, 7, 8, 9, 16, 24, 36, 48, 64}) {
    for (const int64_t k : {1, 64, 100, 1000}) {
      for (const Start start : {Start::kZero, Start::kC, Start::kBias}) {
        const GemmShape shape = {.n = n,
                                 .k = k,
                                 .lda = k,
                                 .ldb = n,
                                 .ldc = n,
                                 .accumulate = start == Start::kC,
                                 .bias = start == Start::kBias};
        const std::unique_ptr<const Gemm> gemm = provider().Make(shape);
        for (const int64_t rows : {1, 2, 3, 17}) ExpectOneChain(*gemm, shape, rows, rng);
      }
    }
  }
}

}  // namespace
}  // namespace headlight
