// SPDX-License-Identifier: Apache-2.0
#include "server/attend/dtype_names.h"

#include <string>

#include "absl/strings/ascii.h"
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

const FieldNames kAttendNames = {
    .tensors = {"payloads", "dtype", [](DType dtype) { return v1::DType_Name(ToProto(dtype)); }},
    .request_id = "request_id",
    .model = "model",
    .token_ids = "token_ids",
    .timeout = "timeout_us",
    .priority = "priority",
    .weights_top_k = "weights.top_k",
    .weights_top_k_mode = "WEIGHTS_MODE_TOP_K",
    .weights_heads = "weights.heads",
    .weights_queries = "weights.query_begin and weights.query_end",
    .weights_query_end = "weights.query_end",
    .weights_layer = "weights.layer",
    .weights_layers = "weights.layers",
    .weights_grid_rows = "weights.grid_rows",
    .weights_grid_cols = "weights.grid_cols",
    .weights_grid_mode = "WEIGHTS_MODE_GRID",
    .model_pooling = "MODEL",
    // As attention.proto spells it, without what is common to all.
    .kind = [](OutputKind kind) { return absl::AsciiStrToUpper(Name(kind)); },
    .encoding = [](OutputEncoding encoding) -> std::string {
      return encoding == OutputEncoding::kInt8 ? "I8" : "BITS";
    },
    .output_option = [](size_t place,
                        const char* option) { return absl::StrCat("outputs[", place, "].", option); }};

}  // namespace headlight
