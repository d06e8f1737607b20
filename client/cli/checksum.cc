// SPDX-License-Identifier: Apache-2.0
#include "client/cli/checksum.h"

#include <zlib.h>

#include "absl/strings/str_cat.h"

namespace headlight::client {

Checksum ChecksumOf(std::span<const float> values) {
  Checksum checksum;
  for (float value : values) checksum.sum += static_cast<double>(value);
  const void* const bytes = values.data();
  checksum.crc32 = static_cast<uint32_t>(crc32_z(0, static_cast<const Bytef*>(bytes), values.size_bytes()));
  return checksum;
}

std::string FormatCrc32(uint32_t crc32) { return absl::StrCat(absl::Hex(crc32, absl::kZeroPad8)); }

}  // namespace headlight::client
