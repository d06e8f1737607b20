// SPDX-License-Identifier: Apache-2.0
#include "core/attention/tiled/transpose.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "core/simd/targets.h"

namespace headlight {
namespace {

constexpr uint32_t kUntransposed = 0xdeadbeef;

// Words of every kind, numbers that are not finite and pairs of bf16 among them: bits are moved, not numbers.
std::vector<uint32_t> AnyWords(int64_t size) {
  std::vector<uint32_t> words(size);
  for (int64_t i = 0; i < size; ++i) words[i] = static_cast<uint32_t>(i + 1) * 2654435761u;
  for (int64_t i = 0; i < size; i += 5) words[i] = 0x7f800001u + static_cast<uint32_t>(i);  // signalling NaNs
  return words;
}

TEST(TransposeWordsTest, MovesEachWordAndPadsWithZeros) {
  MatchSimdToOneDnn();
  for (const int64_t words : {16, 32, 48, 64}) {
    for (const int64_t panel_cols : {16, 32, 64}) {
      for (int64_t rows = 1; rows <= panel_cols; ++rows) {
        for (const int64_t row_stride : {words, words + 5}) {
          const std::vector<uint32_t> in = AnyWords((rows - 1) * row_stride + words);
          std::vector<uint32_t> panel(words * panel_cols + 1, kUntransposed);
          TransposeWords(in.data(), rows, words, row_stride, panel.data(), panel_cols);
          for (int64_t word = 0; word < words; ++word) {
            for (int64_t row = 0; row < panel_cols; ++row) {
              ASSERT_EQ(panel[word * panel_cols + row], row < rows ? in[row * row_stride + word] : 0u)
                  << "word " << word << " of row " << row << " of " << rows;
            }
          }
          ASSERT_EQ(panel.back(), kUntransposed);
        }
      }
    }
  }
}

TEST(InterleavePairsTest, PutsTwoRowsElementByElement) {
  MatchSimdToOneDnn();
  for (const int64_t rows : {2, 4, 32}) {
    for (const int64_t cols : {32, 64, 96}) {
      std::vector<Bf16> in(rows * cols), out(rows * cols + 1, Bf16{0xbeef});
      for (size_t i = 0; i < in.size(); ++i) in[i].bits = static_cast<uint16_t>(i * 40503u + 1);
      InterleavePairs(in.data(), rows, cols, out.data());
      for (int64_t row = 0; row < rows; ++row) {
        for (int64_t col = 0; col < cols; ++col) {
          ASSERT_EQ(out[(row / 2 * cols + col) * 2 + row % 2].bits, in[row * cols + col].bits)
              << row << ", " << col;
        }
      }
      ASSERT_EQ(out.back().bits, 0xbeef);
    }
  }
}

}  // namespace
}  // namespace headlight
