// SPDX-License-Identifier: Apache-2.0
#include <google/protobuf/io/coded_stream.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <utility>

#include "core/tensor/dtype.h"
#include "server/attend/codec.h"
#include "server/wire/wire_tensor.h"

namespace headlight {
namespace {

// Below this size of a padded sequence its rows are copied into place: a slice costs more than copying so
// little.
constexpr int64_t kMinSliceBytes = int64_t{16} << 10;

// Zeros that any number of replies may point at. Not const, so that it takes no room in the program file.
constexpr int64_t kZerosBytes = int64_t{256} << 10;
alignas(64) char zeros[kZerosBytes];

int64_t SizeBytes(const Shape& shape, DType dtype) {
  int64_t bytes = SizeOf(dtype);
  for (int64_t dim : shape) bytes *= dim;  // PlanReply of the decoder bounds it
  return bytes;
}

void SetSpec(const Shape& shape, DType dtype, v1::TensorSpec& spec) {
  spec.set_dtype(ToProto(dtype));
  for (int64_t dim : shape) spec.add_shape(dim);
}

// A slice of memory that `owner` keeps alive.
grpc::Slice SliceOf(std::shared_ptr<const void> owner, int64_t size_bytes) {
  using Owner = std::shared_ptr<const void>;
  void* const data = const_cast<void*>(owner.get());  // gRPC only reads, but asks for void*
  return grpc::Slice(
      data, size_bytes, [](void* held) { delete static_cast<Owner*>(held); }, new Owner(std::move(owner)));
}

void AddZeros(int64_t num_bytes, std::vector<grpc::Slice>& slices) {
  for (; num_bytes > 0; num_bytes -= kZerosBytes) {
    slices.emplace_back(zeros, std::min(num_bytes, kZerosBytes), grpc::Slice::STATIC_SLICE);
  }
}

// Adds the tag and the length of one entry of `payloads`.
void AddPayloadHeader(int64_t size_bytes, std::vector<grpc::Slice>& slices) {
  using google::protobuf::io::CodedOutputStream;
  constexpr uint32_t kTag = (v1::AttendResponse::kPayloadsFieldNumber << 3) | 2;
  uint8_t header[15];
  uint8_t* end = CodedOutputStream::WriteVarint32ToArray(kTag, header);
  end = CodedOutputStream::WriteVarint64ToArray(size_bytes, end);
  slices.emplace_back(header, end - header);
}

// Puts the packed rows of `result` where the padded output has them, zeros between.
void AddPaddedOutput(const ReplyLayout& layout, const AttendResult& result,
                     std::vector<grpc::Slice>& slices) {
  const int64_t row_bytes = layout.output.back() * SizeOf(layout.dtype);
  const int64_t padded_bytes = layout.padded_len * row_bytes;
  const std::byte* rows = static_cast<const std::byte*>(result.output.get());
  if (padded_bytes < kMinSliceBytes) {
    grpc::Slice copy(SizeBytes(layout.output, layout.dtype));
    uint8_t* to = const_cast<uint8_t*>(copy.begin());  // ours alone until it is sent
    for (int64_t len : layout.q_lens) {
      std::memcpy(to, rows, len * row_bytes);
      std::memset(to + len * row_bytes, 0, padded_bytes - len * row_bytes);
      to += padded_bytes;
      rows += len * row_bytes;
    }
    slices.push_back(std::move(copy));
    return;
  }
  for (int64_t len : layout.q_lens) {
    slices.push_back(SliceOf({result.output, rows}, len * row_bytes));
    AddZeros(padded_bytes - len * row_bytes, slices);
    rows += len * row_bytes;
  }
}

// Adds one tensor in one piece, if the reply has it.
void AddTensor(const Shape& shape, DType dtype, const std::shared_ptr<const void>& data,
               std::vector<grpc::Slice>& slices) {
  if (shape.empty()) return;
  const int64_t size_bytes = SizeBytes(shape, dtype);
  AddPayloadHeader(size_bytes, slices);
  slices.push_back(SliceOf(data, size_bytes));
}

}  // namespace

grpc::ByteBuffer EncodeAttend(const ReplyLayout& layout, const AttendResult& result,
                              const v1::TimeBudget& budget) {
  v1::AttendResponse response;
  response.set_model(layout.model->name);
  response.set_model_version(layout.model->version);
  response.set_request_id(layout.request_id);
  SetSpec(layout.output, layout.dtype, *response.mutable_output());
  if (!layout.weights.empty()) SetSpec(layout.weights, layout.dtype, *response.mutable_weights());
  if (!layout.weights_keys.empty())
    SetSpec(layout.weights_keys, DType::kI32, *response.mutable_weights_keys());
  if (!layout.received_mass.empty()) {
    SetSpec(layout.received_mass, layout.dtype, *response.mutable_received_mass());
  }
  *response.mutable_time_budget() = budget;

  // Payloads have the highest field number, so what follows is the canonical form.
  std::vector<grpc::Slice> slices;
  slices.emplace_back(response.SerializeAsString());
  if (layout.padded_len == 0) {
    AddTensor(layout.output, layout.dtype, result.output, slices);
  } else {
    AddPayloadHeader(SizeBytes(layout.output, layout.dtype), slices);
    AddPaddedOutput(layout, result, slices);
  }
  AddTensor(layout.weights, layout.dtype, result.weights, slices);
  AddTensor(layout.weights_keys, DType::kI32, result.weights_keys, slices);
  AddTensor(layout.received_mass, layout.dtype, result.received_mass, slices);
  return grpc::ByteBuffer(slices.data(), slices.size());
}

}  // namespace headlight
