// SPDX-License-Identifier: Apache-2.0
#include "client/wire.h"

#include <google/protobuf/io/coded_stream.h>
#include <grpcpp/support/proto_buffer_reader.h>

#include <bit>
#include <limits>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace headlight::client {
namespace {

using google::protobuf::io::CodedInputStream;
using google::protobuf::io::CodedOutputStream;

static_assert(std::endian::native == std::endian::little,
              "payloads are little-endian and copied as they are");

// The low three bits of a protobuf tag say how its value is written; the rest is the field number.
enum WireType : uint32_t { kVarint = 0, kFixed64 = 1, kLengthDelimited = 2, kFixed32 = 5 };
constexpr uint32_t kWireTypeBits = 3;
constexpr uint32_t kPayloadTag = v1::AttendRequest::kPayloadsFieldNumber << kWireTypeBits | kLengthDelimited;
static_assert(int{v1::AttendRequest::kPayloadsFieldNumber} == int{v1::AttendResponse::kPayloadsFieldNumber});

// Collects a request's slices: small fields first, then each payload behind its own header.
class RequestWriter {
 public:
  // Describes a tensor in `spec` and queues its values. INVALID_ARGUMENT if the two disagree.
  template <typename T>
  absl::Status Add(const char* field, v1::DType dtype, const Shape& shape, std::span<const T> values,
                   v1::TensorSpec* spec) {
    const std::optional<int64_t> wanted = NumElements(shape);
    if (!wanted.has_value() || static_cast<uint64_t>(*wanted) != values.size()) {
      return absl::InvalidArgumentError(absl::StrCat(
          field, ": shape ", ToString(shape), " wants ",
          wanted ? absl::StrCat(*wanted, " values") : "no negative dimension and at most 2^63 values",
          ", got ", values.size()));
    }
    spec->set_dtype(dtype);
    spec->mutable_shape()->Assign(shape.begin(), shape.end());
    AddPayload(values.data(), values.size_bytes());
    return absl::OkStatus();
  }

  grpc::ByteBuffer Finish(const v1::AttendRequest& envelope) {
    slices_.front() = grpc::Slice(envelope.SerializeAsString());
    return grpc::ByteBuffer(slices_.data(), slices_.size());
  }

 private:
  void AddPayload(const void* data, size_t size_bytes) {
    uint8_t header[16];
    uint8_t* end = CodedOutputStream::WriteVarint32ToArray(kPayloadTag, header);
    end = CodedOutputStream::WriteVarint64ToArray(size_bytes, end);
    slices_.emplace_back(header, static_cast<size_t>(end - header));
    slices_.emplace_back(data, size_bytes);
  }

  std::vector<grpc::Slice> slices_ = std::vector<grpc::Slice>(1);  // [0] is the envelope's place
};

enum class Payloads { kKeep, kSkip };

// A reply taken apart: its small fields, and its payloads as they came.
struct ReplyParts {
  v1::AttendResponse envelope;
  std::vector<int64_t> payload_bytes;
  std::vector<std::vector<float>> payloads;  // empty with Payloads::kSkip
};

absl::Status Malformed(const std::string& what) {
  return absl::InternalError(absl::StrCat("the server's reply is malformed: ", what));
}

// Appends the field that `tag` begins, tag included, to `envelope`. False if the input ends in it.
bool CopyField(uint32_t tag, CodedInputStream& input, CodedOutputStream& envelope) {
  envelope.WriteVarint32(tag);
  uint64_t number = 0;
  uint32_t number32 = 0;
  std::string bytes;
  switch (tag & ((1u << kWireTypeBits) - 1)) {
    case kVarint:
      if (!input.ReadVarint64(&number)) return false;
      envelope.WriteVarint64(number);
      return true;
    case kFixed64:
      if (!input.ReadLittleEndian64(&number)) return false;
      envelope.WriteLittleEndian64(number);
      return true;
    case kFixed32:
      if (!input.ReadLittleEndian32(&number32)) return false;
      envelope.WriteLittleEndian32(number32);
      return true;
    case kLengthDelimited:
      if (!input.ReadVarint32(&number32) || number32 > static_cast<uint32_t>(input.BytesUntilLimit()) ||
          !input.ReadString(&bytes, static_cast<int>(number32))) {
        return false;
      }
      envelope.WriteVarint32(number32);
      envelope.WriteString(bytes);
      return true;
    default:  // the group types, which proto3 does not have
      return false;
  }
}

bool ReadPayload(CodedInputStream& input, Payloads payloads, ReplyParts& parts) {
  uint32_t size_bytes = 0;
  if (!input.ReadVarint32(&size_bytes) || size_bytes > static_cast<uint32_t>(input.BytesUntilLimit()))
    return false;
  parts.payload_bytes.push_back(size_bytes);
  // Every payload of a reply is F32. One of another size is skipped here and refused when it meets its
  // description.
  if (payloads == Payloads::kSkip || size_bytes % sizeof(float) != 0) {
    parts.payloads.emplace_back();
    return input.Skip(static_cast<int>(size_bytes));
  }
  std::vector<float>& values = parts.payloads.emplace_back(size_bytes / sizeof(float));
  return input.ReadRaw(values.data(), static_cast<int>(size_bytes));
}

absl::StatusOr<ReplyParts> TakeApart(const grpc::ByteBuffer& bytes, Payloads payloads) {
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
      if (tag == kPayloadTag ? !ReadPayload(input, payloads, parts) : !CopyField(tag, input, envelope)) {
        return Malformed("it ends within a field");
      }
    }
    if (!input.ConsumedEntireMessage()) return Malformed("it ends within a field");
  }
  if (!parts.envelope.ParseFromString(envelope_bytes)) return Malformed("its fields cannot be parsed");
  return parts;
}

// Checks one payload against the description of the tensor it belongs to.
absl::Status CheckPayload(const char* field, const v1::TensorSpec& spec, int64_t payload_bytes) {
  if (spec.dtype() != v1::DTYPE_F32) {
    return Malformed(absl::StrCat(field, " has dtype ", v1::DType_Name(spec.dtype()), ", wanted DTYPE_F32"));
  }
  const std::optional<int64_t> num_elements = NumElements({spec.shape().data(), size_t(spec.shape_size())});
  if (!num_elements || payload_bytes % sizeof(float) != 0 ||
      payload_bytes / int64_t{sizeof(float)} != *num_elements) {
    return Malformed(absl::StrCat(field, " ", ToString({spec.shape().data(), size_t(spec.shape_size())}),
                                  " came with ", payload_bytes, " bytes"));
  }
  return absl::OkStatus();
}

absl::Status CheckPayloads(const ReplyParts& parts) {
  const v1::AttendResponse& envelope = parts.envelope;
  if (!envelope.has_output()) return Malformed("it has no output");
  const size_t wanted = envelope.has_weights() ? 2 : 1;
  if (parts.payload_bytes.size() != wanted) {
    return Malformed(absl::StrCat("it has ", parts.payload_bytes.size(), " payloads, wanted ", wanted));
  }
  absl::Status status = CheckPayload("output", envelope.output(), parts.payload_bytes[0]);
  if (status.ok() && envelope.has_weights()) {
    status = CheckPayload("weights", envelope.weights(), parts.payload_bytes[1]);
  }
  return status;
}

Tensor MakeTensor(const v1::TensorSpec& spec, std::vector<float> values) {
  return {.shape = Shape(spec.shape().begin(), spec.shape().end()), .values = std::move(values)};
}

}  // namespace

absl::StatusOr<grpc::ByteBuffer> EncodeRequest(const AttendCall& call) {
  v1::AttendRequest envelope;
  envelope.set_model(call.model);
  envelope.set_model_version(call.model_version);
  envelope.set_request_id(call.request_id);
  envelope.mutable_seq_lens()->Assign(call.seq_lens.begin(), call.seq_lens.end());
  envelope.mutable_kv_seq_lens()->Assign(call.kv_seq_lens.begin(), call.kv_seq_lens.end());
  envelope.set_causal(call.causal);
  if (call.weights != v1::WEIGHTS_MODE_NONE) envelope.mutable_weights()->set_mode(call.weights);

  RequestWriter writer;
  absl::Status status =
      writer.Add("query", v1::DTYPE_F32, call.query.shape, call.query.values, envelope.mutable_query());
  if (status.ok() && call.key) {
    status = writer.Add("key", v1::DTYPE_F32, call.key->shape, call.key->values, envelope.mutable_key());
  }
  if (status.ok() && call.value) {
    status =
        writer.Add("value", v1::DTYPE_F32, call.value->shape, call.value->values, envelope.mutable_value());
  }
  if (status.ok() && call.mask) {
    const Shape& shape = call.mask->shape;
    if (const auto* allowed = std::get_if<std::span<const uint8_t>>(&call.mask->values)) {
      status = writer.Add("mask", v1::DTYPE_BOOL, shape, *allowed, envelope.mutable_mask());
    } else {
      status = writer.Add("mask", v1::DTYPE_F32, shape, std::get<std::span<const float>>(call.mask->values),
                          envelope.mutable_mask());
    }
  }
  if (!status.ok()) return status;
  return writer.Finish(envelope);
}

absl::StatusOr<AttendReply> DecodeReply(const grpc::ByteBuffer& bytes) {
  absl::StatusOr<ReplyParts> parts = TakeApart(bytes, Payloads::kKeep);
  if (!parts.ok()) return parts.status();
  if (absl::Status status = CheckPayloads(*parts); !status.ok()) return status;
  v1::AttendResponse& envelope = parts->envelope;
  AttendReply reply{
      .model = std::move(*envelope.mutable_model()),
      .model_version = std::move(*envelope.mutable_model_version()),
      .request_id = std::move(*envelope.mutable_request_id()),
      .output = MakeTensor(envelope.output(), std::move(parts->payloads[0])),
      .time_budget = envelope.time_budget(),
  };
  if (envelope.has_weights()) reply.weights = MakeTensor(envelope.weights(), std::move(parts->payloads[1]));
  return reply;
}

absl::StatusOr<v1::AttendResponse> DecodeReplyEnvelope(const grpc::ByteBuffer& bytes) {
  absl::StatusOr<ReplyParts> parts = TakeApart(bytes, Payloads::kSkip);
  if (!parts.ok()) return parts.status();
  if (absl::Status status = CheckPayloads(*parts); !status.ok()) return status;
  return std::move(parts->envelope);
}

}  // namespace headlight::client
