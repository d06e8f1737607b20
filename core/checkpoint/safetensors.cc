// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/safetensors.h"

#include <sys/mman.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <new>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/base/regular_file.h"
#include "core/base/status_macros.h"
#include "core/base/text.h"
#include "core/checkpoint/safetensors_header.h"
#include "core/tensor/convert.h"
#include "core/tensor/dtype.h"

namespace headlight {
namespace {

static_assert(std::endian::native == std::endian::little, "the format's numbers are read where they lie");

constexpr int64_t kLengthBytes = 8;  // of the number before the header

std::optional<DType> ConvertibleDType(absl::string_view name) {
  if (name == "F32") return DType::kF32;
  if (name == "F16") return DType::kF16;
  if (name == "BF16") return DType::kBf16;
  return std::nullopt;
}

}  // namespace

absl::StatusOr<std::unique_ptr<const SafetensorsFile>> SafetensorsFile::Open(const std::string& path) {
  HEADLIGHT_ASSIGN_OR_RETURN(const RegularFile opened, RegularFile::Open(path));
  const auto size = static_cast<size_t>(opened.size_bytes());
  std::unique_ptr<SafetensorsFile> file(new SafetensorsFile());
  std::span<const std::byte> bytes;
  if (size > 0) {
    void* const mapping = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, opened.descriptor(), 0);
    if (mapping == MAP_FAILED)
      return absl::ErrnoToStatus(errno, absl::StrCat(path, ": cannot map ", size, " bytes"));
    file->mapping_ = mapping;
    file->mapping_bytes_ = size;
    bytes = {static_cast<const std::byte*>(mapping), size};
  }
  HEADLIGHT_RETURN_IF_ERROR(file->Parse(bytes, path));
  return file;
}

absl::StatusOr<std::unique_ptr<const SafetensorsFile>> SafetensorsFile::FromBytes(
    std::span<const std::byte> bytes, const std::string& name) {
  std::unique_ptr<SafetensorsFile> file(new SafetensorsFile());
  HEADLIGHT_RETURN_IF_ERROR(file->Parse(bytes, name));
  return file;
}

SafetensorsFile::~SafetensorsFile() {
  if (mapping_ != nullptr) munmap(mapping_, mapping_bytes_);
}

absl::Status SafetensorsFile::Parse(std::span<const std::byte> bytes, const std::string& name) {
  constexpr absl::string_view kPointer = "version https://git-lfs.github.com/spec/";
  const absl::string_view text(static_cast<const char*>(static_cast<const void*>(bytes.data())),
                               bytes.size());
  if (absl::StartsWith(text, kPointer)) {
    return absl::InvalidArgumentError(absl::StrCat(
        name, ": got a pointer of git-lfs, wanted the file it stands for; `git lfs pull` fetches it"));
  }
  if (std::ssize(bytes) < kLengthBytes) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": got ", bytes.size(),
                                                   " bytes, wanted at least the ", kLengthBytes,
                                                   " of the header's length"));
  }
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), sizeof(header_bytes));
  const std::span<const std::byte> rest = bytes.subspan(kLengthBytes);
  if (header_bytes > uint64_t{kMaxHeaderBytes}) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": header length: got ", header_bytes,
                                                   " bytes, wanted at most ", kMaxHeaderBytes,
                                                   "; is this a safetensors file?"));
  }
  if (header_bytes > rest.size()) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": header length: got ", header_bytes,
                                                   " bytes, wanted at most the ", rest.size(),
                                                   " that follow; is the file whole?"));
  }
  const absl::string_view json(static_cast<const char*>(static_cast<const void*>(rest.data())), header_bytes);
  const std::span<const std::byte> data = rest.subspan(header_bytes);
  HEADLIGHT_ASSIGN_OR_RETURN(SafetensorsHeader header, ParseSafetensorsHeader(json, std::ssize(data), name));
  metadata_ = std::move(header.metadata);
  try {
    // Nodes move from map to map, so that a tensor is never held twice.
    while (!header.tensors.empty()) {
      auto tensor = header.tensors.extract(header.tensors.begin());
      SafetensorsHeader::Tensor& facts = tensor.mapped();
      entries_.emplace_hint(entries_.end(), std::move(tensor.key()),
                            SafetensorsEntry{.dtype = std::move(facts.dtype),
                                             .shape = std::move(facts.shape),
                                             .bytes = data.subspan(facts.begin, facts.end - facts.begin)});
    }
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(absl::StrCat(name, ": no memory for its list of tensors"));
  }
  return absl::OkStatus();
}

void CopyAsF32(const SafetensorsEntry& entry, int64_t first, int64_t count, float* out) {
  if (const std::optional<DType> dtype = ConvertibleDType(entry.dtype)) {
    ConvertToF32(*dtype, entry.bytes.data() + first * SizeOf(*dtype), count, out);
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    double value = 0;
    std::memcpy(&value, entry.bytes.data() + (first + i) * int64_t{sizeof(value)}, sizeof(value));
    out[i] = static_cast<float>(value);
  }
}

absl::StatusOr<std::vector<float>> ReadF32(const SafetensorsEntry& entry, const std::string& where) {
  if (!ConvertibleDType(entry.dtype) && entry.dtype != "F64") {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": dtype: got ", Quoted(entry.dtype), ", wanted F32, F16, BF16 or F64"));
  }
  const int64_t elements = *NumElements(entry.shape);
  std::vector<float> values;
  if (elements == 0) return values;
  try {
    values.resize(elements);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(absl::StrCat(where, ": no memory for ", elements, " f32 elements"));
  }
  CopyAsF32(entry, 0, elements, values.data());
  return values;
}

}  // namespace headlight
