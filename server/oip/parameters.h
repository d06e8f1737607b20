// SPDX-License-Identifier: Apache-2.0
//
// Parameters of requests, inputs and outputs: those that clients of the Open Inference Protocol send by
// themselves, and ours. What is none of them is refused: a misspelt option would else pass for its default.
#ifndef HEADLIGHT_SERVER_OIP_PARAMETERS_H_
#define HEADLIGHT_SERVER_OIP_PARAMETERS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "inference/grpc_service.pb.h"
#include "server/oip/tensor_regions.h"
#include "server/request/request_fields.h"

namespace headlight {

using ParameterMap = google::protobuf::Map<std::string, inference::InferParameter>;

// Of a request. Names are those of the parameters.
struct RequestParameters {
  int64_t timeout_us = 0;
  int64_t priority = 0;  // as RequestFields has it
  bool causal = false;
  std::optional<int64_t> window_left;
  std::optional<int64_t> window_right;
  std::optional<WeightsSink::Mode> weights;
  int64_t weights_top_k = 0;
  std::vector<int64_t> heads;
  std::optional<int64_t> layer;
  std::vector<int64_t> layers;
  int64_t grid_rows = 0;
  int64_t grid_cols = 0;
  int64_t query_begin = 0;
  int64_t query_end = 0;
  PoolingAsked pooling;
  int64_t dimensions = 0;
  WireDType output_dtype{DType::kF32, {}};
  // Of pooled vectors and those of tokens; none: output_dtype.
  std::optional<WireDType> vectors_dtype;
  OutputEncoding vectors_encoding = OutputEncoding::kFloat;
  int64_t sparse_top_k = 0;
};

// INVALID_ARGUMENT naming the parameter: one that there is not, of the wrong kind, or with a value that is
// none.
absl::Status ReadParameters(const ParameterMap& map, RequestParameters& parameters);

// Of an input or an output.
struct TensorParameters {
  std::optional<TensorPlace> place;  // where its bytes are, or go
  int64_t classes = 0;               // of an output
};

// The same; `field` is the tensor's, such as "inputs[0]".
absl::Status ReadInputParameters(const std::string& field, const ParameterMap& map,
                                 TensorParameters& parameters);
absl::Status ReadOutputParameters(const std::string& field, const ParameterMap& map,
                                  TensorParameters& parameters);

// Triton's levels of priority: 1 goes first, 0 means the one in the middle.
inline constexpr int64_t kPriorityLevels = 21;
inline constexpr int64_t kDefaultPriorityLevel = 11;

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OIP_PARAMETERS_H_
