// SPDX-License-Identifier: Apache-2.0
//
// CRC-32C bit by bit, as RFC 3720 defines it: what faster ones are compared with.
#ifndef HEADLIGHT_TESTS_TESTING_SLOW_CRC32C_H_
#define HEADLIGHT_TESTS_TESTING_SLOW_CRC32C_H_

#include <cstdint>
#include <string>

namespace headlight::testing {

inline uint32_t SlowCrc32c(const std::string& bytes) {
  uint32_t crc = 0xffffffff;
  for (const char byte : bytes) {
    crc ^= static_cast<uint8_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1) * 0x82f63b78;
  }
  return ~crc;
}

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_TESTING_SLOW_CRC32C_H_
