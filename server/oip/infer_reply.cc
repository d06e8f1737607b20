// SPDX-License-Identifier: Apache-2.0
#include "server/oip/infer_reply.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <utility>

#include "core/base/status_macros.h"
#include "core/tensor/convert.h"
#include "inference/grpc_service.pb.h"
#include "server/oip/classification.h"
#include "server/oip/oip_datatypes.h"
#include "server/wire/crc32c.h"
#include "server/wire/payload_slices.h"

namespace headlight {
namespace {

// One tensor of the reply before it is written.
struct FilledTensor {
  const char* datatype = "";
  Shape shape;
  std::shared_ptr<const void> data;  // null where it has no bytes
  int64_t size_bytes = 0;
  int64_t row_bytes = 0;  // not 0: rows of sequences without padding, which goes between them
};

FilledTensor Filled(DType dtype, const Shape& shape, std::shared_ptr<const void> data) {
  FilledTensor tensor = {DatatypeOf(dtype), shape, std::move(data), SizeOf(dtype), 0};
  for (const int64_t dim : shape) tensor.size_bytes *= dim;  // the check of the request bounds it
  return tensor;
}

FilledTensor FilledOwned(const char* datatype, const Shape& shape, std::string bytes) {
  const auto size_bytes = static_cast<int64_t>(bytes.size());
  const auto owner = std::make_shared<const std::string>(std::move(bytes));
  return {datatype, shape, {owner, owner->data()}, size_bytes, 0};
}

FilledTensor FilledClasses(const PlannedOutput& plan, const LoadedModel& model, const OutputResult& result) {
  const int64_t columns = plan.shape.back(), rows = plan.shape.front();
  std::vector<float> scores(rows * columns);
  ConvertToF32(plan.dtype, result.values.get(), rows * columns, scores.data());
  return FilledOwned("BYTES", {rows, plan.classes},
                     ClassesOf(scores, columns, plan.classes, model.model.config().heads.labels));
}

FilledTensor FilledValues(const ReplyPlan& plan, size_t index, const BatchResult& result) {
  const PlannedOutput& planned = plan.outputs[index];
  const OutputResult& output = result.outputs[index];
  if (planned.classes > 0) return FilledClasses(planned, *plan.model, output);
  Shape shape = planned.shape;
  if (planned.kind == OutputKind::kSparse) {  // only the result knows how many there are
    shape = {0};
    for (const int64_t len : output.lens) shape[0] += len;
  }
  switch (planned.encoding) {
    case OutputEncoding::kFloat:
      break;
    case OutputEncoding::kInt8: {
      FilledTensor tensor = Filled(DType::kBool, shape, output.values);
      tensor.datatype = "INT8";
      return tensor;
    }
    case OutputEncoding::kBits: {
      shape.back() /= 8;
      FilledTensor tensor = Filled(DType::kBool, shape, output.values);
      tensor.datatype = "UINT8";
      return tensor;
    }
  }
  FilledTensor tensor = Filled(planned.dtype, shape, output.values);
  if (planned.padded) tensor.row_bytes = shape.back() * SizeOf(planned.dtype);
  return tensor;
}

FilledTensor FilledPart(const AskedTensor& asked, const ReplyPlan& plan, const BatchResult& result) {
  switch (asked.part) {
    case ReplyPart::kOutput: {
      FilledTensor tensor = Filled(plan.dtype, plan.output, result.output);
      if (plan.padded_len != 0 && plan.output.size() == 3) {
        tensor.row_bytes = plan.output.back() * SizeOf(plan.dtype);
      }
      return tensor;
    }
    case ReplyPart::kWeights:
      return Filled(plan.dtype, plan.weights, result.weights);
    case ReplyPart::kWeightsKeys:
      return Filled(DType::kI32, plan.weights_keys, result.weights_keys);
    case ReplyPart::kReceivedMass:
      return Filled(plan.dtype, plan.received_mass, result.received_mass);
    case ReplyPart::kValues:
      return FilledValues(plan, asked.output, result);
    case ReplyPart::kIndices: {
      FilledTensor values = FilledValues(plan, asked.output, result);
      return Filled(DType::kI32, values.shape, result.outputs[asked.output].indices);
    }
    case ReplyPart::kScale:
      return Filled(DType::kF32, plan.outputs[asked.output].scale, result.outputs[asked.output].scale);
    case ReplyPart::kLens: {
      const PlannedOutput& planned = plan.outputs[asked.output];
      const std::vector<int64_t>& lens =
          planned.kind == OutputKind::kSparse ? result.outputs[asked.output].lens : planned.lens;
      const void* const bytes = lens.data();
      return FilledOwned("INT64", {std::ssize(lens)},
                         std::string(static_cast<const char*>(bytes), lens.size() * sizeof(int64_t)));
    }
  }
  return {};
}

void Describe(const AskedTensor& asked, const FilledTensor& filled, uint32_t crc32c,
              inference::ModelInferResponse::InferOutputTensor& out) {
  out.set_name(asked.name);
  out.set_datatype(filled.datatype);
  out.mutable_shape()->Assign(filled.shape.begin(), filled.shape.end());
  auto& parameters = *out.mutable_parameters();
  parameters["crc32c"].set_int64_param(crc32c);
  if (!asked.place) return;
  parameters["shared_memory_region"].set_string_param(asked.place->region);
  parameters["shared_memory_byte_size"].set_int64_param(filled.size_bytes);
  if (asked.place->offset != 0) {
    parameters["shared_memory_offset"].set_int64_param(static_cast<int64_t>(asked.place->offset));
  }
}

// The bytes in pieces, with zeros where padding goes.
std::vector<std::span<const std::byte>> PiecesOf(const FilledTensor& tensor, const ReplyPlan& plan) {
  const auto* from = static_cast<const std::byte*>(tensor.data.get());
  if (tensor.row_bytes == 0) return {{from, static_cast<size_t>(tensor.size_bytes)}};
  static const std::vector<std::byte>& zeros = *new std::vector<std::byte>(size_t{64} << 10);
  std::vector<std::span<const std::byte>> pieces;
  for (const int64_t len : plan.q_lens) {
    pieces.emplace_back(from, len * tensor.row_bytes);
    from += len * tensor.row_bytes;
    for (int64_t left = (plan.padded_len - len) * tensor.row_bytes; left > 0;) {
      const int64_t take = std::min<int64_t>(left, std::ssize(zeros));
      pieces.emplace_back(zeros.data(), take);
      left -= take;
    }
  }
  return pieces;
}

// Writes the tensor where it is to be, and gives its CRC-32C. Clients count on an entry for each output,
// empty where the tensor is elsewhere.
absl::StatusOr<uint32_t> AddTensor(const AskedTensor& asked, const FilledTensor& tensor,
                                   const InferReplyForm& form, const ReplyPlan& plan, PayloadSlices& slices) {
  if (!asked.place) {
    if (tensor.row_bytes == 0) return slices.Add(tensor.data, tensor.size_bytes);
    return slices.AddPadded(tensor.data, plan.q_lens, plan.padded_len, tensor.row_bytes);
  }
  const std::vector<std::span<const std::byte>> pieces = PiecesOf(tensor, plan);
  const absl::Status written = form.regions->Write(form.tenant, *asked.place, pieces);
  if (!written.ok()) {
    return absl::Status(written.code(), absl::StrCat(asked.name, ".", std::string(written.message())));
  }
  slices.Add(nullptr, 0);
  uint32_t crc = 0;
  for (const std::span<const std::byte> piece : pieces) crc = ExtendCrc32c(crc, piece);
  return crc;
}

}  // namespace

absl::StatusOr<grpc::ByteBuffer> EncodeInfer(const InferReplyForm& form, const ReplyPlan& plan,
                                             const BatchResult& result) {
  using Response = inference::ModelInferResponse;
  Response response;
  response.set_model_name(plan.model->name);
  response.set_model_version(plan.model->version);
  response.set_id(plan.request_id);
  // A request has one reply, which is its last.
  if (form.of_stream) (*response.mutable_parameters())["triton_final_response"].set_bool_param(true);
  PayloadSlices slices(Response::kRawOutputContentsFieldNumber);
  for (const AskedTensor& asked : form.tensors) {
    const FilledTensor tensor = FilledPart(asked, plan, result);
    HEADLIGHT_ASSIGN_OR_RETURN(const uint32_t crc32c, AddTensor(asked, tensor, form, plan, slices));
    Describe(asked, tensor, crc32c, *response.add_outputs());
  }
  if (!form.of_stream) return slices.Message(response.SerializeAsString());
  return slices.MessageInside(inference::ModelStreamInferResponse::kInferResponseFieldNumber,
                              response.SerializeAsString());
}

}  // namespace headlight
