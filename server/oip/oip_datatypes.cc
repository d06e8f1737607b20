// SPDX-License-Identifier: Apache-2.0
#include "server/oip/oip_datatypes.h"

#include "core/base/text.h"

namespace headlight {

const char* DatatypeOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "FP32";
    case DType::kF16:
      return "FP16";
    case DType::kBf16:
      return "BF16";
    case DType::kBool:
      return "BOOL";
    case DType::kI32:
      return "INT32";
    case DType::kI64:
      return "INT64";
  }
  return "";
}

WireDType FromDatatype(const std::string& datatype) {
  for (DType known : {DType::kF32, DType::kI64, DType::kBf16, DType::kF16, DType::kI32, DType::kBool}) {
    if (datatype == DatatypeOf(known)) return {known, {}};
  }
  return {std::nullopt, Quoted(datatype)};
}

}  // namespace headlight
