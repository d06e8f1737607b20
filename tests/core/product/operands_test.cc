// SPDX-License-Identifier: Apache-2.0
#include "core/product/operands.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "core/product/quantize.h"
#include "core/tensor/bf16.h"

namespace headlight {
namespace {

constexpr int64_t kMatrixRows = 4;
constexpr int64_t kMatrixCols = 37;
constexpr int64_t kMatrixStride = 40;

// [kMatrixRows, kMatrixCols], with something between the rows.
class OperandBufferTest : public ::testing::Test {
 protected:
  OperandBufferTest() : numbers_(kMatrixRows * kMatrixStride) {
    MatchSimdToOneDnn();
    for (size_t i = 0; i < numbers_.size(); ++i) numbers_[i] = std::sin(static_cast<float>(i));
  }
  MatrixView matrix() const { return {numbers_.data(), kMatrixRows, kMatrixCols, kMatrixStride}; }

  static void Mark(OperandBuffer& buffer) {
    buffer.ForEachBuffer([](Buffer& block) {
      if (block.ok()) std::memset(block.bytes(), 0xa5, block.size_bytes());
    });
  }

  std::vector<float> numbers_;
};

TEST(OperandColsTest, AreRoundedUpTo64BytesWhereRowsAreConverted) {
  EXPECT_EQ(OperandCols(Precision::kF32, 37), 37);
  EXPECT_EQ(OperandCols(Precision::kBf16, 1), 32);
  EXPECT_EQ(OperandCols(Precision::kBf16, 32), 32);
  EXPECT_EQ(OperandCols(Precision::kBf16, 33), 64);
  EXPECT_EQ(OperandCols(Precision::kInt8, 1), 64);
  EXPECT_EQ(OperandCols(Precision::kInt8, 64), 64);
  EXPECT_EQ(OperandCols(Precision::kInt8, 65), 128);
}

TEST_F(OperandBufferTest, F32IsTheMatrixItself) {
  OperandBuffer buffer;
  ASSERT_TRUE(buffer.Reserve(Precision::kF32, matrix()));
  buffer.Convert(0, kMatrixRows);
  const Operands operands = buffer.view();
  EXPECT_EQ(static_cast<const void*>(operands.rows), numbers_.data());
  EXPECT_EQ(static_cast<const void*>(operands.From(2).rows), numbers_.data() + 2 * kMatrixStride);
  EXPECT_EQ(operands.scale, nullptr);
  EXPECT_EQ(operands.From(2).scale, nullptr);
}

TEST_F(OperandBufferTest, Bf16IsRoundedWithZerosBehind) {
  OperandBuffer buffer;
  ASSERT_TRUE(buffer.Reserve(Precision::kBf16, matrix()));
  Mark(buffer);
  buffer.Convert(1, 2);
  for (const int64_t row : {1, 2}) {
    const auto* got = reinterpret_cast<const Bf16*>(buffer.view().From(row).rows);
    for (int64_t col = 0; col < OperandCols(Precision::kBf16, kMatrixCols); ++col) {
      const Bf16 wanted = col < kMatrixCols ? ToBf16(matrix().Row(row)[col]) : Bf16{};
      EXPECT_EQ(got[col].bits, wanted.bits) << row << ", " << col;
    }
  }
  for (const int64_t row : {0, 3}) {
    EXPECT_EQ(*buffer.view().From(row).rows, std::byte{0xa5}) << "row " << row << " was not asked for";
  }
}

TEST_F(OperandBufferTest, Int8IsQuantizedRowByRow) {
  OperandBuffer buffer;
  ASSERT_TRUE(buffer.Reserve(Precision::kInt8, matrix()));
  buffer.Convert(0, 1);
  buffer.Convert(1, 3);
  constexpr int64_t kStride = OperandCols(Precision::kInt8, kMatrixCols);
  std::vector<uint8_t> wanted(kMatrixRows * kStride);
  std::vector<float> scale(kMatrixRows), zero(kMatrixRows);
  QuantizeRows(matrix(), wanted.data(), kStride, scale.data(), zero.data());
  for (int64_t row = 0; row < kMatrixRows; ++row) {
    const Operands got = buffer.view().From(row);
    EXPECT_EQ(std::memcmp(got.rows, wanted.data() + row * kStride, kStride), 0) << row;
    EXPECT_EQ(*got.scale, scale[row]) << row;
    EXPECT_EQ(*got.zero, zero[row]) << row;
  }
}

TEST_F(OperandBufferTest, GrowsByWhatItSays) {
  for (const Precision precision : {Precision::kF32, Precision::kBf16, Precision::kInt8}) {
    SCOPED_TRACE(Name(precision));
    OperandBuffer buffer;
    const auto held = [&] {
      int64_t bytes = 0;
      buffer.ForEachBuffer([&](Buffer& block) { bytes += block.size_bytes(); });
      return bytes;
    };
    for (const MatrixView& part : {MatrixView{numbers_.data(), 1, 5, 5}, matrix()}) {
      const int64_t before = held(), growth = buffer.GrowthFor(precision, part.rows, part.cols);
      ASSERT_TRUE(buffer.Reserve(precision, part));
      EXPECT_EQ(held(), before + growth);
      EXPECT_EQ(buffer.GrowthFor(precision, part.rows, part.cols), 0);
    }
  }
}

TEST_F(OperandBufferTest, KeepsItsMemoryForASmallerMatrix) {
  OperandBuffer buffer;
  ASSERT_TRUE(buffer.Reserve(Precision::kInt8, matrix()));
  const std::byte* before = buffer.view().rows;
  ASSERT_TRUE(buffer.Reserve(Precision::kInt8, {numbers_.data(), 1, 5, 5}));
  EXPECT_EQ(buffer.view().rows, before);
}

}  // namespace
}  // namespace headlight
