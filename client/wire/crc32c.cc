// SPDX-License-Identifier: Apache-2.0
#include "client/wire/crc32c.h"

#include <isa-l/crc.h>

#include <algorithm>

namespace headlight::client {

uint32_t ExtendCrc32c(uint32_t crc, std::span<const std::byte> bytes) {
  constexpr size_t kMostAtOnce = size_t{1} << 30;  // ISA-L takes an int
  uint32_t state = ~crc;
  while (!bytes.empty()) {
    const std::span<const std::byte> next = bytes.first(std::min(bytes.size(), kMostAtOnce));
    void* const data = const_cast<std::byte*>(next.data());  // it only reads
    state = crc32_iscsi(static_cast<unsigned char*>(data), static_cast<int>(next.size()), state);
    bytes = bytes.subspan(next.size());
  }
  return ~state;
}

}  // namespace headlight::client
