// SPDX-License-Identifier: Apache-2.0
#include "core/base/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace headlight {

absl::StatusOr<AtomicFile> AtomicFile::Create(const std::string& path) {
  static std::atomic<int> counter = 0;  // other threads may write too
  AtomicFile file(path);
  do {  // until the name is not one that a crash left behind
    // Beside `path`, since a rename cannot leave the file system.
    file.temporary_ = absl::StrCat(path, ".tmp-", getpid(), "-", counter.fetch_add(1));
    file.descriptor_ = open(file.temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (file.descriptor_ < 0 && errno == EEXIST);
  if (file.descriptor_ < 0) {
    const absl::Status status = file.Failed("create");
    file.temporary_.clear();
    return status;
  }
  return file;
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::exchange(other.temporary_, "")),
      descriptor_(std::exchange(other.descriptor_, -1)) {}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) close(descriptor_);
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

absl::Status AtomicFile::Write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = write(descriptor_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Failed("write");
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return absl::OkStatus();
}

absl::Status AtomicFile::Commit() {
  if (fsync(descriptor_) != 0) return Failed("sync");
  if (close(std::exchange(descriptor_, -1)) != 0) return Failed("close");
  if (rename(temporary_.c_str(), path_.c_str()) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat(path_, ": cannot rename ", temporary_, " to it"));
  }
  temporary_.clear();
  const std::string folder = std::filesystem::path(path_).parent_path();
  const int opened = open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (opened >= 0) {
    fsync(opened);  // the name itself; file systems that cannot do this keep it anyway
    close(opened);
  }
  return absl::OkStatus();
}

absl::Status AtomicFile::Failed(absl::string_view what) const {
  return absl::ErrnoToStatus(errno, absl::StrCat(temporary_, ": cannot ", what, " it"));
}

absl::Status WriteFileAtomically(const std::string& path, absl::string_view text) {
  HEADLIGHT_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path));
  HEADLIGHT_RETURN_IF_ERROR(file.Write(std::as_bytes(std::span(text.data(), text.size()))));
  return file.Commit();
}

}  // namespace headlight
