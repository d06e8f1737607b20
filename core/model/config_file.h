// SPDX-License-Identifier: Apache-2.0
#ifndef HEADLIGHT_CORE_MODEL_CONFIG_FILE_H_
#define HEADLIGHT_CORE_MODEL_CONFIG_FILE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace headlight {

// The text of a file. NOT_FOUND: there is none. INVALID_ARGUMENT: it is no regular file, cannot be read, or
// has more than 16 MiB, which no config has. The message names the path.
absl::StatusOr<std::string> ReadConfigFile(const std::string& path);

// Writes the text to a temporary file beside `path`, synced, then renames it: a reader sees all or nothing.
absl::Status WriteConfigFile(const std::string& path, const std::string& text);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_MODEL_CONFIG_FILE_H_
