// SPDX-License-Identifier: Apache-2.0
#include "server/attend/attend_reply.h"

#include <cstdint>
#include <memory>
#include <vector>

#include "core/tensor/dtype.h"
#include "server/attend/dtype_names.h"
#include "server/attend/output_kinds.h"
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

v1::DType DTypeOf(const PlannedOutput& plan) {
  switch (plan.encoding) {
    case OutputEncoding::kFloat:
      return ToProto(plan.dtype);
    case OutputEncoding::kInt8:
      return v1::DTYPE_I8;
    case OutputEncoding::kBits:
      return v1::DTYPE_BITS;
  }
  return v1::DTYPE_UNSPECIFIED;
}

// Of SPARSE only the result knows how many there are.
Shape ShapeOfOutput(const PlannedOutput& plan, const OutputResult& result) {
  if (plan.kind != OutputKind::kSparse) return plan.shape;
  int64_t entries = 0;
  for (const int64_t len : result.lens) entries += len;
  return {entries};
}

int64_t SizeOfOutput(const PlannedOutput& plan, const Shape& shape) {
  if (plan.encoding == OutputEncoding::kFloat) return SizeBytes(shape, plan.dtype);
  const int64_t elements = SizeBytes(shape, DType::kBool);
  return plan.encoding == OutputEncoding::kBits ? elements / 8 : elements;
}

void DescribeOutput(const PlannedOutput& plan, const OutputResult& result, v1::OutputTensor& out) {
  out.set_kind(ToProto(plan.kind));
  const Shape shape = ShapeOfOutput(plan, result);
  out.mutable_values()->set_dtype(DTypeOf(plan));
  for (const int64_t dim : shape) out.mutable_values()->add_shape(dim);
  if (plan.kind == OutputKind::kSparse) SetSpec(shape, DType::kI32, *out.mutable_indices());
  if (!plan.scale.empty()) SetSpec(plan.scale, DType::kF32, *out.mutable_scale());
  const std::vector<int64_t>& lens = plan.kind == OutputKind::kSparse ? result.lens : plan.lens;
  out.mutable_lens()->Assign(lens.begin(), lens.end());
}

void AddOutput(const ReplyPlan& plan, const PlannedOutput& output, const OutputResult& result,
               PayloadSlices& slices) {
  const Shape shape = ShapeOfOutput(output, result);
  if (output.padded) {
    slices.AddPadded(result.values, plan.q_lens, plan.padded_len, shape.back() * SizeOf(output.dtype));
  } else {
    slices.Add(result.values, SizeOfOutput(output, shape));
  }
  if (output.kind == OutputKind::kSparse) slices.Add(result.indices, SizeBytes(shape, DType::kI32));
  if (!output.scale.empty()) slices.Add(result.scale, SizeBytes(output.scale, DType::kF32));
}

v1::AttendResponse FieldsOfReply(const ReplyPlan& plan, const BatchResult& result,
                                 const v1::TimeBudget& budget) {
  v1::AttendResponse response;
  response.set_model(plan.model->name);
  response.set_model_version(plan.model->version);
  response.set_request_id(plan.request_id);
  if (!plan.output.empty()) SetSpec(plan.output, plan.dtype, *response.mutable_output());
  if (!plan.weights.empty()) SetSpec(plan.weights, plan.dtype, *response.mutable_weights());
  if (!plan.weights_keys.empty()) SetSpec(plan.weights_keys, DType::kI32, *response.mutable_weights_keys());
  if (!plan.received_mass.empty()) SetSpec(plan.received_mass, plan.dtype, *response.mutable_received_mass());
  *response.mutable_time_budget() = budget;
  for (size_t i = 0; i < plan.outputs.size(); ++i) {
    DescribeOutput(plan.outputs[i], result.outputs[i], *response.add_outputs());
  }
  return response;
}

}  // namespace

grpc::ByteBuffer EncodeAttend(const ReplyPlan& plan, const BatchResult& result,
                              const v1::TimeBudget& budget) {
  PayloadSlices slices(FieldsOfReply(plan, result, budget).SerializeAsString(),
                       v1::AttendResponse::kPayloadsFieldNumber);
  const auto add = [&](const Shape& shape, DType dtype, const std::shared_ptr<const void>& data) {
    if (!shape.empty()) slices.Add(data, SizeBytes(shape, dtype));
  };
  if (plan.padded_len == 0 || plan.output.empty()) {
    add(plan.output, plan.dtype, result.output);
  } else {
    slices.AddPadded(result.output, plan.q_lens, plan.padded_len, plan.output.back() * SizeOf(plan.dtype));
  }
  add(plan.weights, plan.dtype, result.weights);
  add(plan.weights_keys, DType::kI32, result.weights_keys);
  add(plan.received_mass, plan.dtype, result.received_mass);
  for (size_t i = 0; i < plan.outputs.size(); ++i)
    AddOutput(plan, plan.outputs[i], result.outputs[i], slices);
  return slices.Message();
}

}  // namespace headlight
