// SPDX-License-Identifier: Apache-2.0
//
// What callers are told of a load that failed. The log has it all.
#ifndef HEADLIGHT_SERVER_MODELS_LOAD_ERROR_H_
#define HEADLIGHT_SERVER_MODELS_LOAD_ERROR_H_

#include <string>

#include "absl/status/status.h"

namespace headlight {

// `status` without the path of `folder`, whose files go by their names alone, and in valid UTF-8, which
// fields of protocols must be: where this server keeps its files is nobody's business.
absl::Status ForCallers(const absl::Status& status, const std::string& folder);

// `text` with U+FFFD in the place of every byte that makes it invalid UTF-8.
std::string ToValidUtf8(const std::string& text);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_MODELS_LOAD_ERROR_H_
