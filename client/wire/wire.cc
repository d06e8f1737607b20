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

bool ReadPayload(CodedInputStream& input, ReplyParts& parts) {
  const std::optional<int> size_bytes = ReadSize(input);
  if (!size_bytes) return false;
  parts.payload_bytes.push_back(*size_bytes);
  std::vector<float>& values = parts.payloads.emplace_back();
  values.resize((static_cast<size_t>(*size_bytes) + sizeof(float) - 1) / sizeof(float));
  return input.ReadRaw(values.data(), *size_bytes);
}

absl::StatusOr<ReplyParts> TakeApart(const grpc::ByteBuffer& bytes) {
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
      if (tag == kPayloadTag ? !ReadPayload(input, parts) : !CopyField(tag, input, envelope)) {
        return Malformed("it ends within a field");
      }
    }
    if (!input.ConsumedEntireMessage()) return Malformed("it ends within a field");
  }
  if (!parts.envelope.ParseFromString(envelope_bytes)) return Malformed("its fields cannot be parsed");
  return parts;
}

// The tensors that a reply has, in the order of their payloads.
struct ReplyTensor {
  const char* field;
  const v1::TensorSpec& spec;

  Shape shape() const { return Shape(spec.shape().begin(), spec.shape().end()); }
};

std::vector<ReplyTensor> TensorsOf(const v1::AttendResponse& envelope) {
  std::vector<ReplyTensor> tensors = {{"output", envelope.output()}};
  if (envelope.has_weights()) tensors.push_back({"weights", envelope.weights()});
  if (envelope.has_weights_keys()) tensors.push_back({"weights_keys", envelope.weights_keys()});
  if (envelope.has_received_mass()) tensors.push_back({"received_mass", envelope.received_mass()});
  return tensors;
}

bool IsFloat(v1::DType dtype) {
  return dtype == v1::DTYPE_F32 || dtype == v1::DTYPE_F16 || dtype == v1::DTYPE_BF16;
}

// Checks one payload against the description of the tensor it belongs to.
absl::Status CheckPayload(const ReplyTensor& tensor, int64_t payload_bytes) {
  const v1::DType dtype = tensor.spec.dtype();
  const bool wants_keys = tensor.field == std::string("weights_keys");
  if (wants_keys ? dtype != v1::DTYPE_I32 : !IsFloat(dtype)) {
    return Malformed(absl::StrCat(tensor.field, " has dtype ", v1::DType_Name(dtype), ", wanted ",
                                  wants_keys ? "DTYPE_I32" : "DTYPE_F32, DTYPE_BF16 or DTYPE_F16"));
  }
  const int64_t element_bytes = *ElementBytes(dtype);
  const Shape shape = tensor.shape();
  const std::optional<int64_t> num_elements = NumElements(shape);
  if (!num_elements || payload_bytes % element_bytes != 0 || payload_bytes / element_bytes != *num_elements) {
    return Malformed(
        absl::StrCat(tensor.field, " ", ToString(shape), " came with ", payload_bytes, " bytes"));
  }
  return absl::OkStatus();
}

absl::Status CheckPayloads(const ReplyParts& parts) {
  if (!parts.envelope.has_output()) return Malformed("it has no output");
  const std::vector<ReplyTensor> tensors = TensorsOf(parts.envelope);
  if (parts.payload_bytes.size() != tensors.size()) {
    return Malformed(
        absl::StrCat("it has ", parts.payload_bytes.size(), " payloads, wanted ", tensors.size()));
  }
  for (size_t i = 0; i < tensors.size(); ++i) {
    const absl::Status status = CheckPayload(tensors[i], parts.payload_bytes[i]);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
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

IntTensor MakeIntTensor(const v1::TensorSpec& spec, const std::vector<float>& bytes) {
  IntTensor tensor{.shape = Shape(spec.shape().begin(), spec.shape().end()),
                   .values = std::vector<int32_t>(bytes.size())};
  if (!bytes.empty()) std::memcpy(tensor.values.data(), bytes.data(), bytes.size() * sizeof(int32_t));
  return tensor;
}

// What is asked of the weights; nothing if they are not asked for.
void DescribeWeights(const AttendCall& call, v1::AttendRequest& envelope) {
  const bool asked = call.weights != v1::WEIGHTS_MODE_NONE || call.top_k != 0 || !call.heads.empty() ||
                     call.query_begin != 0 || call.query_end != 0 || call.layer;
  if (!asked) return;
  v1::WeightsOptions& options = *envelope.mutable_weights();
  options.set_mode(call.weights);
  options.set_top_k(call.top_k);
  options.mutable_heads()->Assign(call.heads.begin(), call.heads.end());
  options.set_query_begin(call.query_begin);
  options.set_query_end(call.query_end);
  if (call.layer) options.set_layer(*call.layer);
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
  v1::AttendResponse& envelope = parts.envelope;
  AttendReply reply{
      .model = std::move(*envelope.mutable_model()),
      .model_version = std::move(*envelope.mutable_model_version()),
      .request_id = std::move(*envelope.mutable_request_id()),
      .output_dtype = envelope.output().dtype(),
      .output = MakeTensor(envelope.output(), std::move(parts.payloads[0])),
      .time_budget = envelope.time_budget(),
  };
  size_t next = 1;
  if (envelope.has_weights()) {
    reply.weights = MakeTensor(envelope.weights(), std::move(parts.payloads[next++]));
  }
  if (envelope.has_weights_keys()) {
    reply.weights_keys = MakeIntTensor(envelope.weights_keys(), parts.payloads[next++]);
  }
  if (envelope.has_received_mass()) {
    reply.received_mass = MakeTensor(envelope.received_mass(), std::move(parts.payloads[next++]));
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

absl::StatusOr<AttendReply> DecodeReply(const grpc::ByteBuffer& bytes) {
  absl::StatusOr<ReplyParts> parts = TakeApart(bytes);
  if (!parts.ok()) return parts.status();
  return MakeReply(*std::move(parts));
}

absl::StatusOr<StreamReply> DecodeStreamReply(const grpc::ByteBuffer& bytes) {
  absl::StatusOr<ReplyParts> parts = TakeApart(bytes);
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
