// SPDX-License-Identifier: Apache-2.0
#include "core/attention/visibility.h"

#include "absl/strings/str_cat.h"

namespace headlight {

absl::Status CheckWindow(absl::string_view field, std::optional<int64_t> window) {
  if (!window || *window >= 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(field, ": got ", *window, ", wanted at least 0"));
}

Visibility Narrowed(const Visibility& a, const Visibility& b) {
  const auto narrower = [](std::optional<int64_t> x, std::optional<int64_t> y) {
    if (x && y) return std::optional(std::min(*x, *y));
    return x ? x : y;
  };
  return {a.causal || b.causal, narrower(a.window_left, b.window_left),
          narrower(a.window_right, b.window_right)};
}

}  // namespace headlight
