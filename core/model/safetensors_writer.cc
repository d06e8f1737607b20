// SPDX-License-Identifier: Apache-2.0
#include "core/model/safetensors_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/text.h"
#include "core/model/safetensors.h"
#include "core/model/safetensors_header.h"

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

// A new file that is removed again unless it gets its final name.
class TemporaryFile {
 public:
  // Beside `path`, since a rename cannot leave the file system.
  explicit TemporaryFile(const std::string& path) : final_path_(path) {}
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() {
    if (descriptor_ >= 0) close(descriptor_);
    if (exists_) unlink(path_.c_str());
  }

  absl::Status Create() {
    static std::atomic<int> counter = 0;  // other threads may write too
    do {                                  // until the name is not one that a crash left behind
      path_ = absl::StrCat(final_path_, ".tmp-", getpid(), "-", counter.fetch_add(1));
      descriptor_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    } while (descriptor_ < 0 && errno == EEXIST);
    if (descriptor_ < 0) return Failed("create");
    exists_ = true;
    return absl::OkStatus();
  }

  absl::Status Write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t n = write(descriptor_, bytes.data(), bytes.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return Failed("write");
      bytes = bytes.subspan(n);
    }
    return absl::OkStatus();
  }

  // On the disk before it has its name: after a crash the name shows the old file or all of the new one.
  absl::Status Finish() {
    if (fsync(descriptor_) != 0) return Failed("sync");
    if (close(std::exchange(descriptor_, -1)) != 0) return Failed("close");
    if (rename(path_.c_str(), final_path_.c_str()) != 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat(final_path_, ": cannot rename ", path_, " to it"));
    }
    exists_ = false;
    const std::string folder = std::filesystem::path(final_path_).parent_path();
    const int opened = open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (opened >= 0) {
      fsync(opened);  // the name itself; file systems that cannot do this keep it anyway
      close(opened);
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Failed(absl::string_view what) const {
    return absl::ErrnoToStatus(errno, absl::StrCat(path_, ": cannot ", what, " it"));
  }

  const std::string final_path_;
  std::string path_;
  int descriptor_ = -1;
  bool exists_ = false;
};

}  // namespace

absl::Status WriteSafetensors(const std::string& path, const std::map<std::string, TensorToWrite>& tensors,
                              const std::map<std::string, std::string>& metadata) {
  const absl::StatusOr<std::string> header = MakeHeader(tensors, metadata);
  if (!header.ok()) {
    return absl::Status(header.status().code(), absl::StrCat(path, ": ", header.status().message()));
  }
  TemporaryFile file(path);
  HEADLIGHT_RETURN_IF_ERROR(file.Create());
  HEADLIGHT_RETURN_IF_ERROR(file.Write(std::as_bytes(std::span(*header))));
  for (const auto& [name, tensor] : tensors) {
    HEADLIGHT_RETURN_IF_ERROR(
        file.Write(std::as_bytes(std::span(tensor.data, static_cast<size_t>(*NumElements(tensor.shape))))));
  }
  return file.Finish();
}

}  // namespace headlight
