// SPDX-License-Identifier: Apache-2.0
//
// Numbers of the zip format, for what reads it (zip_directory.cc) and writes it (zip.cc). APPNOTE's names are
// local file header, central directory header, end of central directory record.
#ifndef HEADLIGHT_CLIENT_FILES_ZIP_FORMAT_H_
#define HEADLIGHT_CLIENT_FILES_ZIP_FORMAT_H_

#include <cstdint>

namespace headlight::client {

inline constexpr uint32_t kZipHeaderSignature = 0x04034b50;     // before an entry's bytes
inline constexpr uint32_t kZipRecordSignature = 0x02014b50;     // of an entry in the directory
inline constexpr uint32_t kZipEndSignature = 0x06054b50;        // at the archive's end
inline constexpr uint32_t kZip64EndSignature = 0x06064b50;      // the same in 64 bits,
inline constexpr uint32_t kZip64LocatorSignature = 0x07064b50;  // and where that is

// Without what varies: names, extra fields, comments.
inline constexpr int64_t kZipHeaderBytes = 30;
inline constexpr int64_t kZipEndBytes = 22;
inline constexpr int64_t kZip64LocatorBytes = 20;
inline constexpr int64_t kZip64EndBytes = 56;

inline constexpr uint16_t kZip64ExtraId = 1;
inline constexpr uint32_t kIn64Bits = 0xffffffff;  // in place of a number that the extra field holds

inline constexpr uint16_t kZipStored = 0;
inline constexpr uint16_t kZipDeflated = 8;

inline constexpr uint16_t kZipEncryptedFlags = 1 | 1 << 6 | 1 << 13;
inline constexpr uint16_t kZipDescriptorFlag = 1 << 3;  // sizes and CRC follow the entry's bytes

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_FILES_ZIP_FORMAT_H_
