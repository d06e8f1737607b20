// SPDX-License-Identifier: Apache-2.0
#include "client/files/zip.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <streambuf>

#include "absl/strings/str_cat.h"
#include "client/files/zip_format.h"

namespace headlight::client {
namespace {

constexpr size_t kBufferBytes = 64 << 10;

uint32_t AddToCrc32(uint32_t crc, std::span<const char> bytes) {
  if (bytes.empty()) return crc;  // zlib takes a null pointer as a wish to begin anew
  const void* const data = bytes.data();
  return static_cast<uint32_t>(crc32_z(crc, static_cast<const Bytef*>(data), bytes.size()));
}

// Little-endian, as all of the format.
void Append(std::string& to, uint64_t value, size_t size) {
  for (size_t i = 0; i < size; ++i) to.push_back(static_cast<char>(value >> (8 * i) & 0xff));
}

}  // namespace

// Fills a stream's buffer with unpacked bytes, and sums them up as it goes.
class ZipEntryStream::Unpacker : public std::streambuf {
 public:
  Unpacker(std::istream& archive, const ZipEntry& entry) : archive_(archive), entry_(entry) {
    archive_.clear();
    archive_.seekg(entry.data_offset);
    if (entry.deflated && inflateInit2(&inflate_, -MAX_WBITS) != Z_OK)  // negative: without zlib's own header
      status_ = absl::ResourceExhaustedError("no memory to unpack");
  }
  ~Unpacker() override {
    if (entry_.deflated) inflateEnd(&inflate_);
  }

  absl::Status Finish() {
    if (!status_.ok()) return status_;
    if (gptr() != egptr() || underflow() != traits_type::eof()) {
      Break("holds more than its array");
    } else if (status_.ok() && crc_ != entry_.crc32) {
      Break("has another CRC-32 than the directory says");
    }
    return status_;
  }

 protected:
  int_type underflow() override {
    if (!status_.ok()) return traits_type::eof();
    const size_t size = entry_.deflated ? Inflate() : ReadStored(unpacked_);
    if (!status_.ok() || size == 0) return traits_type::eof();
    crc_ = AddToCrc32(crc_, {unpacked_.data(), size});
    setg(unpacked_.data(), unpacked_.data(), unpacked_.data() + size);
    return traits_type::to_int_type(unpacked_[0]);
  }

 private:
  // Ends the stream: there are 0 bytes more.
  size_t Break(const std::string& what) {
    status_ = absl::InvalidArgumentError(absl::StrCat("it is damaged: it ", what));
    return 0;
  }

  // Reads stored bytes as they are; 0 when there are none left.
  size_t ReadStored(std::span<char> to) {
    const auto size = std::min(static_cast<int64_t>(to.size()), entry_.stored_bytes - stored_read_);
    archive_.read(to.data(), size);
    if (!archive_) return Break("cannot be read to its end");
    stored_read_ += size;
    return static_cast<size_t>(size);
  }

  // Unpacks up to a buffer full; 0 when all is unpacked.
  size_t Inflate() {
    void* const out = unpacked_.data();
    inflate_.next_out = static_cast<Bytef*>(out);
    inflate_.avail_out = kBufferBytes;
    while (!ended_ && inflate_.avail_out > 0) {
      if (inflate_.avail_in == 0) {
        void* const in = stored_.data();
        inflate_.next_in = static_cast<Bytef*>(in);
        inflate_.avail_in = static_cast<uInt>(ReadStored(stored_));
        if (!status_.ok()) return 0;
      }
      const int result = inflate(&inflate_, Z_NO_FLUSH);
      ended_ = result == Z_STREAM_END;
      if (!ended_ && result != Z_OK)
        return Break(result == Z_BUF_ERROR ? "is cut short" : "is not what deflate writes");
    }
    const size_t size = kBufferBytes - inflate_.avail_out;
    unpacked_total_ += static_cast<int64_t>(size);
    const bool all_used = inflate_.avail_in == 0 && stored_read_ == entry_.stored_bytes;
    if (unpacked_total_ > entry_.size_bytes ||
        (ended_ && (unpacked_total_ != entry_.size_bytes || !all_used)))
      return Break("unpacks to another size than the directory says");
    return size;
  }

  std::istream& archive_;
  const ZipEntry& entry_;
  absl::Status status_;
  uint32_t crc_ = 0;
  int64_t stored_read_ = 0;
  int64_t unpacked_total_ = 0;
  bool ended_ = false;
  z_stream inflate_ = {};
  std::array<char, kBufferBytes> stored_;
  std::array<char, kBufferBytes> unpacked_;
};

ZipEntryStream::ZipEntryStream(std::istream& archive, const ZipEntry& entry)
    : std::istream(nullptr), unpacker_(std::make_unique<Unpacker>(archive, entry)) {
  rdbuf(unpacker_.get());
}

ZipEntryStream::~ZipEntryStream() { rdbuf(nullptr); }

absl::Status ZipEntryStream::Finish() { return unpacker_->Finish(); }

void ZipWriter::Write(const std::string& bytes) {
  out_.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  offset_ += static_cast<int64_t>(bytes.size());
}

void ZipWriter::Add(const std::string& name, std::span<const std::span<const char>> parts) {
  constexpr uint16_t kVersion = 45;  // that zip64 takes
  constexpr uint16_t kMidnight = 0;  // the same arrays make the same bytes: the time is the format's first
  constexpr uint16_t kFirstDay = 1 << 5 | 1;  // 1 January 1980
  uint32_t crc = 0;
  uint64_t size = 0;
  for (const std::span<const char> part : parts) {
    crc = AddToCrc32(crc, part);
    size += part.size();
  }
  // What the header and the directory have in common.
  std::string common;
  Append(common, kVersion, 2);
  Append(common, 0, 2);  // flags
  Append(common, kZipStored, 2);
  Append(common, kMidnight, 2);
  Append(common, kFirstDay, 2);
  Append(common, crc, 4);
  Append(common, kIn64Bits, 4);
  Append(common, kIn64Bits, 4);
  Append(common, name.size(), 2);

  Append(directory_, kZipRecordSignature, 4);
  Append(directory_, kVersion, 2);
  directory_ += common;
  Append(directory_, 4 + 3 * 8, 2);             // extra field
  Append(directory_, 0, 2 + 2 + 2);             // comment, disk, internal attributes
  Append(directory_, uint64_t{0644} << 16, 4);  // a file that its owner may write
  Append(directory_, kIn64Bits, 4);
  directory_ += name;
  Append(directory_, kZip64ExtraId, 2);
  Append(directory_, 3 * 8, 2);
  Append(directory_, size, 8);
  Append(directory_, size, 8);
  Append(directory_, static_cast<uint64_t>(offset_), 8);

  std::string header;
  Append(header, kZipHeaderSignature, 4);
  header += common;
  Append(header, 4 + 2 * 8, 2);
  header += name;
  Append(header, kZip64ExtraId, 2);
  Append(header, 2 * 8, 2);
  Append(header, size, 8);
  Append(header, size, 8);
  Write(header);
  for (const std::span<const char> part : parts)
    out_.write(part.data(), static_cast<std::streamsize>(part.size()));
  offset_ += static_cast<int64_t>(size);
  ++num_entries_;
}

void ZipWriter::Finish() {
  const auto directory_offset = static_cast<uint64_t>(offset_);
  const uint64_t directory_bytes = directory_.size();
  const auto num_entries = static_cast<uint64_t>(num_entries_);
  Write(directory_);
  const auto end64_offset = static_cast<uint64_t>(offset_);
  std::string end;
  Append(end, kZip64EndSignature, 4);
  Append(end, kZip64EndBytes - 12, 8);  // of the record behind this number
  Append(end, 45, 2);
  Append(end, 45, 2);
  Append(end, 0, 4 + 4);  // disks
  Append(end, num_entries, 8);
  Append(end, num_entries, 8);
  Append(end, directory_bytes, 8);
  Append(end, directory_offset, 8);
  Append(end, kZip64LocatorSignature, 4);
  Append(end, 0, 4);
  Append(end, end64_offset, 8);
  Append(end, 1, 4);  // disks in all
  Append(end, kZipEndSignature, 4);
  Append(end, 0, 2 + 2);
  Append(end, num_entries, 2);
  Append(end, num_entries, 2);
  Append(end, kIn64Bits, 4);
  Append(end, kIn64Bits, 4);
  Append(end, 0, 2);  // comment
  Write(end);
}

}  // namespace headlight::client
