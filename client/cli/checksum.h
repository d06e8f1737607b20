// SPDX-License-Identifier: Apache-2.0
//
// A fingerprint of a tensor's values, for comparing results by eye and by script.
#ifndef HEADLIGHT_CLIENT_CLI_CHECKSUM_H_
#define HEADLIGHT_CLIENT_CLI_CHECKSUM_H_

#include <cstdint>
#include <span>
#include <string>

namespace headlight::client {

struct Checksum {
  double sum =
      0;  // of the values, added in order in double precision: tells small differences from large ones
  uint32_t crc32 =
      0;  // CRC-32 of the little-endian bytes, as zlib.crc32(array.tobytes()) in Python: tells any
};

Checksum ChecksumOf(std::span<const float> values);

// "1a2b3c4d"
std::string FormatCrc32(uint32_t crc32);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_CLI_CHECKSUM_H_
