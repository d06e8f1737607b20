// SPDX-License-Identifier: Apache-2.0
#include "server/oip/classification.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "absl/strings/str_cat.h"

namespace headlight {
namespace {

void AppendBytes(const std::string& text, std::string& to) {
  const auto size = static_cast<uint32_t>(text.size());
  for (int shift = 0; shift < 32; shift += 8) to.push_back(static_cast<char>((size >> shift) & 0xff));
  to += text;
}

// NaN is behind everything: an order needs that.
bool IsLarger(float a, float b) { return std::isnan(b) ? !std::isnan(a) : a > b; }

}  // namespace

std::string ClassesOf(std::span<const float> scores, int64_t columns, int64_t classes,
                      std::span<const std::string> labels) {
  std::string bytes;
  std::vector<int64_t> places(columns);
  for (size_t row = 0; row < scores.size(); row += columns) {
    const std::span<const float> of_row = scores.subspan(row, columns);
    std::iota(places.begin(), places.end(), 0);
    std::partial_sort(places.begin(), places.begin() + classes, places.end(), [&](int64_t a, int64_t b) {
      if (IsLarger(of_row[a], of_row[b])) return true;
      return !IsLarger(of_row[b], of_row[a]) && a < b;
    });
    for (int64_t i = 0; i < classes; ++i) {
      const int64_t place = places[i];
      // As Triton writes numbers: six digits behind the point.
      std::string text = absl::StrCat(std::to_string(of_row[place]), ":", place);
      if (!labels.empty()) absl::StrAppend(&text, ":", labels[place]);
      AppendBytes(text, bytes);
    }
  }
  return bytes;
}

}  // namespace headlight
