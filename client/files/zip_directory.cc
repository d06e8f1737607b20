// SPDX-License-Identifier: Apache-2.0
//
// Where an archive says what it holds: the end record, the directory, and the header before each entry.
#include <algorithm>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/files/named.h"
#include "client/files/zip.h"
#include "client/files/zip_format.h"

namespace headlight::client {
namespace {

constexpr int64_t kMaxCommentBytes = 0xffff;
constexpr int64_t kMaxInflation = 1032;  // bytes that deflate can make of one, at most

absl::Status Damaged(const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat("the .npz archive is damaged: ", what));
}

absl::Status Unsupported(const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat("the .npz archive has ", what, ", as NumPy writes none"));
}

// Little-endian numbers out of bytes; what lies beyond their end is missing, and so is everything after it.
class FieldReader {
 public:
  explicit FieldReader(std::string_view bytes) : bytes_(bytes) {}

  uint64_t Take(size_t size) {
    const std::string_view field = TakeBytes(size);
    uint64_t value = 0;
    for (size_t i = 0; i < field.size(); ++i)
      value |= static_cast<uint64_t>(static_cast<uint8_t>(field[i])) << (8 * i);
    return value;
  }

  std::string_view TakeBytes(size_t size) {
    if (size > bytes_.size()) {
      complete_ = false;
      bytes_ = {};
    }
    const std::string_view taken = bytes_.substr(0, std::min(size, bytes_.size()));
    bytes_.remove_prefix(taken.size());
    return taken;
  }

  bool complete() const { return complete_; }
  bool empty() const { return bytes_.empty(); }

 private:
  std::string_view bytes_;
  bool complete_ = true;
};

// The file as far as it is needed here: pieces of known place and bounded size.
struct ArchiveFile {
  std::istream& in;
  int64_t size_bytes = 0;

  // Nothing if the piece does not lie within the file.
  std::optional<std::string> Read(int64_t offset, int64_t size) const {
    if (offset < 0 || size < 0 || offset > size_bytes || size > size_bytes - offset) return std::nullopt;
    std::string bytes(static_cast<size_t>(size), '\0');
    in.clear();
    in.seekg(offset);
    in.read(bytes.data(), size);
    if (!in) return std::nullopt;
    return bytes;
  }
};

// What the end record says of the directory.
struct DirectoryPlace {
  uint64_t num_entries = 0;
  uint64_t size_bytes = 0;
  uint64_t offset = 0;
};

// Offset of the end record: the last one whose comment ends where the file does.
std::optional<int64_t> FindEnd(const ArchiveFile& file) {
  const int64_t tail_bytes = std::min(file.size_bytes, kZipEndBytes + kMaxCommentBytes);
  const std::optional<std::string> tail = file.Read(file.size_bytes - tail_bytes, tail_bytes);
  if (!tail) return std::nullopt;
  for (int64_t at = tail_bytes - kZipEndBytes; at >= 0; --at) {
    FieldReader fields(std::string_view(*tail).substr(static_cast<size_t>(at), kZipEndBytes));
    if (fields.Take(4) != kZipEndSignature) continue;
    fields.TakeBytes(kZipEndBytes - 6);
    if (static_cast<int64_t>(fields.Take(2)) == tail_bytes - at - kZipEndBytes)
      return file.size_bytes - tail_bytes + at;
  }
  return std::nullopt;
}

// The 64-bit end record, which a locator directly before the ordinary one at `end` points to.
absl::StatusOr<DirectoryPlace> ReadZip64End(const ArchiveFile& file, int64_t end) {
  const std::optional<std::string> locator_bytes = file.Read(end - kZip64LocatorBytes, kZip64LocatorBytes);
  if (!locator_bytes) return Damaged("its 64-bit end record is missing");
  FieldReader locator(*locator_bytes);
  if (locator.Take(4) != kZip64LocatorSignature) return Damaged("its 64-bit end record is missing");
  locator.Take(4);
  const uint64_t offset = locator.Take(8);
  if (offset > static_cast<uint64_t>(end)) return Damaged("its 64-bit end record lies beyond its end");
  const std::optional<std::string> record_bytes = file.Read(static_cast<int64_t>(offset), kZip64EndBytes);
  if (!record_bytes) return Damaged("its 64-bit end record is missing");
  FieldReader record(*record_bytes);
  if (record.Take(4) != kZip64EndSignature) return Damaged("its 64-bit end record is missing");
  record.TakeBytes(8 + 2 + 2);  // the record's size, and versions
  const uint64_t disk = record.Take(4), directory_disk = record.Take(4);
  DirectoryPlace place;
  const uint64_t here = record.Take(8);
  place.num_entries = record.Take(8);
  place.size_bytes = record.Take(8);
  place.offset = record.Take(8);
  if (disk != 0 || directory_disk != 0 || here != place.num_entries) return Unsupported("several parts");
  return place;
}

absl::StatusOr<DirectoryPlace> ReadEnd(const ArchiveFile& file, int64_t end) {
  const std::optional<std::string> bytes = file.Read(end, kZipEndBytes);
  if (!bytes) return Damaged("its end record is missing");
  FieldReader fields(*bytes);
  fields.Take(4);
  const uint64_t disk = fields.Take(2), directory_disk = fields.Take(2), here = fields.Take(2);
  DirectoryPlace place;
  place.num_entries = fields.Take(2);
  place.size_bytes = fields.Take(4);
  place.offset = fields.Take(4);
  if (place.num_entries == 0xffff || place.size_bytes == kIn64Bits || place.offset == kIn64Bits)
    return ReadZip64End(file, end);
  if (disk != 0 || directory_disk != 0 || here != place.num_entries) return Unsupported("several parts");
  return place;
}

// What the directory says of one entry.
struct DirectoryRecord {
  ZipEntry entry;
  uint64_t flags = 0;
  uint64_t method = 0;
  uint64_t header_offset = 0;
};

// Takes sizes and the offset that did not fit into 32 bits from the extra field that holds them.
bool TakeZip64Extra(std::string_view extra, std::initializer_list<uint64_t*> numbers) {
  FieldReader fields(extra);
  while (!fields.empty()) {
    const uint64_t id = fields.Take(2);
    FieldReader field(fields.TakeBytes(fields.Take(2)));
    if (id != kZip64ExtraId) continue;
    for (uint64_t* number : numbers) {
      if (*number == kIn64Bits) *number = field.Take(8);
    }
    return fields.complete() && field.complete();
  }
  // Python writes a size that is exactly the mark without the field; no such entry passes the limits.
  return fields.complete() &&
         std::none_of(numbers.begin(), numbers.end(), [](const uint64_t* n) { return *n == kIn64Bits; });
}

absl::StatusOr<DirectoryRecord> ReadRecord(FieldReader& fields) {
  DirectoryRecord record;
  if (fields.Take(4) != kZipRecordSignature) return Damaged("its directory has something else than entries");
  fields.Take(2 + 2);  // versions
  record.flags = fields.Take(2);
  record.method = fields.Take(2);
  fields.Take(4);  // time
  record.entry.crc32 = static_cast<uint32_t>(fields.Take(4));
  uint64_t stored = fields.Take(4), size = fields.Take(4);
  const size_t name_bytes = fields.Take(2), extra_bytes = fields.Take(2), comment_bytes = fields.Take(2);
  fields.Take(2 + 2);  // disk, internal attributes; a second disk was refused with the end record
  fields.Take(4);      // external attributes
  record.header_offset = fields.Take(4);
  record.entry.name = std::string(fields.TakeBytes(name_bytes));
  const std::string_view extra = fields.TakeBytes(extra_bytes);
  fields.TakeBytes(comment_bytes);
  if (!fields.complete()) return Damaged("its directory is cut short");
  if (!TakeZip64Extra(extra, {&size, &stored, &record.header_offset}))
    return Damaged("a 64-bit size is missing in its directory");
  // Beyond 2^63 is negative from here on, which no comparison below lets through.
  record.entry.stored_bytes = static_cast<int64_t>(stored);
  record.entry.size_bytes = static_cast<int64_t>(size);
  record.entry.deflated = record.method == kZipDeflated;
  return record;
}

// Checks what the directory says of an entry against itself and the place where the directory begins.
absl::Status CheckRecord(const DirectoryRecord& record, int64_t directory_offset) {
  const ZipEntry& entry = record.entry;
  if (entry.name.empty() || entry.name.size() > static_cast<size_t>(kMaxZipNameBytes)) {
    return Damaged(absl::StrCat("a name has ", entry.name.size(), " bytes, wanted 1 to ", kMaxZipNameBytes));
  }
  if ((record.flags & kZipEncryptedFlags) != 0) return Unsupported("encrypted entries");
  if (record.method != kZipStored && record.method != kZipDeflated) {
    return Unsupported(absl::StrCat("entries of compression method ", record.method));
  }
  if (entry.stored_bytes < 0 || entry.stored_bytes > directory_offset || entry.size_bytes < 0) {
    return Damaged(absl::StrCat(Named(entry.name), " is larger than the file"));
  }
  const bool possible = entry.deflated ? entry.size_bytes / kMaxInflation <= entry.stored_bytes
                                       : entry.size_bytes == entry.stored_bytes;
  if (!possible) {
    return Damaged(absl::StrCat(Named(entry.name), " cannot have ", entry.size_bytes, " bytes when ",
                                entry.stored_bytes, " are stored of it"));
  }
  return absl::OkStatus();
}

// Finds where the stored bytes begin: behind a header that repeats what the directory says.
absl::Status FindData(const ArchiveFile& file, int64_t directory_offset, DirectoryRecord& record) {
  ZipEntry& entry = record.entry;
  if (record.header_offset > static_cast<uint64_t>(directory_offset))
    return Damaged(absl::StrCat(Named(entry.name), " begins beyond the file's end"));
  const int64_t offset = static_cast<int64_t>(record.header_offset);
  const int64_t name_bytes = static_cast<int64_t>(entry.name.size());
  const std::optional<std::string> bytes = file.Read(offset, kZipHeaderBytes + name_bytes);
  if (!bytes) return Damaged(absl::StrCat(Named(entry.name), " is cut short"));
  FieldReader fields(*bytes);
  const uint64_t signature = fields.Take(4);
  fields.Take(2);  // version
  const uint64_t flags = fields.Take(2), method = fields.Take(2);
  fields.Take(4);  // time
  const uint64_t crc32 = fields.Take(4), stored = fields.Take(4), size = fields.Take(4);
  const int64_t own_name_bytes = static_cast<int64_t>(fields.Take(2));
  const int64_t extra_bytes = static_cast<int64_t>(fields.Take(2));
  // With a data descriptor the header was written before these were known.
  const bool known = (flags & kZipDescriptorFlag) == 0;
  const auto differ = [](uint64_t here, int64_t there) {
    return here != kIn64Bits && here != static_cast<uint64_t>(there);
  };
  if (signature != kZipHeaderSignature || own_name_bytes != name_bytes || method != record.method ||
      flags != record.flags || fields.TakeBytes(entry.name.size()) != entry.name ||
      (known &&
       (crc32 != entry.crc32 || differ(stored, entry.stored_bytes) || differ(size, entry.size_bytes)))) {
    return Damaged(
        absl::StrCat("the directory and the header of ", Named(entry.name), " contradict each other"));
  }
  entry.data_offset = offset + kZipHeaderBytes + name_bytes + extra_bytes;
  if (entry.data_offset > directory_offset || entry.stored_bytes > directory_offset - entry.data_offset)
    return Damaged(absl::StrCat(Named(entry.name), " is cut short"));
  return absl::OkStatus();
}

// Two entries over the same bytes are how small files unpack to enormous ones.
absl::Status CheckApart(const std::vector<DirectoryRecord>& records) {
  std::set<std::string> names;
  std::vector<std::pair<int64_t, int64_t>> places;
  for (const DirectoryRecord& record : records) {
    const ZipEntry& entry = record.entry;
    if (!names.insert(entry.name).second) return Damaged(absl::StrCat(Named(entry.name), " comes twice"));
    places.emplace_back(record.header_offset, entry.data_offset + entry.stored_bytes);
  }
  std::sort(places.begin(), places.end());
  for (size_t i = 1; i < places.size(); ++i) {
    if (places[i].first < places[i - 1].second) return Damaged("two entries share bytes");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<ZipEntry>> ReadZipDirectory(std::istream& in) {
  in.clear();
  in.seekg(0, std::ios::end);
  const ArchiveFile file{.in = in, .size_bytes = static_cast<int64_t>(in.tellg())};
  const std::optional<int64_t> end = FindEnd(file);
  if (!end) return Damaged("it has no end record; is it cut short?");
  const absl::StatusOr<DirectoryPlace> place = ReadEnd(file, *end);
  if (!place.ok()) return place.status();
  if (place->num_entries > static_cast<uint64_t>(kMaxZipEntries)) {
    return absl::InvalidArgumentError(absl::StrCat("the .npz archive has ", place->num_entries,
                                                   " entries, wanted at most ", kMaxZipEntries));
  }
  if (place->size_bytes > static_cast<uint64_t>(kMaxZipDirectoryBytes)) {
    return absl::InvalidArgumentError(absl::StrCat("the .npz archive has a directory of ", place->size_bytes,
                                                   " bytes, wanted at most ", kMaxZipDirectoryBytes));
  }
  if (place->offset > static_cast<uint64_t>(*end) ||
      place->size_bytes > static_cast<uint64_t>(*end) - place->offset) {
    return Damaged("its directory lies beyond its end");
  }
  const int64_t directory_offset = static_cast<int64_t>(place->offset);
  const auto directory = file.Read(directory_offset, static_cast<int64_t>(place->size_bytes));
  if (!directory) return Damaged("its directory cannot be read");

  FieldReader fields(*directory);
  std::vector<DirectoryRecord> records;
  for (uint64_t i = 0; i < place->num_entries; ++i) {
    absl::StatusOr<DirectoryRecord> record = ReadRecord(fields);
    absl::Status status = record.status();
    if (status.ok()) status = CheckRecord(*record, directory_offset);
    if (status.ok()) status = FindData(file, directory_offset, *record);
    if (!status.ok()) return status;
    records.push_back(*std::move(record));
  }
  if (!fields.empty()) return Damaged("its directory holds more than its entries");
  if (absl::Status status = CheckApart(records); !status.ok()) return status;
  std::vector<ZipEntry> entries;
  for (DirectoryRecord& record : records) entries.push_back(std::move(record.entry));
  return entries;
}

}  // namespace headlight::client
