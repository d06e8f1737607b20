// SPDX-License-Identifier: Apache-2.0
//
// A file open for reading.
#ifndef HEADLIGHT_CORE_BASE_REGULAR_FILE_H_
#define HEADLIGHT_CORE_BASE_REGULAR_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace headlight {

// Owns the descriptor. Movable, not copyable.
class RegularFile {
 public:
  // NOT_FOUND or PERMISSION_DENIED: it cannot be opened. INVALID_ARGUMENT: it is a folder, a device, a pipe;
  // asking does not wait for anybody at the pipe's other end. Other errors of the system keep their code.
  // Messages begin with `path`.
  static absl::StatusOr<RegularFile> Open(const std::string& path);

  RegularFile(RegularFile&& other) noexcept;
  RegularFile& operator=(RegularFile&&) = delete;
  ~RegularFile();

  int descriptor() const { return descriptor_; }
  int64_t size_bytes() const { return size_bytes_; }  // when it was opened

 private:
  RegularFile() = default;

  int descriptor_ = -1;
  int64_t size_bytes_ = 0;
};

}  // namespace headlight

#endif  // HEADLIGHT_CORE_BASE_REGULAR_FILE_H_
