// SPDX-License-Identifier: Apache-2.0
#include "client/cli/checksum.h"

#include <array>
#include <bit>

#include "absl/strings/str_cat.h"

namespace headlight::client {
namespace {

// The CRC of each byte value, for the polynomial of IEEE 802.3 with its bits reversed.
constexpr std::array<uint32_t, 256> MakeTable() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xedb88320u : 0u);
    table[byte] = crc;
  }
  return table;
}

constexpr std::array<uint32_t, 256> kTable = MakeTable();

}  // namespace

Checksum ChecksumOf(std::span<const float> values) {
  Checksum checksum;
  uint32_t crc = 0xffff'ffffu;
  for (float value : values) {
    checksum.sum += static_cast<double>(value);
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    for (int shift = 0; shift < 32; shift += 8) crc = (crc >> 8) ^ kTable[(crc ^ (bits >> shift)) & 0xff];
  }
  checksum.crc32 = ~crc;
  return checksum;
}

std::string FormatCrc32(uint32_t crc32) { return absl::StrCat(absl::Hex(crc32, absl::kZeroPad8)); }

}  // namespace headlight::client
