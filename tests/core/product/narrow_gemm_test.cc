// SPDX-License-Identifier: Apache-2.0
#include "core/product/narrow_gemm.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/uniform_source.h"
#include "core/product/parameter_panels.h"
#include "core/simd/targets.h"
#include "core/tensor/bf16.h"

namespace headlight {
namespace {

// Says yes.
class Always final : public Interruption {
 public:
  bool MayGoOn() const override { return true; }
};

struct Random {
  Random(int64_t rows, int64_t depth, int64_t cols)
      : a(UniformSource(1).Draw(rows * depth, 1.0f)),
        b(UniformSource(2).Draw(depth * cols, 1.0f)),
        bias(UniformSource(3).Draw(cols, 1.0f)) {}
  std::vector<float> a, b, bias;
};

class NarrowGemmTest : public ::testing::TestWithParam<std::tuple<const GemmProvider*, Precision>> {
 protected:
  void SetUp() override {
    MatchSimdToOneDnn();
    const absl::Status available = provider().Available(Precision::kF32);
    if (!available.ok()) GTEST_SKIP() << available;
  }
  static const GemmProvider& provider() { return *std::get<0>(GetParam()); }
  static Precision held() { return std::get<1>(GetParam()); }

  static std::vector<float> Product(Precision parameters, const Random& random, MatrixView b, int64_t rows,
                                    float factor, bool has_bias) {
    PanelStorage storage(PanelMatrix::StorageBytes(parameters, b.rows, b.cols));
    const PanelMatrix panels(parameters, b, b.cols, storage, factor);
    const PanelGemm gemm(provider(), Precision::kF32, parameters, b.rows, b.cols, b.cols, has_bias);
    const Buffer scratch = Buffer::Allocate(std::max<int64_t>(gemm.scratch_bytes(), 1));
    const Operands a = {reinterpret_cast<const std::byte*>(random.a.data()), b.rows * int64_t{sizeof(float)}};
    std::vector<float> c(rows * b.cols, -7.0f);
    EXPECT_TRUE(gemm.Run(rows, a, panels, c.data(), scratch.bytes(), Always(),
                         has_bias ? random.bias.data() : nullptr));
    return c;
  }
};

INSTANTIATE_TEST_SUITE_P(Providers, NarrowGemmTest,
                         ::testing::Combine(::testing::Values(&kVectorProvider, &kBrgemmProvider,
                                                              &kMatmulProvider),
                                            ::testing::Values(Precision::kBf16, Precision::kInt8)),
                         [](const auto& info) {
                           return absl::StrCat(std::get<0>(info.param)->name, "_",
                                               Name(std::get<1>(info.param)));
                         });

// Depths of one block and of several, whole and not; widths of whole registers and not; few rows and many.
TEST_P(NarrowGemmTest, IsTheProductWithTheNumbersThatAreHeld) {
  struct Case {
    int64_t rows, depth, cols;
  };
  for (const Case& c : {Case{1, 1, 1}, Case{1, 128, 64}, Case{2, 131, 64}, Case{7, 300, 150},
                        Case{16, 384, 128}, Case{70, 259, 90}, Case{300, 130, 65}}) {
    for (const bool has_bias : {false, true}) {
      for (const float factor : {1.0f, 0.18033688f}) {
        SCOPED_TRACE(
            absl::StrCat(c.rows, " x ", c.depth, " x ", c.cols, ", bias ", has_bias, ", factor ", factor));
        const Random random(c.rows, c.depth, c.cols);
        std::vector<float> rounded = random.b;
        RoundAsHeld(held(), {rounded.data(), c.depth, c.cols, c.cols});
        for (float& number : rounded) number *= factor;
        const std::vector<float> wanted = Product(
            Precision::kF32, random, {rounded.data(), c.depth, c.cols, c.cols}, c.rows, 1.0f, has_bias);
        const std::vector<float> got =
            Product(held(), random, {random.b.data(), c.depth, c.cols, c.cols}, c.rows, factor, has_bias);
        ASSERT_EQ(std::memcmp(got.data(), wanted.data(), got.size() * sizeof(float)), 0);
      }
    }
  }
}

// Bf16 that bf16 products read, made of int8: the panel of the rounded numbers, byte by byte.
TEST(WidenRowsToBf16Test, MakesThePanelOfTheRoundedNumbers) {
  for (const int64_t cols : {1, 17, 64}) {
    const int64_t depth = 70;
    std::vector<float> matrix = UniformSource(4).Draw(depth * cols, 3.0f);
    PanelStorage held_storage(PanelMatrix::StorageBytes(Precision::kInt8, depth, cols));
    const PanelMatrix held(Precision::kInt8, {matrix.data(), depth, cols, cols}, cols, held_storage, 0.75f);
    RoundAsHeld(Precision::kInt8, {matrix.data(), depth, cols, cols});
    for (float& number : matrix) number *= 0.75f;
    PanelStorage storage(PanelMatrix::StorageBytes(Precision::kBf16, depth, cols));
    const PanelMatrix wanted(Precision::kBf16, {matrix.data(), depth, cols, cols}, cols, storage);
    const int64_t rows = OperandCols(Precision::kBf16, depth);
    std::vector<Bf16> got(rows * cols);
    WidenRowsToBf16(held.NarrowPanelAt(0), rows, cols, reinterpret_cast<std::byte*>(got.data()), {});
    EXPECT_EQ(std::memcmp(got.data(), wanted.Panel(0), got.size() * sizeof(Bf16)), 0) << cols << " columns";
  }
}

TEST(RoundAsHeldTest, RoundsToBf16OrToMultiplesOfAColumnsLargest) {
  std::vector<float> matrix = {1.0f, 127.0f, -0.25f, 3.4f, 1e-39f, -126.6f};
  std::vector<float> to_bf16 = matrix;
  RoundAsHeld(Precision::kBf16, {to_bf16.data(), 3, 2, 2});
  EXPECT_EQ(to_bf16, (std::vector<float>{1.0f, 127.0f, -0.25f, 3.40625f, 0.0f, -126.5f}));
  RoundAsHeld(Precision::kInt8, {matrix.data(), 3, 2, 2});
  const float scale = 1.0f / 127.0f;
  EXPECT_EQ(matrix, (std::vector<float>{scale * 127, 127.0f, scale * -32, 3.0f, 0.0f, -127.0f}));
}

}  // namespace
}  // namespace headlight
