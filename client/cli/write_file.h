// SPDX-License-Identifier: Apache-2.0
//
// Where reports and pictures go.
#ifndef HEADLIGHT_CLIENT_CLI_WRITE_FILE_H_
#define HEADLIGHT_CLIENT_CLI_WRITE_FILE_H_

#include <ostream>
#include <string>

#include "absl/status/status.h"

namespace headlight::client {

// Writes `bytes` as they are into the file `path`, in place of what it held, or to `out` if `path` is "-".
// UNAVAILABLE, naming the file and the reason.
absl::Status WriteFile(const std::string& path, const std::string& bytes, std::ostream& out);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_CLI_WRITE_FILE_H_
