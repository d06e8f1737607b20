// SPDX-License-Identifier: Apache-2.0
#include "client/cli/checksum.h"

#include <gtest/gtest.h>

#include <vector>

namespace headlight::client {
namespace {

TEST(ChecksumTest, IsWhatPythonComputes) {
  // import struct, zlib; zlib.crc32(struct.pack('<4f', 1, -2, 0.5, 1e-42))
  const std::vector<float> values = {1, -2, 0.5f, 1e-42f};
  const Checksum checksum = ChecksumOf(values);
  EXPECT_EQ(FormatCrc32(checksum.crc32), "ce036abe");
  EXPECT_DOUBLE_EQ(checksum.sum, -0.5 + static_cast<double>(1e-42f));
}

TEST(ChecksumTest, OfNothingIsZero) {
  EXPECT_EQ(ChecksumOf({}).crc32, 0u);
  EXPECT_EQ(ChecksumOf({}).sum, 0);
}

TEST(ChecksumTest, TellsTheSignOfZero) {
  const std::vector<float> plus = {0.0f}, minus = {-0.0f};
  EXPECT_NE(ChecksumOf(plus).crc32, ChecksumOf(minus).crc32);
}

TEST(ChecksumTest, IsPrintedWithLeadingZeros) { EXPECT_EQ(FormatCrc32(0xbeef), "0000beef"); }

}  // namespace
}  // namespace headlight::client
