// SPDX-License-Identifier: Apache-2.0
//
// As much of the zip format as NumPy's .npz files have: entries that are stored or deflated, with or without
// the 64-bit sizes of zip64; no encryption, no second disk. Archives of unknown origin may be read: nothing
// that one says is believed before it was compared with the file's size and the limits below. npz.h puts
// arrays on top; the format is PKWARE's APPNOTE.
#ifndef HEADLIGHT_CLIENT_FILES_ZIP_H_
#define HEADLIGHT_CLIENT_FILES_ZIP_H_

#include <cstdint>
#include <istream>
#include <memory>
#include <ostream>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace headlight::client {

// Limits on an archive, far beyond what a request has. What a reader holds beside its caller's arrays is the
// directory and two buffers of 64 KiB.
inline constexpr int64_t kMaxZipEntries = 64;
inline constexpr int64_t kMaxZipDirectoryBytes = 64 << 10;
inline constexpr int64_t kMaxZipNameBytes = 256;

// One entry, with everything about it checked that can be without reading its bytes.
struct ZipEntry {
  std::string name;
  bool deflated = false;
  uint32_t crc32 = 0;
  int64_t stored_bytes = 0;  // in the archive
  int64_t size_bytes = 0;    // unpacked; at most what deflate can make of stored_bytes, 1032 for each
  int64_t data_offset = 0;   // of the first stored byte
};

// The entries in the order of the directory; no two have the same name or share a byte. `in` must be
// seekable. INVALID_ARGUMENT if it is not an archive, or a damaged one, one of a kind that NumPy does not
// write, or one beyond the limits.
absl::StatusOr<std::vector<ZipEntry>> ReadZipDirectory(std::istream& in);

// The unpacked bytes of one entry, read as they are asked for. Both arguments must outlive it; nobody else
// may use `archive` while it does.
class ZipEntryStream : public std::istream {
 public:
  ZipEntryStream(std::istream& archive, const ZipEntry& entry);
  ~ZipEntryStream() override;

  // To be called after the last byte was read: OK if these were all and their CRC-32 is the directory's.
  // INVALID_ARGUMENT otherwise, or if what is packed could not be unpacked; then the stream ended early.
  absl::Status Finish();

 private:
  class Unpacker;
  std::unique_ptr<Unpacker> unpacker_;
};

// Writes an archive of stored entries with 64-bit sizes, as numpy.savez does. Errors are those of `out`.
class ZipWriter {
 public:
  explicit ZipWriter(std::ostream& out) : out_(out) {}

  // An entry of the bytes of all parts, one after the other. Names must differ.
  void Add(const std::string& name, std::span<const std::span<const char>> parts);

  // Writes the directory; nothing may be added afterwards.
  void Finish();

 private:
  void Write(const std::string& bytes);

  std::ostream& out_;
  int64_t offset_ = 0;
  int64_t num_entries_ = 0;
  std::string directory_;
};

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_FILES_ZIP_H_
