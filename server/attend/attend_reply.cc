// SPDX-License-Identifier: Apache-2.0
#include "server/attend/attend_reply.h"

#include <cstdint>
#include <memory>

#include "core/tensor/dtype.h"
#include "server/attend/dtype_names.h"
#include "server/wire/payload_slices.h"

namespace headlight {
namespace {

int64_t SizeBytes(const Shape& shape, DType dtype) {
  int64_t bytes = SizeOf(dtype);
  for (int64_t dim : shape) bytes *= dim;  // the check of the request bounds it
  return bytes;
}

void SetSpec(const Shape& shape, DType dtype, v1::TensorSpec& spec) {
  spec.set_dtype(ToProto(dtype));
  for (int64_t dim : shape) spec.add_shape(dim);
}

v1::AttendResponse FieldsOfReply(const ReplyPlan& plan, const v1::TimeBudget& budget) {
  v1::AttendResponse response;
  response.set_model(plan.model->name);
  response.set_model_version(plan.model->version);
  response.set_request_id(plan.request_id);
  SetSpec(plan.output, plan.dtype, *response.mutable_output());
  if (!plan.weights.empty()) SetSpec(plan.weights, plan.dtype, *response.mutable_weights());
  if (!plan.weights_keys.empty()) SetSpec(plan.weights_keys, DType::kI32, *response.mutable_weights_keys());
  if (!plan.received_mass.empty()) SetSpec(plan.received_mass, plan.dtype, *response.mutable_received_mass());
  *response.mutable_time_budget() = budget;
  return response;
}

}  // namespace

grpc::ByteBuffer EncodeAttend(const ReplyPlan& plan, const BatchResult& result,
                              const v1::TimeBudget& budget) {
  PayloadSlices slices(FieldsOfReply(plan, budget).SerializeAsString(),
                       v1::AttendResponse::kPayloadsFieldNumber);
  const auto add = [&](const Shape& shape, DType dtype, const std::shared_ptr<const void>& data) {
    if (!shape.empty()) slices.Add(data, SizeBytes(shape, dtype));
  };
  if (plan.padded_len == 0) {
    add(plan.output, plan.dtype, result.output);
  } else {
    slices.AddPadded(result.output, plan.q_lens, plan.padded_len, plan.output.back() * SizeOf(plan.dtype));
  }
  add(plan.weights, plan.dtype, result.weights);
  add(plan.weights_keys, DType::kI32, result.weights_keys);
  add(plan.received_mass, plan.dtype, result.received_mass);
  return slices.Message();
}

}  // namespace headlight
