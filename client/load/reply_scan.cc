// SPDX-License-Identifier: Apache-2.0
#include "client/load/reply_scan.h"

#include <google/protobuf/io/coded_stream.h>
#include <grpcpp/support/proto_buffer_reader.h>

#include <limits>

#include "headlight/v1/attention.pb.h"

namespace headlight::client {
namespace {

using google::protobuf::io::CodedInputStream;

// The low three bits of a protobuf tag say how its value is written.
constexpr uint32_t TagOf(int field, uint32_t wire_type) {
  return static_cast<uint32_t>(field) << 3 | wire_type;
}
constexpr uint32_t kVarintType = 0, kFixed64Type = 1, kBytesType = 2, kFixed32Type = 5;

bool SkipValue(uint32_t tag, CodedInputStream& input) {
  uint64_t number = 0;
  uint32_t size_bytes = 0;
  switch (tag & 7) {
    case kVarintType:
      return input.ReadVarint64(&number);
    case kFixed64Type:
      return input.Skip(8);
    case kFixed32Type:
      return input.Skip(4);
    case kBytesType:
      return input.ReadVarint32(&size_bytes) &&
             size_bytes <= static_cast<uint32_t>(input.BytesUntilLimit()) &&
             input.Skip(static_cast<int>(size_bytes));
    default:  // the group types, which proto3 does not have
      return false;
  }
}

bool ReadNumber(CodedInputStream& input, int64_t& value) {
  uint64_t number = 0;
  if (!input.ReadVarint64(&number)) return false;
  value = static_cast<int64_t>(number);
  return true;
}

bool ReadBudget(CodedInputStream& input, ReplyFacts& facts) {
  using v1::TimeBudget;
  uint32_t size_bytes = 0;
  if (!input.ReadVarint32(&size_bytes) || size_bytes > static_cast<uint32_t>(input.BytesUntilLimit())) {
    return false;
  }
  const CodedInputStream::Limit limit = input.PushLimit(static_cast<int>(size_bytes));
  bool ok = true;
  while (uint32_t tag = ok ? input.ReadTag() : 0) {
    switch (tag) {
      case TagOf(TimeBudget::kQueueUsFieldNumber, kVarintType):
        ok = ReadNumber(input, facts.queue_us);
        break;
      case TagOf(TimeBudget::kComputeUsFieldNumber, kVarintType):
        ok = ReadNumber(input, facts.compute_us);
        break;
      case TagOf(TimeBudget::kTotalUsFieldNumber, kVarintType):
        ok = ReadNumber(input, facts.total_us);
        break;
      case TagOf(TimeBudget::kBatchRequestsFieldNumber, kVarintType):
        ok = ReadNumber(input, facts.batch_requests);
        break;
      default:
        ok = SkipValue(tag, input);
    }
  }
  ok = ok && input.ConsumedEntireMessage();
  input.PopLimit(limit);
  return ok;
}

}  // namespace

std::optional<ReplyFacts> ScanReply(grpc::ByteBuffer& reply) {
  ReplyFacts facts{.bytes = static_cast<int64_t>(reply.Length())};
  if (facts.bytes > std::numeric_limits<int>::max()) return std::nullopt;
  grpc::ProtoBufferReader reader(&reply);
  if (!reader.status().ok()) return std::nullopt;
  CodedInputStream input(&reader);
  input.PushLimit(static_cast<int>(facts.bytes));
  bool has_output = false, has_payload = false;
  while (uint32_t tag = input.ReadTag()) {
    has_output |= tag == TagOf(v1::AttendResponse::kOutputFieldNumber, kBytesType);
    has_payload |= tag == TagOf(v1::AttendResponse::kPayloadsFieldNumber, kBytesType);
    const bool is_budget = tag == TagOf(v1::AttendResponse::kTimeBudgetFieldNumber, kBytesType);
    if (is_budget ? !ReadBudget(input, facts) : !SkipValue(tag, input)) return std::nullopt;
  }
  if (!input.ConsumedEntireMessage() || !has_output || !has_payload) return std::nullopt;
  return facts;
}

}  // namespace headlight::client
