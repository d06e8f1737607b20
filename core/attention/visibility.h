// SPDX-License-Identifier: Apache-2.0
//
// Which keys a query may see by position alone: causality and windows.
#ifndef HEADLIGHT_CORE_ATTENTION_VISIBILITY_H_
#define HEADLIGHT_CORE_ATTENTION_VISIBILITY_H_

#include <algorithm>
#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace headlight {

// Query i of a sequence stands at position i + kv_len - q_len
// among the keys (both ends aligned), keys appended by bias_k and add_zero_attn not counted; those every
// query sees.
struct Visibility {
  bool causal = false;                  // no key after the query's position
  std::optional<int64_t> window_left;   // no key more than this far before it
  std::optional<int64_t> window_right;  // no key more than this far after it
};

// Keys [begin, end) in [0, kv_len); begin == end when there is none.
struct KeyRange {
  int64_t begin = 0;
  int64_t end = 0;
};

// Both at once: what each of them allows.
Visibility Narrowed(const Visibility& a, const Visibility& b);

inline KeyRange VisibleKeys(const Visibility& visibility, int64_t query, int64_t q_len, int64_t kv_len) {
  const int64_t position = query + kv_len - q_len;
  int64_t begin = 0;
  int64_t end = kv_len;
  if (visibility.causal) end = std::min(end, position + 1);
  if (visibility.window_left && *visibility.window_left < position)
    begin = position - *visibility.window_left;
  if (visibility.window_right && *visibility.window_right < kv_len - position) {
    end = std::min(end, position + *visibility.window_right + 1);
  }
  begin = std::min(begin, kv_len);
  return {begin, std::max(begin, end)};
}

// INVALID_ARGUMENT, naming `field`, for a side of a window below 0.
absl::Status CheckWindow(absl::string_view field, std::optional<int64_t> window);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_VISIBILITY_H_
