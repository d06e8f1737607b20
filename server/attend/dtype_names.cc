// SPDX-License-Identifier: Apache-2.0
#include "server/attend/dtype_names.h"

#include <string>

#include "absl/strings/str_cat.h"

namespace headlight {

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

WireDType FromProto(v1::DType dtype) {
  for (DType known : {DType::kF32, DType::kF16, DType::kBf16, DType::kBool, DType::kI32, DType::kI64}) {
    if (dtype == ToProto(known)) return {known, {}};
  }
  if (v1::DType_IsValid(dtype)) return {std::nullopt, v1::DType_Name(dtype)};
  return {std::nullopt, absl::StrCat(static_cast<int>(dtype), ", which is no DType")};
}

const WireNames kAttendNames = {"payloads", [](DType dtype) { return v1::DType_Name(ToProto(dtype)); }};

}  // namespace headlight
