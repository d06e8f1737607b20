// SPDX-License-Identifier: Apache-2.0
//
// CRC-32C byte by byte, as RFC 3720 defines it: what faster ones are compared with, and for tests of what knows
// no fast one.
#ifndef HEADLIGHT_TESTS_TESTING_SLOW_CRC32C_H_
#define HEADLIGHT_TESTS_TESTING_SLOW_CRC32C_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace headlight::testing {

// Of what `crc` is of, followed by `size_bytes` bytes; of nothing it is 0.
inline uint32_t ExtendSlowCrc32c(uint32_t crc, const void* bytes, size_t size_bytes) {
  static const auto kTable = [] {
    std::array<uint32_t, 256> table;
    for (uint32_t i = 0; i < table.size(); ++i) {
      table[i] = i;
      for (int bit = 0; bit < 8; ++bit) table[i] = (table[i] >> 1) ^ (table[i] & 1 ? 0x82f63b78u : 0u);
    }
    return table;
  }();
  const auto* const first = static_cast<const uint8_t*>(bytes);
  uint32_t state = ~crc;
  for (size_t i = 0; i < size_bytes; ++i) state = (state >> 8) ^ kTable[(state ^ first[i]) & 0xff];
  return ~state;
}

inline uint32_t SlowCrc32c(const std::string& bytes) {
  return ExtendSlowCrc32c(0, bytes.data(), bytes.size());
}

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_TESTING_SLOW_CRC32C_H_
