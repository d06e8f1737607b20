// SPDX-License-Identifier: Apache-2.0
#include "server/oip/oip_names.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/oip/oip_datatypes.h"
#include "server/oip/output_names.h"

namespace headlight {
namespace {

// All options of outputs but their kinds are parameters of the request or, `classification`, of the output.
std::string OptionOfOutput(size_t place, const char* option) {
  const absl::string_view name = option;
  if (name == "kind") return absl::StrCat("outputs[", place, "].name");
  if (name == "classes") return absl::StrCat("outputs[", place, "].parameters[\"classification\"]");
  if (name == "dtype") return "vectors_dtype";
  if (name == "top_k") return "sparse_top_k";
  return option;
}

}  // namespace

const FieldNames kOipNames = {.tensors = {"raw_input_contents", "datatype",
                                          [](DType dtype) -> std::string { return DatatypeOf(dtype); }},
                              .request_id = "id",
                              .model = "model_name",
                              .token_ids = "input_ids",
                              .timeout = "timeout",
                              .priority = "priority",
                              .weights_top_k = "weights_top_k",
                              .weights_top_k_mode = "the weights \"top_k\"",
                              .weights_heads = "heads",
                              .weights_queries = "query_begin and query_end",
                              .weights_query_end = "query_end",
                              .weights_layer = "layer",
                              .weights_layers = "layers",
                              .weights_grid_rows = "grid_rows",
                              .weights_grid_cols = "grid_cols",
                              .weights_grid_mode = "the weights \"grid\"",
                              .model_pooling = "\"model\"",
                              .kind = [](OutputKind kind) -> std::string { return NameOfOutput(kind); },
                              .encoding = [](OutputEncoding encoding) -> std::string {
                                return encoding == OutputEncoding::kInt8 ? "INT8" : "UINT8";
                              },
                              .output_option = OptionOfOutput};

}  // namespace headlight
