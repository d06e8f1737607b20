// SPDX-License-Identifier: Apache-2.0
#include "server/models/load_error.h"

#include <cstddef>
#include <cstdint>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/base/text.h"

namespace headlight {
namespace {

// Bytes of the valid sequence that begins at `at`; 0: none does.
size_t SequenceLength(const std::string& text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t first = byte(at);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xC2 && first <= 0xDF   ? 2
                        : first >= 0xE0 && first <= 0xEF ? 3
                        : first >= 0xF0 && first <= 0xF4 ? 4
                                                         : 0;
  if (length == 0 || at + length > text.size()) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xC0) != 0x80) return 0;
  }
  const uint8_t second = byte(at + 1);
  const bool overlong = (first == 0xE0 && second < 0xA0) || (first == 0xF0 && second < 0x90);
  const bool surrogate = first == 0xED && second >= 0xA0;
  const bool too_large = first == 0xF4 && second >= 0x90;
  return overlong || surrogate || too_large ? 0 : length;
}

}  // namespace

absl::Status ForCallers(const absl::Status& status, const std::string& folder) {
  if (status.ok()) return status;
  std::string path = folder;
  while (absl::EndsWith(path, "/")) path.pop_back();
  std::string message(status.message());
  if (!path.empty()) {
    message = absl::StrReplaceAll(message, {{Quoted(folder), "the folder"},
                                            {Quoted(path), "the folder"},
                                            {absl::StrCat(path, "/"), ""},
                                            {absl::StrCat(path, ": "), ""},
                                            {path, "the folder"}});
  }
  return absl::Status(status.code(), ToValidUtf8(message));
}

std::string ToValidUtf8(const std::string& text) {
  std::string valid;
  for (size_t at = 0; at < text.size();) {
    const size_t length = SequenceLength(text, at);
    valid += length > 0 ? text.substr(at, length) : "\xEF\xBF\xBD";
    at += length > 0 ? length : 1;
  }
  return valid;
}

}  // namespace headlight
