// SPDX-License-Identifier: Apache-2.0
#include "server/oip/near_name.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace headlight {
namespace {

constexpr size_t kLongestName = 64;

// Damerau's distance between neighbours (optimal string alignment), row by row.
size_t LettersBetween(const std::string& a, const std::string& b) {
  const size_t width = b.size() + 1;
  std::vector<size_t> before(width), above(width), row(width);
  for (size_t j = 0; j < width; ++j) above[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j < width; ++j) {
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    before.swap(above);
    above.swap(row);
  }
  return above[b.size()];
}

}  // namespace

const char* NearName(const std::string& wrong, std::span<const char* const> names) {
  if (wrong.size() > kLongestName) return nullptr;
  const char* nearest = nullptr;
  size_t least = kLongestName;
  for (const char* const name : names) {
    const size_t letters = LettersBetween(wrong, name);
    if (letters >= least || letters * 3 > std::strlen(name)) continue;
    nearest = name;
    least = letters;
  }
  return nearest;
}

std::string InsteadOf(const std::string& wrong, std::span<const char* const> names) {
  const char* const near = NearName(wrong, names);
  const std::string question = near == nullptr ? "; " : absl::StrCat("; did you mean ", near, "? ");
  return absl::StrCat(question, near == nullptr ? "wanted one of " : "Wanted one of ",
                      absl::StrJoin(names, ", "));
}

}  // namespace headlight
