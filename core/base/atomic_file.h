// SPDX-License-Identifier: Apache-2.0
//
// A file that appears under its name as a whole or not at all.
#ifndef HEADLIGHT_CORE_BASE_ATOMIC_FILE_H_
#define HEADLIGHT_CORE_BASE_ATOMIC_FILE_H_

#include <cstddef>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace headlight {

// Written beside its final name, which it gets at the end: a reader, also one after a crash, sees the old
// file or all of the new one. Errors keep the system's code; messages begin with a path. Movable, not
// copyable; not thread-safe, but several may be written under one name at once: the last to end stays.
class AtomicFile {
 public:
  static absl::StatusOr<AtomicFile> Create(const std::string& path);

  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();  // without Commit nothing is left of it

  absl::Status Write(std::span<const std::byte> bytes);

  // On the disk first, then under its name. Nothing may follow.
  absl::Status Commit();

 private:
  explicit AtomicFile(const std::string& path) : path_(path) {}
  absl::Status Failed(absl::string_view what) const;

  std::string path_;
  std::string temporary_;  // its name until then; empty: there is no such file
  int descriptor_ = -1;
};

// All at once.
absl::Status WriteFileAtomically(const std::string& path, absl::string_view text);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_BASE_ATOMIC_FILE_H_
