// SPDX-License-Identifier: Apache-2.0
#include "client/wire/wire.h"

#include <google/protobuf/io/coded_stream.h>
#include <grpcpp/support/proto_buffer_reader.h>

#include <bit>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "client/half.h"
#include "client/wire/crc32c.h"
#include "client/wire/refusal.h"
#include "client/wire/wire_format.h"

namespace headlight::client {
namespace {

using google::protobuf::io::CodedInputStream;
using google::protobuf::io::CodedOutputStream;

static_assert(std::endian::native == std::endian::little,
              "payloads are little-endian and copied as they are");

// Collects a request's slices: small fields first, then each payload behind its own header.
class RequestWriter {
 public:
  // Without payloads: tensors are described alone, and need no values.
  explicit RequestWriter(bool with_payloads) : with_payloads_(with_payloads) {}

  // Describes a tensor in `spec` and queues its values. INVALID_ARGUMENT if the two disagree.
  template <typename T>
  absl::Status Add(const char* field, v1::DType dtype, const Shape& shape, std::span<const T> values,
                   v1::TensorSpec* spec) {
    spec->set_dtype(dtype);
    spec->mutable_shape()->Assign(shape.begin(), shape.end());
    if (!with_payloads_) return absl::OkStatus();
    const std::optional<int64_t> wanted = NumElements(shape);
    if (!wanted.has_value() || static_cast<uint64_t>(*wanted) != values.size()) {
      return absl::InvalidArgumentError(absl::StrCat(
          field, ": shape ", ToString(shape), " wants ",
          wanted ? absl::StrCat(*wanted, " values") : "no negative dimension and at most 2^63 values",
          ", got ", values.size()));
    }
    if constexpr (std::is_same_v<T, float>) {
      if (dtype == v1::DTYPE_F16) return AddNarrow(values, FloatToHalf);
      if (dtype == v1::DTYPE_BF16) return AddNarrow(values, FloatToBf16);
    }
    AddPayload(values.data(), values.size_bytes());
    return absl::OkStatus();
  }

  grpc::ByteBuffer Finish(const v1::AttendRequest& envelope) {
    slices_.front() = grpc::Slice(envelope.SerializeAsString());
    return grpc::ByteBuffer(slices_.data(), slices_.size());
  }

 private:
  absl::Status AddNarrow(std::span<const float> values, uint16_t (*narrow)(float)) {
    grpc::Slice slice(values.size() * sizeof(uint16_t));
    uint8_t* to = const_cast<uint8_t*>(slice.begin());  // ours alone until it is sent
    for (float value : values) {
      const uint16_t half = narrow(value);
      std::memcpy(to, &half, sizeof(half));
      to += sizeof(half);
    }
    AddHeader(slice.size());
    slices_.push_back(std::move(slice));
    return absl::OkStatus();
  }

  void AddPayload(const void* data, size_t size_bytes) {
    AddHeader(size_bytes);
    slices_.emplace_back(data, size_bytes);
  }

  void AddHeader(size_t size_bytes) {
    uint8_t header[16];
    uint8_t* end = CodedOutputStream::WriteVarint32ToArray(kPayloadTag, header);
    end = CodedOutputStream::WriteVarint64ToArray(size_bytes, end);
    slices_.emplace_back(header, static_cast<size_t>(end - header));
  }

  const bool with_payloads_;
  std::vector<grpc::Slice> slices_ = std::vector<grpc::Slice>(1);  // [0] is the envelope's place
};

// A reply taken apart: its small fields, and its payloads as they came.
struct ReplyParts {
  v1::AttendResponse envelope;
  std::vector<int64_t> payload_bytes;
  // Their bytes, in memory that f32 can stay in.
  std::vector<std::vector<float>> payloads;
  std::vector<uint32_t> payload_crc32c;  // of these bytes; none where they are not to be checked
};

absl::Status Malformed(const std::string& what) {
  return absl::InternalError(absl::StrCat("the server's reply is malformed: ", what));
}

// Appends the field that `tag` begins, tag included, to `envelope`. False if the input ends in it.
bool CopyField(uint32_t tag, CodedInputStream& input, CodedOutputStream& envelope) {
  envelope.WriteVarint32(tag);
  uint64_t number = 0;
  uint32_t number32 = 0;
  std::optional<int> size_bytes;
  std::string bytes;
  switch (WireTypeOf(tag)) {
    case WireType::kVarint:
      if (!input.ReadVarint64(&number)) return false;
      envelope.WriteVarint64(number);
      return true;
    case WireType::kFixed64:
      if (!input.ReadLittleEndian64(&number)) return false;
      envelope.WriteLittleEndian64(number);
      return true;
    case WireType::kFixed32:
      if (!input.ReadLittleEndian32(&number32)) return false;
      envelope.WriteLittleEndian32(number32);
      return true;
    case WireType::kLengthDelimited:
      size_bytes = ReadSize(input);
      if (!size_bytes || !input.ReadString(&bytes, *size_bytes)) return false;
      envelope.WriteVarint32(static_cast<uint32_t>(*size_bytes));
      envelope.WriteString(bytes);
      return true;
    default:  // a group
      return false;
  }
}

bool ReadPayload(CodedInputStream& input, Checksums checksums, ReplyParts& parts) {
  const std::optional<int> size_bytes = ReadSize(input);
  if (!size_bytes) return false;
  parts.payload_bytes.push_back(*size_bytes);
  std::vector<float>& values = parts.payloads.emplace_back();
  values.resize((static_cast<size_t>(*size_bytes) + sizeof(float) - 1) / sizeof(float));
  if (!input.ReadRaw(values.data(), *size_bytes)) return false;
  if (checksums == Checksums::kCheck) {
    const auto bytes = std::as_bytes(std::span(values)).first(static_cast<size_t>(*size_bytes));
    parts.payload_crc32c.push_back(ExtendCrc32c(0, bytes));
  }
  return true;
}

absl::StatusOr<ReplyParts> TakeApart(const grpc::ByteBuffer& bytes, Checksums checksums) {
  if (bytes.Length() > static_cast<size_t>(std::numeric_limits<int>::max())) {
    return Malformed("it is over 2 GiB");
  }
  ReplyParts parts;
  std::string envelope_bytes;
  grpc::ByteBuffer shared = bytes;  // the reader wants it mutable; this copies no bytes
  grpc::ProtoBufferReader reader(&shared);
  if (!reader.status().ok()) return Malformed("gRPC cannot read it");
  {
    CodedInputStream input(&reader);
    input.PushLimit(static_cast<int>(bytes.Length()));
    google::protobuf::io::StringOutputStream sink(&envelope_bytes);
    CodedOutputStream envelope(&sink);
    while (uint32_t tag = input.ReadTag()) {
      if (tag == kPayloadTag ? !ReadPayload(input, checksums, parts) : !CopyField(tag, input, envelope)) {
        return Malformed("it ends within a field");
      }
    }
    if (!input.ConsumedEntireMessage()) return Malformed("it ends within a field");
  }
  if (!parts.envelope.ParseFromString(envelope_bytes)) return Malformed("its fields cannot be parsed");
  return parts;
}

// What a tensor of a reply holds.
enum class Holds { kFloats, kInts, kVectors };  // the last of any type that vectors come in

// The tensors that a reply has, in the order of their payloads.
struct ReplyTensor {
  std::string field;
  const v1::TensorSpec& spec;
  Holds holds = Holds::kFloats;

  Shape shape() const { return Shape(spec.shape().begin(), spec.shape().end()); }
};

std::vector<ReplyTensor> TensorsOf(const v1::AttendResponse& envelope) {
  std::vector<ReplyTensor> tensors;
  if (envelope.has_output()) tensors.push_back({"output", envelope.output()});
  if (envelope.has_weights()) tensors.push_back({"weights", envelope.weights()});
  if (envelope.has_weights_keys()) tensors.push_back({"weights_keys", envelope.weights_keys(), Holds::kInts});
  if (envelope.has_received_mass()) tensors.push_back({"received_mass", envelope.received_mass()});
  for (int i = 0; i < envelope.outputs_size(); ++i) {
    const v1::OutputTensor& output = envelope.outputs(i);
    const std::string field = absl::StrCat("outputs[", i, "].");
    tensors.push_back({field + "values", output.values(), Holds::kVectors});
    if (output.has_indices()) tensors.push_back({field + "indices", output.indices(), Holds::kInts});
    if (output.has_scale()) tensors.push_back({field + "scale", output.scale()});
  }
  return tensors;
}

bool IsFloat(v1::DType dtype) {
  return dtype == v1::DTYPE_F32 || dtype == v1::DTYPE_F16 || dtype == v1::DTYPE_BF16;
}

bool IsPacked(v1::DType dtype) { return dtype == v1::DTYPE_I8 || dtype == v1::DTYPE_BITS; }

absl::Status CheckDType(const ReplyTensor& tensor) {
  const v1::DType dtype = tensor.spec.dtype();
  const bool fits = tensor.holds == Holds::kInts
                        ? dtype == v1::DTYPE_I32
                        : IsFloat(dtype) || (tensor.holds == Holds::kVectors && IsPacked(dtype));
  if (fits) return absl::OkStatus();
  return Malformed(
      absl::StrCat(tensor.field, " has dtype ", v1::DType_Name(dtype), ", wanted ",
                   tensor.holds == Holds::kInts ? "DTYPE_I32" : "DTYPE_F32, DTYPE_BF16 or DTYPE_F16",
                   tensor.holds == Holds::kVectors ? ", DTYPE_I8 or DTYPE_BITS" : ""));
}

// Checks one payload against the description of the tensor it belongs to.
absl::Status CheckPayload(const ReplyTensor& tensor, int64_t payload_bytes) {
  if (absl::Status status = CheckDType(tensor); !status.ok()) return status;
  const Shape shape = tensor.shape();
  const std::optional<int64_t> num_elements = NumElements(shape);
  const bool bits = tensor.spec.dtype() == v1::DTYPE_BITS;
  const int64_t element_bytes = bits ? 1 : *ElementBytes(tensor.spec.dtype());
  const int64_t elements_per_byte = bits ? 8 : 1;
  if (num_elements && payload_bytes % element_bytes == 0 && *num_elements % elements_per_byte == 0 &&
      payload_bytes / element_bytes == *num_elements / elements_per_byte &&
      (!bits || (!shape.empty() && shape.back() % 8 == 0))) {
    return absl::OkStatus();
  }
  return Malformed(absl::StrCat(tensor.field, " ", ToString(shape), " came with ", payload_bytes, " bytes"));
}

// That scales, ids and lengths are as many as the values that they belong to.
absl::Status CheckOutput(const std::string& field, const v1::OutputTensor& output) {
  const v1::TensorSpec& values = output.values();
  const int64_t rows = values.shape_size() == 0 ? -1 : values.shape(0);
  const auto is_list = [&](const v1::TensorSpec& spec) {
    return spec.shape_size() == 1 && spec.shape(0) == rows;
  };
  if (rows < 0) return Malformed(absl::StrCat(field, " has values without a shape"));
  if (output.has_indices() && !is_list(output.indices())) {
    return Malformed(absl::StrCat(field, " has not one index for each of ", rows, " values"));
  }
  const bool wants_scale = values.dtype() == v1::DTYPE_I8;
  if (wants_scale != output.has_scale() ||
      (wants_scale &&
       !(is_list(output.scale()) && output.scale().dtype() == v1::DTYPE_F32 && values.shape_size() == 2))) {
    return Malformed(absl::StrCat(field, " has not one scale for each of ", rows, " rows of I8"));
  }
  int64_t sum = 0;
  for (const int64_t len : output.lens()) {
    if (len < 0 || __builtin_add_overflow(sum, len, &sum))
      return Malformed(field + " has lens that are none");
  }
  if (output.lens_size() > 0 && sum != rows) {
    return Malformed(absl::StrCat(field, " has lens of ", sum, " rows, wanted ", rows));
  }
  return absl::OkStatus();
}

absl::Status CheckPayloads(const ReplyParts& parts) {
  if (!parts.envelope.has_output() && parts.envelope.outputs_size() == 0)
    return Malformed("it has no output");
  const std::vector<ReplyTensor> tensors = TensorsOf(parts.envelope);
  if (parts.payload_bytes.size() != tensors.size()) {
    return Malformed(
        absl::StrCat("it has ", parts.payload_bytes.size(), " payloads, wanted ", tensors.size()));
  }
  for (size_t i = 0; i < tensors.size(); ++i) {
    const absl::Status status = CheckPayload(tensors[i], parts.payload_bytes[i]);
    if (!status.ok()) return status;
  }
  for (int i = 0; i < parts.envelope.outputs_size(); ++i) {
    const absl::Status status = CheckOutput(absl::StrCat("outputs[", i, "]"), parts.envelope.outputs(i));
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

// What the server told of its payloads, which is one checksum for each or nothing; compared with what came,
// where that is known.
absl::StatusOr<std::vector<PayloadChecksum>> CheckedChecksums(const ReplyParts& parts) {
  const auto& told = parts.envelope.payload_crc32c();
  std::vector<PayloadChecksum> checksums;
  if (told.empty()) return checksums;
  std::vector<ReplyTensor> tensors = TensorsOf(parts.envelope);
  if (static_cast<size_t>(told.size()) != tensors.size()) {
    return Malformed(absl::StrCat("it has ", told.size(), " checksums, wanted ", tensors.size()));
  }
  for (size_t i = 0; i < tensors.size(); ++i) {
    const uint32_t wanted = told[static_cast<int>(i)];
    if (!parts.payload_crc32c.empty() && parts.payload_crc32c[i] != wanted) {
      return absl::DataLossError(absl::StrCat("the server's reply was damaged on its way: ", tensors[i].field,
                                              " has CRC-32C ",
                                              absl::Hex(parts.payload_crc32c[i], absl::kZeroPad8),
                                              ", wanted ", absl::Hex(wanted, absl::kZeroPad8)));
    }
    checksums.push_back({.field = std::move(tensors[i].field), .crc32c = wanted});
  }
  return checksums;
}

// The tensor that `bytes` are; they fit by now.
Tensor MakeTensor(const v1::TensorSpec& spec, std::vector<float> bytes) {
  Tensor tensor{.shape = Shape(spec.shape().begin(), spec.shape().end()), .values = std::move(bytes)};
  if (spec.dtype() == v1::DTYPE_F32) return tensor;
  const std::vector<float> halves = std::exchange(tensor.values, {});
  tensor.values.resize(static_cast<size_t>(*NumElements(tensor.shape)));
  const char* from = static_cast<const char*>(static_cast<const void*>(halves.data()));
  for (float& value : tensor.values) {
    uint16_t half = 0;
    std::memcpy(&half, from, sizeof(half));
    from += sizeof(half);
    value = spec.dtype() == v1::DTYPE_F16 ? HalfToFloat(half) : Bf16ToFloat(half);
  }
  return tensor;
}

std::vector<int32_t> MakeInts(const std::vector<float>& bytes) {
  std::vector<int32_t> values(bytes.size());
  if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size() * sizeof(int32_t));
  return values;
}

IntTensor MakeIntTensor(const v1::TensorSpec& spec, const std::vector<float>& bytes) {
  return {.shape = Shape(spec.shape().begin(), spec.shape().end()), .values = MakeInts(bytes)};
}

// What I8 and BITS stand for.
void Unpack(OutputReply& output) {
  Tensor& values = output.values;
  values.values.resize(static_cast<size_t>(*NumElements(values.shape)));
  const auto cols = static_cast<size_t>(values.shape.back());
  for (size_t i = 0; i < values.values.size(); ++i) {
    if (output.dtype == v1::DTYPE_BITS) {
      values.values[i] = (output.packed[i / 8] >> (7 - i % 8) & 1) != 0 ? 1.0f : 0.0f;
    } else {
      values.values[i] = output.scale[i / cols] * static_cast<float>(static_cast<int8_t>(output.packed[i]));
    }
  }
}

// The output whose payloads begin with number `next`, which moves behind them.
OutputReply MakeOutput(const v1::OutputTensor& from, ReplyParts& parts, size_t& next) {
  OutputReply output{
      .kind = from.kind(), .dtype = from.values().dtype(), .lens = {from.lens().begin(), from.lens().end()}};
  const auto num_bytes = static_cast<size_t>(parts.payload_bytes[next]);
  std::vector<float> values = std::move(parts.payloads[next++]);
  if (from.has_indices()) output.indices = MakeInts(parts.payloads[next++]);
  if (from.has_scale()) output.scale = std::move(parts.payloads[next++]);
  if (!IsPacked(output.dtype)) {
    output.values = MakeTensor(from.values(), std::move(values));
    return output;
  }
  output.packed.resize(num_bytes);
  if (num_bytes > 0) std::memcpy(output.packed.data(), values.data(), num_bytes);
  output.values.shape = Shape(from.values().shape().begin(), from.values().shape().end());
  Unpack(output);
  return output;
}

// What is asked of the weights; nothing if they are not asked for.
void DescribeWeights(const AttendCall& call, v1::AttendRequest& envelope) {
  const bool asked = call.weights != v1::WEIGHTS_MODE_NONE || call.top_k != 0 || !call.heads.empty() ||
                     call.query_begin != 0 || call.query_end != 0 || call.layer || !call.layers.empty() ||
                     call.grid_rows != 0 || call.grid_cols != 0;
  if (!asked) return;
  v1::WeightsOptions& options = *envelope.mutable_weights();
  options.set_mode(call.weights);
  options.set_top_k(call.top_k);
  options.mutable_heads()->Assign(call.heads.begin(), call.heads.end());
  options.set_query_begin(call.query_begin);
  options.set_query_end(call.query_end);
  if (call.layer) options.set_layer(*call.layer);
  options.mutable_layers()->Assign(call.layers.begin(), call.layers.end());
  options.set_grid_rows(call.grid_rows);
  options.set_grid_cols(call.grid_cols);
}

// Adds token ids or types, if there are any, in the width they have.
absl::Status AddIds(const char* field, const std::optional<IdsView>& ids,
                    v1::TensorSpec* (v1::AttendRequest::*spec)(), RequestWriter& writer,
                    v1::AttendRequest& envelope) {
  if (!ids) return absl::OkStatus();
  if (const auto* narrow = std::get_if<std::span<const int32_t>>(&ids->values)) {
    return writer.Add(field, v1::DTYPE_I32, ids->shape, *narrow, (envelope.*spec)());
  }
  return writer.Add(field, v1::DTYPE_I64, ids->shape, std::get<std::span<const int64_t>>(ids->values),
                    (envelope.*spec)());
}

absl::StatusOr<AttendReply> MakeReply(ReplyParts parts) {
  if (absl::Status status = CheckPayloads(parts); !status.ok()) return status;
  absl::StatusOr<std::vector<PayloadChecksum>> checksums = CheckedChecksums(parts);
  if (!checksums.ok()) return checksums.status();
  v1::AttendResponse& envelope = parts.envelope;
  AttendReply reply{
      .model = std::move(*envelope.mutable_model()),
      .model_version = std::move(*envelope.mutable_model_version()),
      .request_id = std::move(*envelope.mutable_request_id()),
      .output_dtype = envelope.has_output()    ? envelope.output().dtype()
                      : envelope.has_weights() ? envelope.weights().dtype()
                                               : v1::DTYPE_F32,
      .time_budget = envelope.time_budget(),
      .checksums = *std::move(checksums),
  };
  size_t next = 0;
  if (envelope.has_output()) {
    reply.output = MakeTensor(envelope.output(), std::move(parts.payloads[next++]));
  }
  if (envelope.has_weights()) {
    reply.weights = MakeTensor(envelope.weights(), std::move(parts.payloads[next++]));
  }
  if (envelope.has_weights_keys()) {
    reply.weights_keys = MakeIntTensor(envelope.weights_keys(), parts.payloads[next++]);
  }
  if (envelope.has_received_mass()) {
    reply.received_mass = MakeTensor(envelope.received_mass(), std::move(parts.payloads[next++]));
  }
  for (const v1::OutputTensor& output : envelope.outputs()) {
    reply.outputs.push_back(MakeOutput(output, parts, next));
  }
  return reply;
}

// What the server says went wrong with one request of a stream.
absl::Status ErrorOf(const v1::AttendError& error) {
  const absl::Status status(static_cast<absl::StatusCode>(error.code()), error.message());
  if (status.ok()) return Malformed("its error has code 0");
  return WithRefusal(
      status, {.retry_delay = std::chrono::milliseconds(error.retry_delay_ms()), .reason = error.reason()});
}

// The small fields of the request; its tensors go to `writer`.
absl::StatusOr<v1::AttendRequest> MakeEnvelope(const AttendCall& call, RequestWriter& writer) {
  v1::AttendRequest envelope;
  envelope.set_model(call.model);
  envelope.set_model_version(call.model_version);
  envelope.set_request_id(call.request_id);
  envelope.mutable_seq_lens()->Assign(call.seq_lens.begin(), call.seq_lens.end());
  envelope.mutable_kv_seq_lens()->Assign(call.kv_seq_lens.begin(), call.kv_seq_lens.end());
  envelope.set_causal(call.causal);
  if (call.window_left) envelope.set_window_left(*call.window_left);
  if (call.window_right) envelope.set_window_right(*call.window_right);
  DescribeWeights(call, envelope);
  envelope.set_pooling(call.pooling);
  envelope.set_dimensions(call.dimensions);
  for (const v1::OutputSpec& output : call.outputs) *envelope.add_outputs() = output;
  envelope.set_timeout_us(call.timeout.count());
  envelope.set_priority(call.priority);
  if (call.output_dtype != v1::DTYPE_F32) envelope.set_output_dtype(call.output_dtype);
  if (!IsFloat(call.dtype)) {
    return absl::InvalidArgumentError(absl::StrCat("dtype: got ", static_cast<int>(call.dtype),
                                                   ", wanted DTYPE_F32, DTYPE_BF16 or DTYPE_F16"));
  }

  // Payloads go in the order of the fields' numbers.
  absl::Status status;
  const auto add_floats = [&](const char* field, const std::optional<TensorView>& tensor,
                              v1::TensorSpec* (v1::AttendRequest::*spec)()) {
    if (!status.ok() || !tensor) return;
    status = writer.Add(field, call.dtype, tensor->shape, tensor->values, (envelope.*spec)());
  };
  add_floats("query", call.query, &v1::AttendRequest::mutable_query);
  add_floats("key", call.key, &v1::AttendRequest::mutable_key);
  add_floats("value", call.value, &v1::AttendRequest::mutable_value);
  if (status.ok() && call.mask) {
    const Shape& shape = call.mask->shape;
    if (const auto* allowed = std::get_if<std::span<const uint8_t>>(&call.mask->values)) {
      status = writer.Add("mask", v1::DTYPE_BOOL, shape, *allowed, envelope.mutable_mask());
    } else {
      status = writer.Add("mask", call.dtype, shape, std::get<std::span<const float>>(call.mask->values),
                          envelope.mutable_mask());
    }
  }
  if (status.ok())
    status = AddIds("token_ids", call.token_ids, &v1::AttendRequest::mutable_token_ids, writer, envelope);
  if (status.ok())
    status =
        AddIds("token_types", call.token_types, &v1::AttendRequest::mutable_token_types, writer, envelope);
  if (!status.ok()) return status;
  return envelope;
}

}  // namespace

absl::StatusOr<grpc::ByteBuffer> EncodeRequest(const AttendCall& call) {
  RequestWriter writer(/*with_payloads=*/true);
  const absl::StatusOr<v1::AttendRequest> envelope = MakeEnvelope(call, writer);
  if (!envelope.ok()) return envelope.status();
  return writer.Finish(*envelope);
}

absl::StatusOr<v1::AttendRequest> DescribeRequest(const AttendCall& call) {
  RequestWriter writer(/*with_payloads=*/false);
  return MakeEnvelope(call, writer);
}

absl::StatusOr<AttendReply> DecodeReply(const grpc::ByteBuffer& bytes, Checksums checksums) {
  absl::StatusOr<ReplyParts> parts = TakeApart(bytes, checksums);
  if (!parts.ok()) return parts.status();
  return MakeReply(*std::move(parts));
}

absl::StatusOr<StreamReply> DecodeStreamReply(const grpc::ByteBuffer& bytes, Checksums checksums) {
  absl::StatusOr<ReplyParts> parts = TakeApart(bytes, checksums);
  if (!parts.ok()) return parts.status();
  StreamReply reply;
  reply.request_id = parts->envelope.request_id();
  if (parts->envelope.has_error()) {
    reply.reply = ErrorOf(parts->envelope.error());
  } else {
    reply.reply = MakeReply(*std::move(parts));
  }
  return reply;
}

}  // namespace headlight::client
