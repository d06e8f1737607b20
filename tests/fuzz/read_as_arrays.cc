// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/read_as_arrays.h"

#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

#include "client/files/npz.h"
#include "client/files/zip.h"
#include "client/npy.h"
#include "tests/fuzz/memory_file.h"
#include "tests/fuzz/promise.h"

namespace headlight::testing {
namespace {

constexpr int64_t kMaxArchiveBytes = 256 << 10;  // of arrays

std::string Copied(std::span<const std::byte> bytes) {
  std::string copy(bytes.size(), '\0');
  if (!bytes.empty()) std::memcpy(copy.data(), bytes.data(), bytes.size());
  return copy;
}

size_t NumValues(const client::Tensor& tensor) { return tensor.values.size(); }
template <typename Array>
size_t NumValues(const Array& array) {
  return std::visit([](const auto& values) { return values.size(); }, array.values);
}

// Whether it is an array; what is said if it is not must not depend on how it was read.
template <typename Array>
bool CheckArray(const absl::StatusOr<Array>& array) {
  if (!array.ok()) {
    CheckRefusal(array.status());
    return false;
  }
  const std::optional<int64_t> elements = client::NumElements(array->shape);
  Check(elements && static_cast<size_t>(*elements) == NumValues(*array),
        "a shape has as many values as it says");
  return true;
}

template <typename Array>
bool ReadNpyTwice(const std::string& file,
                  absl::StatusOr<Array> (*read)(std::istream&, std::optional<int64_t>, std::string*)) {
  std::istringstream seekable(file), told(file);
  const absl::StatusOr<Array> one = read(seekable, std::nullopt, nullptr);
  std::string dtype;
  const absl::StatusOr<Array> other = read(told, static_cast<int64_t>(file.size()), &dtype);
  Check(one.status() == other.status(), "it is the same whether the size is told or found out");
  Check(!other.ok() || !dtype.empty(), "the type is told");
  return CheckArray(one);
}

}  // namespace

bool ReadAsNpy(std::span<const std::byte> bytes) {
  const std::string file = Copied(bytes);
  const bool tensor = ReadNpyTwice(file, client::ReadNpyTensor);
  const bool mask = ReadNpyTwice(file, client::ReadNpyMask);
  const bool ids = ReadNpyTwice(file, client::ReadNpyIds);
  Check(!tensor || mask, "numbers of a tensor are a mask that is added");
  Check(!ids || !mask, "ids are no mask");
  return mask || ids;
}

bool ReadAsZip(std::span<const std::byte> bytes) {
  std::istringstream file(Copied(bytes));
  const absl::StatusOr<std::vector<client::ZipEntry>> entries = client::ReadZipDirectory(file);
  if (!entries.ok()) {
    CheckRefusal(entries.status());
    return false;
  }
  Check(entries->size() <= static_cast<size_t>(client::kMaxZipEntries), "entries keep their limit");
  std::set<std::string> names;
  bool all_read = true;
  for (const client::ZipEntry& entry : *entries) {
    Check(names.insert(entry.name).second, "names differ");
    Check(entry.data_offset >= 0 && entry.stored_bytes >= 0 && entry.size_bytes >= 0, "no size is negative");
    Check(entry.data_offset + entry.stored_bytes <= static_cast<int64_t>(bytes.size()),
          "entries lie inside the file");
    Check(entry.size_bytes <= entry.stored_bytes * 1032 + 1031,
          "nothing unpacks to more than deflate can make of it");
    client::ZipEntryStream stream(file, entry);
    std::array<char, 4096> buffer;
    int64_t unpacked_bytes = 0;
    while (stream.read(buffer.data(), buffer.size()) || stream.gcount() > 0)
      unpacked_bytes += stream.gcount();
    Check(unpacked_bytes <= entry.size_bytes, "an entry gives at most what the directory says");
    const absl::Status status = stream.Finish();
    Check(!status.ok() || unpacked_bytes == entry.size_bytes,
          "an entry that is right gives all of its bytes");
    if (!status.ok()) CheckRefusal(status);
    all_read &= status.ok();
  }
  return all_read;
}

bool ReadAsNpz(std::span<const std::byte> bytes) {
  const MemoryFile file(bytes);
  absl::StatusOr<client::NpzReader> reader = client::NpzReader::Open(file.path(), kMaxArchiveBytes);
  if (!reader.ok()) {
    CheckRefusal(reader.status());
    return false;
  }
  bool all_read = true;
  for (const std::string& name : reader->names()) {
    Check(reader->Has(name), "there is what is listed");
    const bool tensor = CheckArray(reader->ReadTensor(name));
    const bool mask = CheckArray(reader->ReadMask(name));
    const bool ids = CheckArray(reader->ReadIds(name));
    Check(!tensor || mask, "numbers of a tensor are a mask that is added");
    all_read &= mask || ids;
  }
  return all_read;
}

}  // namespace headlight::testing
