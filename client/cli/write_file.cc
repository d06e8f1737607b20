// SPDX-License-Identifier: Apache-2.0
#include "client/cli/write_file.h"

#include <cerrno>
#include <cstring>
#include <fstream>

#include "absl/strings/str_cat.h"

namespace headlight::client {

absl::Status WriteFile(const std::string& path, const std::string& bytes, std::ostream& out) {
  const bool to_out = path == "-";
  std::ofstream file;
  errno = 0;
  if (!to_out) file.open(path, std::ios::binary);
  std::ostream& stream = to_out ? out : file;
  stream << bytes << std::flush;
  const int error = errno;  // of the first step that failed; closing would be the next
  if (!to_out) file.close();
  if (stream) return absl::OkStatus();
  const int reason = error != 0 ? error : errno;
  return absl::UnavailableError(absl::StrCat(to_out ? "standard output" : path, ": cannot be written",
                                             reason != 0 ? ": " : "",
                                             reason != 0 ? std::strerror(reason) : ""));
}

}  // namespace headlight::client
