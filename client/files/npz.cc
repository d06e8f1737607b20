// SPDX-License-Identifier: Apache-2.0
#include "client/files/npz.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/files/npy_header.h"
#include "client/half.h"

namespace headlight::client {
namespace {

constexpr std::string_view kSuffix = ".npy";

absl::Status InFile(const std::string& path, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(path, ": ", std::string(status.message())));
}

template <typename T>
std::span<const char> BytesOf(const std::vector<T>& values) {
  const void* const data = values.data();
  return {static_cast<const char*>(data), values.size() * sizeof(T)};
}

absl::Status CheckEntries(const std::vector<ZipEntry>& entries, int64_t max_bytes) {
  int64_t left_bytes = max_bytes;
  for (const ZipEntry& entry : entries) {
    if (!entry.name.ends_with(kSuffix) || entry.name.size() == kSuffix.size() ||
        !std::all_of(entry.name.begin(), entry.name.end(), [](char c) { return c >= ' ' && c <= '~'; })) {
      return absl::InvalidArgumentError(
          "the archive holds something else than NAME.npy, wanted what numpy.savez writes");
    }
    if (entry.size_bytes > left_bytes) {
      const char* const what = entries.size() > 1 ? " in all arrays together" : "";
      return absl::InvalidArgumentError(
          absl::StrCat(entry.name, " has ", entry.size_bytes, " bytes, wanted at most ", max_bytes, what));
    }
    left_bytes -= entry.size_bytes;
  }
  return absl::OkStatus();
}

}  // namespace

bool IsNpzFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::array<char, 4> first = {};
  file.read(first.data(), first.size());
  const std::string_view bytes(first.data(), first.size());
  return file && (bytes == std::string_view("PK\x03\x04", 4) || bytes == std::string_view("PK\x05\x06", 4) ||
                  bytes == std::string_view("PK\x06\x06", 4));  // the last two: archives of nothing
}

NpzReader::NpzReader(std::string path, std::unique_ptr<std::ifstream> file, std::vector<ZipEntry> entries)
    : path_(std::move(path)), file_(std::move(file)), entries_(std::move(entries)) {}

absl::StatusOr<NpzReader> NpzReader::Open(const std::string& path, int64_t max_bytes) {
  auto file = std::make_unique<std::ifstream>(path, std::ios::binary);
  if (!*file) return absl::NotFoundError(absl::StrCat(path, ": ", std::strerror(errno)));
  absl::StatusOr<std::vector<ZipEntry>> entries = ReadZipDirectory(*file);
  absl::Status status = entries.status();
  if (status.ok()) status = CheckEntries(*entries, max_bytes);
  if (!status.ok()) return InFile(path, status);
  return NpzReader(path, std::move(file), *std::move(entries));
}

std::vector<std::string> NpzReader::names() const {
  std::vector<std::string> names;
  for (const ZipEntry& entry : entries_)
    names.push_back(entry.name.substr(0, entry.name.size() - kSuffix.size()));
  return names;
}

bool NpzReader::Has(const std::string& name) const {
  const std::vector<std::string> all = names();
  return std::find(all.begin(), all.end(), name) != all.end();
}

template <typename Read>
auto NpzReader::ReadArray(const std::string& name, Read read)
    -> decltype(read(std::declval<std::istream&>(), std::declval<int64_t>())) {
  const std::vector<std::string> all = names();
  const auto found = std::find(all.begin(), all.end(), name);
  if (found == all.end()) {
    return absl::NotFoundError(
        absl::StrCat(path_, ": got no array '", name, "', but ", absl::StrJoin(all, ", ")));
  }
  const ZipEntry& entry = entries_[static_cast<size_t>(found - all.begin())];
  ZipEntryStream bytes(*file_, entry);
  auto array = read(bytes, entry.size_bytes);
  // Where unpacking failed, that is why the array is not what it should be. An array that was refused for
  // what it says of itself has bytes left, which are nobody's fault.
  if (const absl::Status unpacked = bytes.Finish(); !unpacked.ok() && (array.ok() || bytes.eof()))
    return InFile(absl::StrCat(path_, ": ", name), unpacked);
  if (!array.ok()) return InFile(absl::StrCat(path_, ": ", name), array.status());
  return array;
}

absl::StatusOr<Tensor> NpzReader::ReadTensor(const std::string& name, std::string* dtype) {
  return ReadArray(
      name, [&](std::istream& in, int64_t size_bytes) { return ReadNpyTensor(in, size_bytes, dtype); });
}

absl::StatusOr<Mask> NpzReader::ReadMask(const std::string& name, std::string* dtype) {
  return ReadArray(name,
                   [&](std::istream& in, int64_t size_bytes) { return ReadNpyMask(in, size_bytes, dtype); });
}

absl::StatusOr<Ids> NpzReader::ReadIds(const std::string& name, std::string* dtype) {
  return ReadArray(name,
                   [&](std::istream& in, int64_t size_bytes) { return ReadNpyIds(in, size_bytes, dtype); });
}

NpzWriter::NpzWriter(const std::string& path) : path_(path), file_(path, std::ios::binary), zip_(file_) {}

void NpzWriter::AddNpy(const std::string& name, const std::string& header, std::span<const char> values) {
  const std::array<std::span<const char>, 2> parts = {std::span<const char>(header), values};
  zip_.Add(absl::StrCat(name, std::string(kSuffix)), parts);
}

void NpzWriter::Add(const std::string& name, const Tensor& tensor, NpyFloat dtype) {
  if (dtype == NpyFloat::kF32)
    return AddNpy(name, FormatNpyHeader("<f4", tensor.shape), BytesOf(tensor.values));
  std::vector<uint16_t> halves(tensor.values.size());
  std::transform(tensor.values.begin(), tensor.values.end(), halves.begin(), FloatToHalf);
  AddNpy(name, FormatNpyHeader("<f2", tensor.shape), BytesOf(halves));
}

void NpzWriter::Add(const std::string& name, const IntTensor& tensor) {
  AddNpy(name, FormatNpyHeader("<i4", tensor.shape), BytesOf(tensor.values));
}

void NpzWriter::Add(const std::string& name, const ByteTensor& tensor) {
  AddNpy(name, FormatNpyHeader(tensor.is_signed ? "|i1" : "|u1", tensor.shape), BytesOf(tensor.values));
}

absl::Status NpzWriter::Finish() {
  if (file_) zip_.Finish();
  file_.close();
  if (!file_)
    return absl::UnavailableError(absl::StrCat(path_, ": cannot be written: ", std::strerror(errno)));
  return absl::OkStatus();
}

}  // namespace headlight::client
