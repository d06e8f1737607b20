// SPDX-License-Identifier: Apache-2.0
//
// The outputs that a request asks for, held against the model: which they are, how wide, and in which shapes
// a reply brings them.
#ifndef HEADLIGHT_SERVER_REQUEST_OUTPUT_CHOICE_H_
#define HEADLIGHT_SERVER_REQUEST_OUTPUT_CHOICE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/model/config.h"
#include "server/batch/batch_input.h"
#include "server/request/reply_plan.h"
#include "server/request/request_fields.h"
#include "server/request/sequence_layout.h"

namespace headlight {

struct PooledChoice {
  std::vector<Pooling> pooling;  // empty: none
  bool as_model = false;
  int64_t dim = 0;  // numbers that are kept
};

// INVALID_ARGUMENT naming `pooling_field` or `dimensions_field`.
absl::StatusOr<PooledChoice> ChoosePooling(const std::string& pooling_field,
                                           const std::string& dimensions_field, const PoolingAsked& asked,
                                           int64_t dimensions, const ModelConfig& model,
                                           const FieldNames& names);

// Everything of the outputs but positions, into input.outputs. INVALID_ARGUMENT naming the field that
// contradicts the model, another output or the rest of the request; `input` has the request's output_dtype.
absl::Status CheckOutputs(const RequestFields& fields, const ModelConfig& model, BatchInput& input);

// Reads positions, and plans what the reply has. `input` has its lengths; `query_shape` is that of hidden
// states. INVALID_ARGUMENT: a position outside of the sequences.
absl::Status PlanOutputs(const RequestFields& fields, const SequenceLayout& layout, const Shape& query_shape,
                         BatchInput& input, ReplyPlan& reply);

// What they take of a message.
void AddTensors(const std::vector<PlannedOutput>& outputs, std::vector<ReplyTensor>& tensors);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_REQUEST_OUTPUT_CHOICE_H_
