// SPDX-License-Identifier: Apache-2.0
#include "core/model/config_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"

namespace headlight {
namespace {

absl::Status SystemError(const std::string& path, const char* what) {
  return absl::InternalError(absl::StrCat(path, ": cannot ", what, ": ", std::strerror(errno)));
}

absl::Status WriteAll(int file, const std::string& path, const std::string& text) {
  size_t written = 0;
  while (written < text.size()) {
    const ssize_t bytes = write(file, text.data() + written, text.size() - written);
    if (bytes < 0 && errno != EINTR) return SystemError(path, "write");
    if (bytes > 0) written += static_cast<size_t>(bytes);
  }
  return fsync(file) == 0 ? absl::OkStatus() : SystemError(path, "sync");
}

}  // namespace

absl::Status WriteConfigFile(const std::string& path, const std::string& text) {
  const std::string temporary = absl::StrCat(path, ".tmp.", getpid());
  const int file = open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file < 0) return SystemError(temporary, "create");
  absl::Status status = WriteAll(file, temporary, text);
  if (close(file) != 0 && status.ok()) status = SystemError(temporary, "close");
  if (status.ok() && std::rename(temporary.c_str(), path.c_str()) != 0) status = SystemError(path, "rename");
  if (!status.ok()) unlink(temporary.c_str());
  return status;
}

}  // namespace headlight
