// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/safetensors_writer.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "core/base/atomic_file.h"
#include "core/base/status_macros.h"
#include "core/base/text.h"
#include "core/checkpoint/safetensors.h"
#include "core/checkpoint/safetensors_header.h"

namespace headlight {
namespace {

using nlohmann::json;

static_assert(std::endian::native == std::endian::little, "numbers are written as they lie in memory");

// What our own reader refuses is not written.
absl::Status Check(const std::string& name, const TensorToWrite& tensor) {
  const auto refuse = [&](const auto&... parts) {
    return absl::InvalidArgumentError(absl::StrCat("tensor ", Quoted(name), ": ", parts...));
  };
  if (name == kSafetensorsMetadataKey) return refuse("the format keeps this name for itself");
  if (name.size() > kMaxTensorNameBytes) {
    return refuse("name: got ", name.size(), " bytes, wanted at most ", kMaxTensorNameBytes);
  }
  if (tensor.shape.size() > kMaxTensorRank) {
    return refuse("shape: got ", tensor.shape.size(), " dimensions, wanted at most ", kMaxTensorRank);
  }
  const std::optional<int64_t> elements = NumElements(tensor.shape);
  int64_t bits = 0;
  if (!elements || __builtin_mul_overflow(*elements, int64_t{32}, &bits)) {
    return refuse("shape: got ", ToString(tensor.shape), ", wanted a size in bits below 2^63");
  }
  if (*elements > 0 && tensor.data == nullptr)
    return refuse("data: got null, wanted ", *elements, " elements");
  return absl::OkStatus();
}

// The length and the JSON, padded with spaces so that the data begins at a multiple of 8 bytes.
absl::StatusOr<std::string> MakeHeader(const std::map<std::string, TensorToWrite>& tensors,
                                       const std::map<std::string, std::string>& metadata) {
  if (std::max(tensors.size(), metadata.size()) > kMaxSafetensorsEntries) {
    return absl::InvalidArgumentError(absl::StrCat("got ", tensors.size(), " tensors and ", metadata.size(),
                                                   " strings of metadata, wanted at most ",
                                                   kMaxSafetensorsEntries, " of each"));
  }
  json header = json::object();
  if (!metadata.empty()) header[std::string(kSafetensorsMetadataKey)] = metadata;
  int64_t end = 0;
  for (const auto& [name, tensor] : tensors) {
    HEADLIGHT_RETURN_IF_ERROR(Check(name, tensor));
    const int64_t begin = end;
    if (__builtin_add_overflow(begin, *NumElements(tensor.shape) * 4, &end)) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor ", Quoted(name), ": all together exceed 2^63 bytes"));
    }
    header[name] = {{"dtype", "F32"}, {"shape", tensor.shape}, {"data_offsets", {begin, end}}};
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const json::type_error& error) {
    return absl::InvalidArgumentError(
        absl::StrCat("a name or metadata is not UTF-8: ", Quoted(error.what())));
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');
  if (std::ssize(text) > SafetensorsFile::kMaxHeaderBytes) {
    return absl::InvalidArgumentError(absl::StrCat("got a header of ", text.size(), " bytes, wanted at most ",
                                                   SafetensorsFile::kMaxHeaderBytes));
  }
  const uint64_t length = text.size();
  return absl::StrCat(
      absl::string_view(static_cast<const char*>(static_cast<const void*>(&length)), sizeof(length)), text);
}

}  // namespace

absl::Status WriteSafetensors(const std::string& path, const std::map<std::string, TensorToWrite>& tensors,
                              const std::map<std::string, std::string>& metadata) {
  const absl::StatusOr<std::string> header = MakeHeader(tensors, metadata);
  if (!header.ok()) {
    return absl::Status(header.status().code(), absl::StrCat(path, ": ", header.status().message()));
  }
  HEADLIGHT_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path));
  HEADLIGHT_RETURN_IF_ERROR(file.Write(std::as_bytes(std::span(*header))));
  for (const auto& [name, tensor] : tensors) {
    HEADLIGHT_RETURN_IF_ERROR(
        file.Write(std::as_bytes(std::span(tensor.data, static_cast<size_t>(*NumElements(tensor.shape))))));
  }
  return file.Commit();
}

}  // namespace headlight
