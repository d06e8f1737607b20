// SPDX-License-Identifier: Apache-2.0
#include "client/wire/crc32c.h"

#include <gtest/gtest.h>

#include <span>
#include <string>

#include "tests/testing/slow_crc32c.h"

namespace headlight::client {
namespace {

uint32_t Crc32cOf(const std::string& bytes) { return ExtendCrc32c(0, std::as_bytes(std::span(bytes))); }

TEST(Crc32cTest, IsThatOfTheStandard) {
  EXPECT_EQ(Crc32cOf(""), 0u);
  EXPECT_EQ(Crc32cOf("123456789"), 0xe3069283);            // the check value of the CRC catalogues
  EXPECT_EQ(Crc32cOf(std::string(32, '\0')), 0x8a9136aa);  // this and the next: RFC 3720, B.4
  EXPECT_EQ(Crc32cOf(std::string(32, '\xff')), 0x62a8ab43);
}

TEST(Crc32cTest, OfPiecesIsThatOfTheWhole) {
  std::string bytes(5000, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * i >> 3);
  const uint32_t whole = testing::SlowCrc32c(bytes);
  for (size_t cut = 0; cut <= bytes.size(); cut += 7) {
    const std::span all = std::as_bytes(std::span(bytes));
    ASSERT_EQ(ExtendCrc32c(ExtendCrc32c(0, all.first(cut)), all.subspan(cut)), whole) << cut;
  }
}

}  // namespace
}  // namespace headlight::client
