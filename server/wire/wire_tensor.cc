// SPDX-License-Identifier: Apache-2.0
#include "server/wire/wire_tensor.h"

#include <algorithm>
#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace headlight {
namespace {

absl::StatusOr<DType> CheckDType(const TensorRule& rule, v1::DType got) {
  for (DType wanted : rule.dtypes) {
    if (got == ToProto(wanted)) return wanted;
  }
  std::string wanted;
  for (size_t i = 0; i < rule.dtypes.size(); ++i) {
    const bool last = i + 1 == rule.dtypes.size();
    absl::StrAppend(&wanted, i == 0 ? "" : last ? " or " : ", ", v1::DType_Name(ToProto(rule.dtypes[i])));
  }
  return absl::InvalidArgumentError(
      absl::StrCat(rule.field, ".dtype: got ", DescribeDType(got), ", wanted ", wanted));
}

absl::Status CheckShape(const TensorRule& rule, std::span<const int64_t> shape) {
  if (std::find(rule.ranks.begin(), rule.ranks.end(), shape.size()) == rule.ranks.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat(rule.field, ".shape: got ", shape.size(), " dimensions, wanted ", rule.wanted_shape));
  }
  if (std::any_of(shape.begin(), shape.end(), [](int64_t dim) { return dim < 1; })) {
    return absl::InvalidArgumentError(absl::StrCat(rule.field, ".shape: got ", ToString(shape),
                                                   ", wanted every dimension to be at least 1"));
  }
  return absl::OkStatus();
}

}  // namespace

v1::DType ToProto(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return v1::DTYPE_F32;
    case DType::kF16:
      return v1::DTYPE_F16;
    case DType::kBf16:
      return v1::DTYPE_BF16;
    case DType::kBool:
      return v1::DTYPE_BOOL;
    case DType::kI32:
      return v1::DTYPE_I32;
    case DType::kI64:
      return v1::DTYPE_I64;
  }
  return v1::DTYPE_UNSPECIFIED;
}

std::string DescribeDType(v1::DType dtype) {
  if (v1::DType_IsValid(dtype)) return v1::DType_Name(dtype);
  return absl::StrCat(static_cast<int>(dtype), ", which is no DType");
}

absl::StatusOr<WireTensor> CheckTensor(const TensorRule& rule, const v1::TensorSpec& spec,
                                       const ByteSegments& payload) {
  WireTensor tensor;
  HEADLIGHT_ASSIGN_OR_RETURN(tensor.dtype, CheckDType(rule, spec.dtype()));
  const std::span<const int64_t> shape(spec.shape().data(), spec.shape_size());
  HEADLIGHT_RETURN_IF_ERROR(CheckShape(rule, shape));
  const std::optional<int64_t> elements = NumElements(shape);
  int64_t wanted_bytes = 0;
  if (!elements || __builtin_mul_overflow(*elements, SizeOf(tensor.dtype), &wanted_bytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat(rule.field, ".shape: ", ToString(shape), " is more than 2^63 bytes"));
  }
  if (payload.size_bytes() != wanted_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("payloads: got ", payload.size_bytes(), " bytes for ",
                                                   rule.field, ", wanted ", wanted_bytes, " for ",
                                                   DescribeDType(spec.dtype()), " ", ToString(shape)));
  }
  tensor.shape.assign(shape.begin(), shape.end());
  tensor.bytes = payload;
  return tensor;
}

}  // namespace headlight
