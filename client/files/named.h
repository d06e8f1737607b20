// SPDX-License-Identifier: Apache-2.0
//
// Names out of files, made safe for messages: files of unknown origin may be read.
#ifndef HEADLIGHT_CLIENT_FILES_NAMED_H_
#define HEADLIGHT_CLIENT_FILES_NAMED_H_

#include <string>
#include <string_view>

namespace headlight::client {

// `name` in single quotes, cut after 64 bytes, with a question mark for everything that is not printable
// ASCII: a terminal that shows it obeys none of it.
inline std::string Named(std::string_view name) {
  constexpr size_t kMaxBytes = 64;
  std::string shown(name.substr(0, kMaxBytes));
  for (char& c : shown) {
    if (c < ' ' || c > '~' || c == '\'') c = '?';
  }
  return "'" + shown + (name.size() > kMaxBytes ? "...'" : "'");
}

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_FILES_NAMED_H_
