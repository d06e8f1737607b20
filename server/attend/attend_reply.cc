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

// A reply's payloads, and their checksums in its fields.
class Payloads {
 public:
  Payloads(const ReplyPlan& plan, v1::AttendResponse& fields) : plan_(plan), fields_(fields) {}

  void Add(const Shape& shape, DType dtype, const std::shared_ptr<const void>& data) {
    if (!shape.empty()) AddBytes(data, SizeBytes(shape, dtype));
  }

  void AddBytes(const std::shared_ptr<const void>& data, int64_t size_bytes) {
    fields_.add_payload_crc32c(slices_.Add(data, size_bytes));
  }

  void AddPadded(const std::shared_ptr<const void>& rows, int64_t row_bytes) {
    fields_.add_payload_crc32c(slices_.AddPadded(rows, plan_.q_lens, plan_.padded_len, row_bytes));
  }

  grpc::ByteBuffer Message() { return slices_.Message(fields_.SerializeAsString()); }

 private:
  const ReplyPlan& plan_;
  v1::AttendResponse& fields_;
  PayloadSlices slices_{v1::AttendResponse::kPayloadsFieldNumber};
};

void AddOutput(const PlannedOutput& output, const OutputResult& result, Payloads& payloads) {
  const Shape shape = ShapeOfOutput(output, result);
  if (output.padded) {
    payloads.AddPadded(result.values, shape.back() * SizeOf(output.dtype));
  } else {
    payloads.AddBytes(result.values, SizeOfOutput(output, shape));
  }
  if (output.kind == OutputKind::kSparse) payloads.Add(shape, DType::kI32, result.indices);
  payloads.Add(output.scale, DType::kF32, result.scale);
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
  v1::AttendResponse fields = FieldsOfReply(plan, result, budget);
  Payloads payloads(plan, fields);
  if (plan.padded_len == 0 || plan.output.empty()) {
    payloads.Add(plan.output, plan.dtype, result.output);
  } else {
    payloads.AddPadded(result.output, plan.output.back() * SizeOf(plan.dtype));
  }
  payloads.Add(plan.weights, plan.dtype, result.weights);
  payloads.Add(plan.weights_keys, DType::kI32, result.weights_keys);
  payloads.Add(plan.received_mass, plan.dtype, result.received_mass);
  for (size_t i = 0; i < plan.outputs.size(); ++i) AddOutput(plan.outputs[i], result.outputs[i], payloads);
  return payloads.Message();
}

}  // namespace headlight
