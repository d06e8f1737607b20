// SPDX-License-Identifier: Apache-2.0
#include "server/wire/wire_tensor.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace headlight {
namespace {

absl::StatusOr<DType> CheckDType(const NamedTensor& tensor, const TensorRule& rule, const WireNames& names) {
  if (tensor.dtype.dtype &&
      std::find(rule.dtypes.begin(), rule.dtypes.end(), *tensor.dtype.dtype) != rule.dtypes.end()) {
    return *tensor.dtype.dtype;
  }
  std::string wanted;
  for (size_t i = 0; i < rule.dtypes.size(); ++i) {
    const bool last = i + 1 == rule.dtypes.size();
    absl::StrAppend(&wanted, i == 0 ? "" : last ? " or " : ", ", names.dtype(rule.dtypes[i]));
  }
  return absl::InvalidArgumentError(
      absl::StrCat(tensor.field, ".", names.dtype_field, ": got ", tensor.dtype.Describe(names), ", wanted ", wanted));
}

absl::Status CheckShape(const NamedTensor& tensor, const TensorRule& rule) {
  const std::span<const int64_t> shape = tensor.shape;
  if (std::find(rule.ranks.begin(), rule.ranks.end(), shape.size()) == rule.ranks.end()) {
    return absl::InvalidArgumentError(absl::StrCat(tensor.field, ".shape: got ", shape.size(),
                                                   " dimensions, wanted ", rule.wanted_shape()));
  }
  if (std::any_of(shape.begin(), shape.end(), [](int64_t dim) { return dim < 1; })) {
    return absl::InvalidArgumentError(absl::StrCat(tensor.field, ".shape: got ", ToString(shape),
                                                   ", wanted every dimension to be at least 1"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<WireTensor> CheckTensor(const NamedTensor& tensor, const TensorRule& rule,
                                       const WireNames& names) {
  WireTensor checked;
  HEADLIGHT_ASSIGN_OR_RETURN(checked.dtype, CheckDType(tensor, rule, names));
  HEADLIGHT_RETURN_IF_ERROR(CheckShape(tensor, rule));
  const std::optional<int64_t> elements = NumElements(tensor.shape);
  int64_t wanted_bytes = 0;
  if (!elements || __builtin_mul_overflow(*elements, SizeOf(checked.dtype), &wanted_bytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat(tensor.field, ".shape: ", ToString(tensor.shape), " is more than 2^63 bytes"));
  }
  checked.shape.assign(tensor.shape.begin(), tensor.shape.end());
  if (tensor.payload == nullptr) return checked;
  if (tensor.payload->size_bytes() != wanted_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        names.payloads, ": got ", tensor.payload->size_bytes(), " bytes for ", tensor.field, ", wanted ",
        wanted_bytes, " for ", names.dtype(checked.dtype), " ", ToString(tensor.shape)));
  }
  checked.bytes = *tensor.payload;
  return checked;
}

}  // namespace headlight
