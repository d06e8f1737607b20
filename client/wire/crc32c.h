// SPDX-License-Identifier: Apache-2.0
//
// The checksum that a reply carries of each of its tensors.
#ifndef HEADLIGHT_CLIENT_WIRE_CRC32C_H_
#define HEADLIGHT_CLIENT_WIRE_CRC32C_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace headlight::client {

// CRC-32C (Castagnoli; RFC 3720, appendix B.4) of what `crc` is that of, followed by `bytes`; `crc` is 0
// before the first of them. By the CPU's own instructions where it has them.
uint32_t ExtendCrc32c(uint32_t crc, std::span<const std::byte> bytes);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_WIRE_CRC32C_H_
