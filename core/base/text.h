// SPDX-License-Identifier: Apache-2.0
//
// Text from outside, a caller or a file, made safe for error messages and logs.
#ifndef HEADLIGHT_CORE_BASE_TEXT_H_
#define HEADLIGHT_CORE_BASE_TEXT_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace headlight {

// `text` in double quotes, everything but printable ASCII escaped, cut after 128 bytes. What comes from
// outside can then neither forge a line of the log nor blow up the trailing metadata in which gRPC carries
// messages.
inline std::string Quoted(absl::string_view text) {
  constexpr size_t kMaxBytes = 128;
  const bool cut = text.size() > kMaxBytes;
  return absl::StrCat("\"", absl::CHexEscape(text.substr(0, kMaxBytes)), cut ? "...\"" : "\"");
}

// `texts`, quoted each, with commas, not more than 20 of them.
inline std::string Listed(const std::vector<std::string>& texts) {
  constexpr size_t kMaxListed = 20;
  std::string list;
  for (size_t i = 0; i < texts.size() && i < kMaxListed; ++i) {
    absl::StrAppend(&list, i > 0 ? ", " : "", Quoted(texts[i]));
  }
  if (texts.size() > kMaxListed) absl::StrAppend(&list, " and ", texts.size() - kMaxListed, " more");
  return list;
}

}  // namespace headlight

#endif  // HEADLIGHT_CORE_BASE_TEXT_H_
