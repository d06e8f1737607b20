// SPDX-License-Identifier: Apache-2.0
//
// Replaces a text file as a whole.
#ifndef HEADLIGHT_CORE_MODEL_CONFIG_FILE_H_
#define HEADLIGHT_CORE_MODEL_CONFIG_FILE_H_

#include <string>

#include "absl/status/status.h"

namespace headlight {

// Writes the text to a temporary file beside `path`, synced, then renames it: a reader sees all or nothing.
absl::Status WriteConfigFile(const std::string& path, const std::string& text);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_MODEL_CONFIG_FILE_H_
