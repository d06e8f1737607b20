// SPDX-License-Identifier: Apache-2.0
#include "client/tensor.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace headlight::client {

std::optional<int64_t> NumElements(std::span<const int64_t> shape) {
  int64_t product = 1;
  bool empty = false;
  for (int64_t dim : shape) {
    if (dim < 0) return std::nullopt;
    if (dim == 0) {
      empty = true;
    } else if (__builtin_mul_overflow(product, dim, &product)) {
      return std::nullopt;
    }
  }
  return empty ? 0 : product;
}

std::string ToString(std::span<const int64_t> shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

IdsView Ids::View() const& {
  IdsView view{.shape = shape};
  std::visit([&](const auto& owned) { view.values = std::span(owned); }, values);
  return view;
}

MaskView Mask::View() const& {
  MaskView view{.shape = shape};
  std::visit([&](const auto& owned) { view.values = std::span(owned); }, values);
  return view;
}

}  // namespace headlight::client
