// SPDX-License-Identifier: Apache-2.0
#include "client/wire/reply_scan.h"

#include <google/protobuf/io/coded_stream.h>
#include <grpcpp/support/proto_buffer_reader.h>

#include <iterator>
#include <limits>

#include "client/wire/wire_format.h"
#include "headlight/v1/attention.pb.h"

namespace headlight::client {
namespace {

using google::protobuf::io::CodedInputStream;

bool SkipValue(uint32_t tag, CodedInputStream& input) {
  uint64_t number = 0;
  std::optional<int> size_bytes;
  switch (WireTypeOf(tag)) {
    case WireType::kVarint:
      return input.ReadVarint64(&number);
    case WireType::kFixed64:
      return input.Skip(8);
    case WireType::kFixed32:
      return input.Skip(4);
    case WireType::kLengthDelimited:
      size_bytes = ReadSize(input);
      return size_bytes && input.Skip(*size_bytes);
    default:  // a group
      return false;
  }
}

// Reads the message that comes next. `read_field` gets each tag, reads what it begins, and says whether that
// could be read.
template <typename ReadField>
bool ReadMessage(CodedInputStream& input, const ReadField& read_field) {
  const std::optional<int> size_bytes = ReadSize(input);
  if (!size_bytes) return false;
  const CodedInputStream::Limit limit = input.PushLimit(*size_bytes);
  bool ok = true;
  while (uint32_t tag = ok ? input.ReadTag() : 0) ok = read_field(tag);
  ok = ok && input.ConsumedEntireMessage();
  input.PopLimit(limit);
  return ok;
}

bool ReadNumber(CodedInputStream& input, int64_t& value) {
  uint64_t number = 0;
  if (!input.ReadVarint64(&number)) return false;
  value = static_cast<int64_t>(number);
  return true;
}

bool ReadBudget(CodedInputStream& input, ReplyFacts& facts) {
  using v1::TimeBudget;
  return ReadMessage(input, [&](uint32_t tag) {
    switch (tag) {
      case TagOf(TimeBudget::kQueueUsFieldNumber, WireType::kVarint):
        return ReadNumber(input, facts.queue_us);
      case TagOf(TimeBudget::kComputeUsFieldNumber, WireType::kVarint):
        return ReadNumber(input, facts.compute_us);
      case TagOf(TimeBudget::kTotalUsFieldNumber, WireType::kVarint):
        return ReadNumber(input, facts.total_us);
      case TagOf(TimeBudget::kBatchRequestsFieldNumber, WireType::kVarint):
        return ReadNumber(input, facts.batch_requests);
      case TagOf(TimeBudget::kBatchTokensFieldNumber, WireType::kVarint):
        return ReadNumber(input, facts.batch_tokens);
      case TagOf(TimeBudget::kPackUsFieldNumber, WireType::kVarint):
        return ReadNumber(input, facts.pack_us);
      case TagOf(TimeBudget::kUnpackUsFieldNumber, WireType::kVarint):
        return ReadNumber(input, facts.unpack_us);
      default:
        return SkipValue(tag, input);
    }
  });
}

// A TensorSpec as far as its bytes go. Dimensions are multiplied as they come, for a list would be memory.
struct Extent {
  int64_t dtype = 0;
  int64_t num_elements = 1;  // of the dimensions that are not 0
  bool has_zero = false;
  bool overflows = false;  // or a dimension is negative

  void Multiply(int64_t dim) {
    if (dim == 0) has_zero = true;
    if (dim > 0) overflows |= __builtin_mul_overflow(num_elements, dim, &num_elements);
    if (dim < 0) overflows = true;
  }

  bool Fits(int64_t payload_bytes) const {
    if (dtype < v1::DType_MIN || dtype > v1::DType_MAX) return false;
    const bool bits = dtype == v1::DTYPE_BITS;
    const std::optional<int64_t> element_bytes = bits ? 1 : ElementBytes(static_cast<v1::DType>(dtype));
    if (!element_bytes || overflows) return false;
    const int64_t elements = has_zero ? 0 : num_elements;
    if (bits && elements % 8 != 0) return false;
    const int64_t wanted = bits ? elements / 8 : elements;
    return payload_bytes % *element_bytes == 0 && payload_bytes / *element_bytes == wanted;
  }
};

bool ReadDim(CodedInputStream& input, Extent& extent) {
  int64_t dim = 0;
  if (!ReadNumber(input, dim)) return false;
  extent.Multiply(dim);
  return true;
}

bool ReadSpec(CodedInputStream& input, Extent& extent) {
  using v1::TensorSpec;
  return ReadMessage(input, [&](uint32_t tag) {
    switch (tag) {
      case TagOf(TensorSpec::kDtypeFieldNumber, WireType::kVarint):
        return ReadNumber(input, extent.dtype);
      case TagOf(TensorSpec::kShapeFieldNumber, WireType::kVarint):  // a writer may do it one by one
        return ReadDim(input, extent);
      case TagOf(TensorSpec::kShapeFieldNumber, WireType::kLengthDelimited): {
        const std::optional<int> size_bytes = ReadSize(input);
        if (!size_bytes) return false;
        const CodedInputStream::Limit limit = input.PushLimit(*size_bytes);
        bool ok = true;
        while (ok && input.BytesUntilLimit() > 0) ok = ReadDim(input, extent);
        input.PopLimit(limit);
        return ok;
      }
      default:
        return SkipValue(tag, input);
    }
  });
}

// The tensors that a reply may have, in the order of their payloads.
constexpr uint32_t kTensorTags[] = {
    TagOf(v1::AttendResponse::kOutputFieldNumber, WireType::kLengthDelimited),
    TagOf(v1::AttendResponse::kWeightsFieldNumber, WireType::kLengthDelimited),
    TagOf(v1::AttendResponse::kWeightsKeysFieldNumber, WireType::kLengthDelimited),
    TagOf(v1::AttendResponse::kReceivedMassFieldNumber, WireType::kLengthDelimited),
};

// What a reply has of tensors and payloads; the ones may come before the others and the other way round.
class Tensors {
 public:
  // Reads the field of `tag` if it is a tensor's or a payload; nothing if it is neither.
  std::optional<bool> ReadField(uint32_t tag, CodedInputStream& input) {
    if (tag == kPayloadTag) {
      const std::optional<int> size_bytes = ReadSize(input);
      if (!size_bytes || num_payloads_ == kMaxTensors) return false;
      payload_bytes_[num_payloads_++] = *size_bytes;
      return input.Skip(*size_bytes);
    }
    if (tag == TagOf(v1::AttendResponse::kOutputsFieldNumber, WireType::kLengthDelimited)) {
      return ReadOutput(input);
    }
    for (size_t i = 0; i < std::size(kTensorTags); ++i) {
      if (tag != kTensorTags[i]) continue;
      if (!extents_[i]) extents_[i].emplace();
      return ReadSpec(input, *extents_[i]);
    }
    return std::nullopt;
  }

  // Whether there is an output, and a payload of its size for each tensor.
  bool Agree() const {
    if (!extents_[0] && num_of_outputs_ == 0) return false;
    size_t next = 0;
    for (const std::optional<Extent>& extent : extents_) {
      if (!extent) continue;
      if (next == num_payloads_ || !extent->Fits(payload_bytes_[next++])) return false;
    }
    for (size_t i = 0; i < num_of_outputs_; ++i) {
      if (next == num_payloads_ || !of_outputs_[i].Fits(payload_bytes_[next++])) return false;
    }
    return next == num_payloads_;
  }

 private:
  // Tensors of outputs: values, indices and scale of each of as many kinds as there are.
  static constexpr size_t kMaxOfOutputs = 3 * size_t{v1::OutputKind_MAX};
  static constexpr size_t kMaxTensors = std::size(kTensorTags) + kMaxOfOutputs;

  // An OutputTensor; its tensors are taken in the order in which they come, which is that of their payloads.
  bool ReadOutput(CodedInputStream& input) {
    using v1::OutputTensor;
    return ReadMessage(input, [&](uint32_t tag) {
      switch (tag) {
        case TagOf(OutputTensor::kValuesFieldNumber, WireType::kLengthDelimited):
        case TagOf(OutputTensor::kIndicesFieldNumber, WireType::kLengthDelimited):
        case TagOf(OutputTensor::kScaleFieldNumber, WireType::kLengthDelimited):
          return num_of_outputs_ < kMaxOfOutputs && ReadSpec(input, of_outputs_[num_of_outputs_++]);
        default:
          return SkipValue(tag, input);
      }
    });
  }

  std::optional<Extent> extents_[std::size(kTensorTags)];
  Extent of_outputs_[kMaxOfOutputs];
  size_t num_of_outputs_ = 0;
  int64_t payload_bytes_[kMaxTensors] = {};
  size_t num_payloads_ = 0;
};

}  // namespace

std::optional<ReplyFacts> ScanReply(grpc::ByteBuffer& reply) {
  ReplyFacts facts{.bytes = static_cast<int64_t>(reply.Length())};
  if (facts.bytes > std::numeric_limits<int>::max()) return std::nullopt;
  grpc::ProtoBufferReader reader(&reply);
  if (!reader.status().ok()) return std::nullopt;
  CodedInputStream input(&reader);
  input.PushLimit(static_cast<int>(facts.bytes));
  Tensors tensors;
  while (uint32_t tag = input.ReadTag()) {
    std::optional<bool> read = tensors.ReadField(tag, input);
    if (!read) {
      const bool is_budget =
          tag == TagOf(v1::AttendResponse::kTimeBudgetFieldNumber, WireType::kLengthDelimited);
      read = is_budget ? ReadBudget(input, facts) : SkipValue(tag, input);
    }
    if (!*read) return std::nullopt;
  }
  if (!input.ConsumedEntireMessage() || !tensors.Agree()) return std::nullopt;
  return facts;
}

}  // namespace headlight::client
