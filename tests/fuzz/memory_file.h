// SPDX-License-Identifier: Apache-2.0
#ifndef HEADLIGHT_TESTS_FUZZ_MEMORY_FILE_H_
#define HEADLIGHT_TESTS_FUZZ_MEMORY_FILE_H_

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <span>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/fuzz/promise.h"

namespace headlight::testing {

// A file without a name, for what opens files by their path.
class MemoryFile {
 public:
  explicit MemoryFile(std::span<const std::byte> bytes) : fd_(memfd_create("fuzzed", MFD_CLOEXEC)) {
    Check(fd_ >= 0 && write(fd_, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()),
          "there is memory for the file");
  }
  ~MemoryFile() { close(fd_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::string path() const { return absl::StrCat("/proc/self/fd/", fd_); }

 private:
  const int fd_;
};

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_FUZZ_MEMORY_FILE_H_
